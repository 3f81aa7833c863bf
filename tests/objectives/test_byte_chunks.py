"""Chunks of bytes: the chain rule on both sides, whatever the tokens."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor, nn

from preceptor.data.two_tokenisers import TwoTokenisers
from preceptor.errors import NeedsError
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.byte_chunks import ByteChunks
from preceptor.objectives.ce import CE
from preceptor.objectives.uld import ULD
from preceptor.teachers.live import Live
from preceptor.teachers.nobody import Nobody
from preceptor.train.fit import fit
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.types import Batch, Dense, Head, Outputs, Projected, Signal
from tests.data.fixed_source import Fixed
from tests.data.test_two_tokenisers import rendered
from tests.data.trained_tokenizers import TEXTS, bpe, characters
from tests.objectives.random_logits import pair, terms_of

ROWS = [(text[:9], text[9:]) for text in TEXTS[:5]]


def model(tokenizer: Any, seed: int, width: int = 24, dtype: str = "float64") -> TappedModel:
    torch.manual_seed(seed)
    made = load_model(
        {
            "causal": {
                "model_type": "llama",
                "vocab_size": len(tokenizer) + 5,
                "hidden_size": width,
                "intermediate_size": 2 * width,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
            }
        }
    )
    return TappedModel(
        made.module.to(getattr(torch, dtype)), causal=True, vocabulary=len(tokenizer)
    )


def joined(student: Any, teacher: Any, **options: Any) -> Batch:
    both = TwoTokenisers.of(student, teacher, **options)
    return both.join(rendered(student, ROWS), rendered(teacher, ROWS, before="Do say: "))


def by_hand(own: TappedModel, inputs: Any, labels: Tensor, chunk: Tensor) -> dict[Any, float]:
    """Each chunk's log-likelihood, token by token, from the model's own logits."""
    with torch.no_grad():
        logits = own.module(**inputs).logits[..., : own.vocabulary]
    logs = torch.log_softmax(logits, dim=-1)
    sums: dict[Any, float] = {}
    for row, place in (chunk >= 0).nonzero().tolist():
        key = row, int(chunk[row, place])
        sums[key] = sums.get(key, 0.0) + float(logs[row, place, labels[row, place]])
    return sums


def test_a_chunk_is_worth_the_sum_of_its_tokens_on_each_side_at_the_right_slots() -> None:
    # TRL's GOLD reads its scalars one slot late.
    student, teacher = model(characters(), 0), model(bpe(), 1)
    batch = joined(characters(), bpe())
    signal = Live(teacher).signal(batch)
    outputs = student(batch.inputs)
    found = ByteChunks(temperature=3.0).terms(outputs, signal, batch, nn.Module())["byte_chunks"]
    extra = batch.extra
    q = by_hand(student, batch.inputs, batch.labels, extra["chunk"])
    p = by_hand(teacher, batch.teacher_inputs, extra["teacher_labels"], extra["teacher_chunk"])
    assert p.keys() == q.keys()
    assert len(p) == int(batch.masks["aligned"].sum())
    for (row, place), log_p in p.items():
        assert signal.chunk_log_p[row, place].item() == pytest.approx(log_p, rel=1e-9)
        own, other = (np.exp(x / 3) for x in (log_p, q[row, place]))
        expected = entropy([own, 1 - own], [other, 1 - other])
        assert found.values[row, place].item() == pytest.approx(expected, rel=1e-6)
    assert found.over == "aligned"


def test_the_tokens_of_a_labels_own_slot_predict_it() -> None:
    # The teacher's positions of a chunk end one before its last token: that token is predicted.
    batch = joined(characters(), bpe())
    tokens, extra = batch.teacher_inputs, batch.extra
    assert isinstance(tokens, dict)
    row, place = (extra["teacher_chunk"] >= 0).nonzero()[-1].tolist()
    assert extra["teacher_labels"][row, place] == tokens["input_ids"][row, place + 1]


@pytest.mark.parametrize("tokenizer", [bpe, characters])
def test_identical_tokenisers_give_the_chain_rule_of_plain_log_probabilities(
    tokenizer: Any,
) -> None:
    student, teacher = model(tokenizer(), 0), model(tokenizer(), 1)
    both = TwoTokenisers.of(tokenizer(), tokenizer())
    plain = rendered(tokenizer(), ROWS)
    batch = both.join(plain, rendered(tokenizer(), ROWS))
    assert torch.equal(batch.masks["aligned"], plain.mask("all"))
    outputs, method = student(batch.inputs), ByteChunks()
    chunked = method.terms(outputs, Live(teacher).signal(batch), batch, nn.Module())
    single = method.terms(outputs, Live(teacher).signal(plain), plain, nn.Module())
    torch.testing.assert_close(
        chunked["byte_chunks"].values, single["byte_chunks"].values, rtol=1e-12, atol=0
    )


def test_a_projection_equals_dense_logits_in_value_and_gradient() -> None:
    student, teacher = model(characters(), 0), model(bpe(), 1)
    batch = joined(characters(), bpe())
    signal, outputs = Live(teacher).signal(batch), student(batch.inputs)
    shown = outputs.projection
    dense = Outputs(shown.head.logits(shown.hidden))
    parameters = list(student.parameters())
    losses = [
        ByteChunks().terms(seen, signal, batch, nn.Module())["byte_chunks"].values.sum()
        for seen in (outputs, dense)
    ]
    torch.testing.assert_close(*losses)
    grads = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    for own, other in zip(*grads, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-12)


def test_a_student_as_sure_of_every_chunk_as_its_teacher_has_nothing_to_learn() -> None:
    student = model(characters(), 0)
    batch = joined(characters(), bpe())
    outputs = student(batch.inputs)
    sums = by_hand(student, batch.inputs, batch.labels, batch.extra["chunk"])
    log_p = torch.zeros(batch.labels.shape, dtype=torch.float64)
    for (row, place), value in sums.items():
        log_p[row, place] = value
    term = ByteChunks().terms(outputs, Signal(chunk_log_p=log_p), batch, nn.Module())["byte_chunks"]
    torch.testing.assert_close(term.values, torch.zeros_like(term.values), rtol=0, atol=1e-12)
    grads = torch.autograd.grad(term.values.sum(), list(student.parameters()))
    assert max(grad.abs().max().item() for grad in grads) < 1e-10


def test_in_data_of_one_tokeniser_any_distribution_serves() -> None:
    t, s = pair(6, 7)
    labels = torch.tensor([0, 1, 2, 3, 4, -1])
    values = terms_of(ByteChunks(), t, s, labels)["byte_chunks"].values
    held = Projected(t, _identity(7))
    other = terms_of(ByteChunks(), held, s, labels)["byte_chunks"].values
    torch.testing.assert_close(values, other)
    assert values[5] == 0


def _identity(size: int) -> Any:
    return Head(torch.eye(size, dtype=torch.float64))


def test_a_teacher_that_gives_no_chunks_is_refused_in_words() -> None:
    batch = joined(characters(), bpe())
    outputs = model(characters(), 0)(batch.inputs)
    signal = Signal(Dense(torch.zeros(*batch.labels.shape, len(bpe()), dtype=torch.float64)))
    with pytest.raises(NeedsError, match="the probability of chunks"):
        ByteChunks().terms(outputs, signal, batch, nn.Module())


def trained(start: TappedModel, teacher: Any, objective: Any, batch: Batch, steps: int) -> Any:
    plan = Plan(steps=steps, batch=len(batch), optimizer=OptimizerPlan(name="adamw", lr=0.01))
    source = Fixed(start.vocabulary, batch)
    return [losses.terms for losses in fit(start, teacher, objective, source, plan)]


@pytest.fixture(scope="module")
def teacher() -> TappedModel:
    """A BPE model that knows the texts."""
    start = model(bpe(), 1, width=32, dtype="float32")
    losses = trained(start, Nobody(), CE(), rendered(bpe(), ROWS, before="Do say: "), 60)
    assert losses[-1]["ce"] < 0.2 * losses[0]["ce"]
    return start


def test_a_student_of_characters_learns_from_a_teacher_of_merged_pieces(
    teacher: TappedModel,
) -> None:
    student = model(characters(), 0, width=32, dtype="float32")
    batch = joined(characters(), bpe())
    losses = trained(student, Live(teacher), ByteChunks(), batch, 60)
    assert losses[-1]["byte_chunks"] < 0.2 * losses[0]["byte_chunks"]
    q = by_hand(student, batch.inputs, batch.labels, batch.extra["chunk"])
    fresh = model(characters(), 0, width=32, dtype="float32")
    before = by_hand(fresh, batch.inputs, batch.labels, batch.extra["chunk"])
    # No label was ever scored: what it knows of the texts it has of its teacher.
    assert sum(q.values()) > 0.5 * sum(before.values())


def test_both_methods_and_labels_train_together_in_micro_batches(teacher: TappedModel) -> None:
    batch = joined(characters(), bpe())
    objective = 0.5 * CE() + 1.0 * ByteChunks() + 0.5 * ULD()
    each: list[Any] = []
    for parts in (1, 3):
        student = model(characters(), 0, width=32, dtype="float32")
        plan = Plan(steps=4, batch=5, accumulate=parts)
        source = Fixed(student.vocabulary, batch)
        each.append([s.terms for s in fit(student, Live(teacher), objective, source, plan)])
    for whole, split in zip(*each, strict=True):
        assert whole == pytest.approx(split, rel=2e-3)
        assert set(whole) == {"ce", "byte_chunks", "uld"}


def test_chunks_with_certain_boundaries_train_too(teacher: TappedModel) -> None:
    student = model(characters(), 0, width=32, dtype="float32")
    batch = joined(characters(), bpe(), boundaries="certain")
    losses = trained(student, Live(teacher), ByteChunks(), batch, 8)
    assert losses[-1]["byte_chunks"] < losses[0]["byte_chunks"]
