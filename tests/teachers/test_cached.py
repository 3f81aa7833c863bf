from pathlib import Path

import pytest
import torch

from preceptor.errors import NeedsError
from preceptor.teachers.cached import Cached
from preceptor.teachers.live import Live
from preceptor.teachers.store import Store
from preceptor.teachers.weights import fingerprint
from preceptor.teachers.writing import write_store
from preceptor.types import Batch
from tests.teachers.small import CLASSES, batch_of, cnn, images

COUNT, VIEWS = 24, 3


def cached(folder: Path) -> Cached:
    """The live teacher's answers to every image, as it is, mirrored and darkened."""
    teacher = Live(cnn())
    batches = [
        batch_of(list(range(start, start + 8)), view)
        for start in range(0, COUNT, 8)
        for view in range(VIEWS)
    ]
    write_store(
        folder,
        teacher,
        batches,
        teacher_hash=fingerprint(teacher.model),
        data_hash="toy",
        views=VIEWS,
        shard_rows=16,
    )
    return Cached(Store.open(folder))


def mixed(ids: list[int], views: list[int]) -> Batch:
    """A batch whose examples stand in views of their own."""
    pixels = torch.cat([images([i], v) for i, v in zip(ids, views, strict=True)])
    return Batch(pixels, ids=torch.tensor(ids), view=torch.tensor(views))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_equals_the_live_teacher_under_shuffle_and_augmentation(
    tmp_path: Path, temperature: float
) -> None:
    live, generator = Live(cnn()), torch.Generator().manual_seed(0)
    for teacher in (cached(tmp_path), Cached(Store.open(tmp_path, in_memory=0))):
        for _ in range(3):
            order = torch.randperm(COUNT, generator=generator).tolist()
            views = torch.randint(0, VIEWS, (COUNT,), generator=generator).tolist()
            batch = mixed(order, views)
            found = teacher.signal(batch).whole.log_probs(temperature)
            expected = live.signal(batch).whole.log_probs(temperature)
            assert torch.allclose(found, expected, atol=1e-6)


def test_a_mirrored_image_is_not_answered_with_the_plain_one(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    plain, dark = teacher.signal(batch_of([5])).logits, teacher.signal(batch_of([5], view=2)).logits
    assert not torch.allclose(plain, dark)


def test_a_batch_without_view_is_the_plain_one(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    plain = teacher.signal(Batch(images([5]), ids=torch.tensor([5]))).logits
    assert torch.equal(plain, teacher.signal(batch_of([5], view=0)).logits)


def test_a_batch_without_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="id"):
        cached(tmp_path).signal(Batch(images([5])))


def test_it_shows_neither_features_nor_a_classifier(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    assert teacher.offers().kinds == {"logits", "probabilities"}
    signal = teacher.signal(batch_of([5]))
    with pytest.raises(NeedsError, match="no taps"):
        signal.tap("norm")
    with pytest.raises(NeedsError, match="classifier"):
        _ = signal.head
    assert signal.logits.shape == (1, CLASSES)


def test_the_fingerprint_on_disk_is_the_teacher_s(tmp_path: Path) -> None:
    cached(tmp_path).store.expect(teacher=fingerprint(cnn()), data="toy")
