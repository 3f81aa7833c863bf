"""MiniLLM's sets of rollouts: what each token carries, passes, pre-training rows, resume."""

import json

import numpy as np
import pytest
import torch

from preceptor.data.chat import Rendering
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.errors import DataError, RecipeError
from preceptor.synthesis.policy import PolicyRollouts
from preceptor.synthesis.returns import Returns
from preceptor.synthesis.writers import Mixed
from preceptor.types import Batch
from tests.data.tokens import CHATML, characters, document
from tests.synthesis.small import Scripted, ends, local, model, source, texts
from tests.synthesis.test_rollouts import ids, same

PLAIN = Returns(discount=1, scale=1, own=True, normalise=False, whiten=False)


def writer(max_new: int = 6) -> Mixed:
    return Mixed(model(1), model(2), ends(), teacher_share=0.2, max_new=max_new)


def documents() -> TextSource:
    rows = [document(f"the number {i} is a number", i) for i in range(5)]
    return TextSource(TextSet(rows, Rendering(characters(None), 48)), batch=2)


def exact(batch: Batch, seed: int) -> torch.Tensor:
    assert isinstance(batch.inputs, dict)
    with torch.no_grad():
        logits = model(seed).module(**batch.inputs).logits.float()
    labels = batch.labels.clamp_min(0)[..., None]
    return torch.log_softmax(logits, -1).gather(-1, labels).squeeze(-1)


def test_every_token_carries_both_models_numbers_and_its_own_importance() -> None:
    batch = PolicyRollouts(source(), writer(), returns=PLAIN).take()
    mask = batch.mask("student_written")
    log_q, log_p = exact(batch, 1), exact(batch, 2)
    torch.testing.assert_close(batch.extra["sampled_log_q"][mask], log_q[mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.extra["sampled_log_p"][mask], log_p[mask], atol=1e-4, rtol=0)
    weight = log_q.exp() / (0.2 * log_p.exp() + 0.8 * log_q.exp())
    torch.testing.assert_close(batch.extra["importance"][mask], weight[mask], atol=1e-3, rtol=1e-3)
    rewards = torch.where(mask, log_p - log_q, 0.0)
    returns = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(batch.extra["advantage"][mask], returns[mask], atol=1e-3, rtol=1e-3)
    for name in ("sampled_log_q", "sampled_log_p", "importance", "advantage"):
        assert (batch.extra[name][~mask] == 0).all()
        assert not batch.extra[name].requires_grad


def test_a_set_is_learned_from_in_passes_each_row_once_a_pass() -> None:
    stream = PolicyRollouts(source(), writer(3), batches=2, passes=3)
    batches = [stream.take() for _ in range(7)]
    rows = [sorted(map(tuple, batch.labels.tolist())) for batch in batches]
    passes = [sorted(rows[i] + rows[i + 1]) for i in (0, 2, 4)]
    assert passes[0] == passes[1] == passes[2]
    assert len({tuple(rows[i]) for i in (0, 2, 4)}) > 1
    assert not set(rows[6]) & set(passes[0])
    assert stream.steps_per_epoch == source().steps_per_epoch * 3


def test_pre_training_rows_stand_beside_under_a_mask_of_their_own() -> None:
    alone = PolicyRollouts(source(), writer()).take()
    batch = PolicyRollouts(source(), writer(), pretraining=documents()).take()
    data = documents().take()
    assert len(batch) == 6
    assert batch.mask("data_written")[4:].any(1).all()
    assert not batch.mask("data_written")[:4].any()
    assert not batch.mask("student_written")[4:].any()
    written = batch.mask("student_written")
    assert batch.labels[written].tolist() == alone.labels[alone.mask("all")].tolist()
    kept = batch.mask("data_written")
    assert batch.labels[kept].tolist() == data.labels[data.mask("all")].tolist()
    assert batch.ids[4:].tolist() == (data.ids + len(texts())).tolist()
    assert (batch.extra["row"][kept] >= len(texts())).all()
    assert (batch.extra["advantage"][kept] == 0).all()
    assert isinstance(batch.inputs, dict)
    assert torch.equal(batch.inputs["attention_mask"].sum(1)[4:], _lengths(data))
    assert not alone.mask("data_written").any()


def _lengths(batch: Batch) -> torch.Tensor:
    assert isinstance(batch.inputs, dict)
    return batch.inputs["attention_mask"].sum(1)


def test_a_packed_batch_cannot_stand_beside_rollouts() -> None:
    packed = TextSource(documents().texts, batch=2, pack=64)
    with pytest.raises(DataError, match="a packed batch"):
        PolicyRollouts(source(), writer(), pretraining=packed).take()


def test_a_resume_in_the_middle_of_a_set_goes_on_with_the_same_rows_and_numbers() -> None:
    def made() -> PolicyRollouts:
        return PolicyRollouts(source(), writer(), batches=2, passes=2, pretraining=documents())

    whole, begun, resumed = made(), made(), made()
    batches = [whole.take() for _ in range(7)]
    for _ in range(3):
        begun.take()
    resumed.load_state(json.loads(json.dumps(begun.state())))
    for batch in batches[3:]:
        again = resumed.take()
        assert same(batch, again)
        for name, numbers in batch.extra.items():
            assert torch.equal(numbers, again.extra[name])


def test_all_batches_and_samples_have_the_same_masks() -> None:
    stream = PolicyRollouts(source(), writer())
    names = ["data_written", "student_written", "teacher_written"]
    assert sorted(stream.take().masks) == sorted(stream.sample().masks) == names
    assert ids(stream.sample()).shape[0] == 2


def test_whitening_is_over_the_whole_set() -> None:
    stream = PolicyRollouts(source(), writer(), batches=2)
    first, second = stream.take(), stream.take()
    flat = np.concatenate(
        [b.extra["advantage"][b.mask("student_written")].numpy() for b in (first, second)]
    )
    assert flat.mean() == pytest.approx(0, abs=1e-5)
    assert flat.std() == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="without the log-probabilities of both"):
        PolicyRollouts(source(), local(record=True)).take()
    with pytest.raises(DataError, match="without the log-probabilities of both"):
        PolicyRollouts(source(), Scripted([5])).take()
    with pytest.raises(RecipeError, match="passes=0"):
        PolicyRollouts(source(), writer(), passes=0)
    other = TextSource(texts(Rendering(characters(CHATML), 64)), batch=4)
    with pytest.raises(DataError, match="other prompts"):
        PolicyRollouts(other, writer())
