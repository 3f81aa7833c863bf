"""Features of a set of texts or images, whatever batches they were taken in."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from preceptor.batches import Batch
from preceptor.data.images import image_set
from preceptor.data.text import TextSet
from preceptor.errors import DataError, NeedsError
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.models.zoo import create
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.extraction import (
    batch_features,
    image_features,
    probed,
    student_fingerprint,
    text_features,
)
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.head import HeadSketcher
from preceptor.selection.ledger import Sketching
from preceptor.selection.rows import bucketed
from preceptor.selection.texts import repetition, text_hash
from tests.data.tokens import ask
from tests.models.architectures import configuration
from tests.selection.synthetic_teachers import rendering

ROWS = [
    ask("1+1=", "2"),
    ask("what comes next? ", "a b a b a b a b a b", number=1),
    ask("1+1=", "22", number=2),
    ask("2+2=", "4", number=3),
    ask("1+2=", "2", number=4),
]
PROMPTS = np.array([7, 8, 7, 9, 5])


def student(seed: int = 0) -> TappedModel:
    torch.manual_seed(seed)
    config = {**configuration("llama"), "vocab_size": rendering().vocabulary}
    return load_model({"causal": config}).eval()


def texts(rows: list[object] | None = None) -> TextSet:
    return TextSet(ROWS if rows is None else rows, rendering())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["exact", "factored", "head"])
def test_rows_come_in_the_order_of_the_texts_whatever_the_batches(kind: str) -> None:
    model = student()
    made = {
        "exact": lambda: ExactSketcher(model, dimension=16),
        "factored": lambda: FactoredSketcher(model, Sketching(dimension=16)),
        "head": lambda: HeadSketcher(model, Sketching(dimension=16)),
    }
    sketcher = made[kind]()
    probe = probed(model, sketcher, "prompts")
    together = text_features(sketcher, texts(), PROMPTS, probe)
    apart = text_features(sketcher, texts(), PROMPTS, probe, tokens=1)
    assert np.allclose(together.sketches, apart.sketches, atol=1e-5)
    assert np.allclose(together.losses, apart.losses, atol=1e-5)
    assert np.array_equal(together.rank_sums, apart.rank_sums)
    assert together.prompts.tolist() == PROMPTS.tolist()
    assert together.lengths.tolist() == [2, 20, 3, 2, 2]
    some = text_features(sketcher, texts(), PROMPTS, probe, indices=[4, 1])
    assert np.allclose(some.sketches, together.sketches[[4, 1]], atol=1e-5)
    assert some.prompts.tolist() == [5, 8]
    assert (probe.kind, probe.dimension, probe.seed) == (kind, 16, 0)


def test_equal_responses_are_told_and_repetitions_measured() -> None:
    model = student()
    sketcher = HeadSketcher(model, Sketching(dimension=16))
    found = text_features(sketcher, texts(), PROMPTS, probed(model, sketcher, ""))
    assert found.texts[0] == found.texts[4] != found.texts[2]
    own = [each.tolist() for each in texts().responses(range(5))]
    assert found.texts.tolist() == [text_hash(each) for each in own]
    assert found.repetitions[1] == pytest.approx(repetition(own[1]))
    assert found.repetitions[1] > 0.5


def test_a_response_of_nothing_is_refused_by_its_place() -> None:
    silent = texts()
    silent.__dict__["scored"] = np.array([1, 1, 0, 1, 1])
    model = student()
    sketcher = HeadSketcher(model, Sketching(dimension=16))
    with pytest.raises(DataError, match=r"ask\.jsonl:3"):
        text_features(sketcher, silent, PROMPTS, probed(model, sketcher, ""))


def test_images_are_named_by_their_ids() -> None:
    torch.manual_seed(0)
    model = TappedModel(create("cnn-small", 4, 1, 8), head="head").eval()
    pixels = torch.randint(256, (10, 1, 8, 8), dtype=torch.uint8)
    images = image_set(pixels, torch.arange(10) % 4, ("a", "b", "c", "d"))
    soft = torch.rand(10, 4).softmax(dim=1)
    places = {int(name): i for i, name in enumerate(images.ids)}
    sketcher = FactoredSketcher(
        model,
        Sketching(dimension=16),
        soft=lambda batch: soft[[places[int(name)] for name in batch.ids]],
    )
    probe = probed(model, sketcher, images.fingerprint())
    whole = image_features(sketcher, images, probe, batch=4)
    assert whole.prompts.tolist() == images.ids.tolist()
    assert whole.lengths.tolist() == [1] * 10
    some = image_features(sketcher, images, probe, rows=[7, 2])
    assert np.allclose(some.sketches, whole.sketches[[7, 2]], atol=1e-5)


def test_an_encoder_is_asked_with_a_teachers_probabilities_batch_by_batch() -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("bert", vocab_size=30, intermediate_size=24, num_labels=3, **size)
    model = TappedModel(AutoModelForSequenceClassification.from_config(config)).double().eval()
    ids, answers = torch.randint(1, 30, (9, 5)), torch.rand(9, 3).double().softmax(dim=1)
    sketcher = FactoredSketcher(
        model, Sketching(dimension=8), soft=lambda batch: answers[batch.ids - 100]
    )
    probe = probed(model, sketcher, "texts")

    def batches(size: int) -> Iterator[Batch]:
        for part in torch.arange(9).split(size):
            words = {"input_ids": ids[part], "attention_mask": torch.ones_like(ids[part])}
            yield Batch(words, ids=100 + part)

    whole, alone = (batch_features(sketcher, batches(size), probe) for size in (4, 1))
    assert whole.prompts.tolist() == list(range(100, 109))
    assert whole.lengths.tolist() == [1] * 9
    assert np.allclose(whole.sketches, alone.sketches, rtol=1e-6)
    with torch.no_grad():
        logits = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits
        losses = torch.nn.functional.cross_entropy(logits, answers, reduction="none")
    assert np.allclose(whole.losses, losses, rtol=1e-6)
    with pytest.raises(NeedsError, match="ids"):
        batch_features(sketcher, [Batch({"input_ids": ids})], probe)


def test_a_fingerprint_is_of_the_weights_and_of_which_are_learned() -> None:
    first = student_fingerprint(student())
    assert first == student_fingerprint(student())
    assert first != student_fingerprint(student(1))
    moved = student()
    with torch.no_grad():
        next(iter(moved.parameters())).view(-1)[0] += 1e-3
    assert first != student_fingerprint(moved)


def test_details_tell_sketches_apart_that_cannot_be_compared() -> None:
    model = student()
    details = [
        FactoredSketcher(model).details,
        FactoredSketcher(model, Sketching(side=128)).details,
        FactoredSketcher(model, Sketching(vocabulary=64)).details,
        FactoredSketcher(model, Sketching(seed=1)).details,
        FactoredSketcher(model, bfloat16=True).details,
        HeadSketcher(model).details,
        ExactSketcher(model).details,
        ExactSketcher(model, projection="counts").details,
    ]
    assert all(a != b for i, a in enumerate(details) for b in details[:i])


def test_batches_keep_to_their_tokens_and_little_is_padding() -> None:
    # Responses to GSM8K have about 210 tokens, with their prompts.
    lengths = np.random.default_rng(0).normal(210, 65, size=64).clip(24, 512).astype(int).tolist()
    found = bucketed(lengths, 8192)
    assert sorted(index for part in found for index in part) == list(range(64))
    padded = [len(part) * max(lengths[i] for i in part) for part in found]
    assert max(padded) <= 8192
    assert sum(padded) < 1.1 * sum(lengths)
    assert len(found) <= 7
    assert bucketed([300, 2], 100) == [[0], [1]]
    assert bucketed([], 100) == []


def test_batches_are_cut_where_padding_and_batches_cost_least() -> None:
    draw = np.random.default_rng(1)
    for _ in range(20):
        lengths, tokens = sorted(draw.integers(1, 900, size=7).tolist())[::-1], 2000
        costs: list[int] = []
        for cuts in product((False, True), repeat=6):
            parts = [[lengths[0]]]
            for length, is_cut in zip(lengths[1:], cuts, strict=True):
                parts.append([length]) if is_cut else parts[-1].append(length)
            if all(len(part) * part[0] <= tokens for part in parts):
                costs.append(sum(len(part) * part[0] + 256 for part in parts))
        found = bucketed(lengths, tokens)
        assert sum(len(part) * lengths[part[0]] + 256 for part in found) == min(costs)
