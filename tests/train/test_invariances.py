"""One pair, one loss, however it is computed: each path ends with the weights of the plain one.

Reference: dense logits, whole batches, one row a sequence. In double precision, so that only
rounding is forgiven. Two processes: `test_language_ranks.py`.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from preceptor.data.packing import packed
from preceptor.data.source import Source
from preceptor.models.tapped import TappedModel
from preceptor.objectives.adaptive_kl import AdaptiveKL
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.gkd import GKD
from preceptor.objectives.kd import KD
from preceptor.objectives.reverse_kl import ReverseKL
from preceptor.objectives.skew_kl import SkewKL
from preceptor.objectives.skew_reverse_kl import SkewReverseKL
from preceptor.objectives.taid import TAID
from preceptor.objectives.total_variation import TotalVariation
from preceptor.ops.projection import projected
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.tokens.cached import CachedTokens, spread
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import DenseCodec
from preceptor.teachers.tokens.manifest import Identity
from preceptor.teachers.tokens.selection import largest
from preceptor.teachers.tokens.store import TokenStore
from preceptor.train import scoring
from preceptor.train.fit import run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training
from preceptor.types import Batch, Dense, Needs, Signal, map_tensors

V, LONGEST, ROWS, STEPS = 23, 11, 8, 2
OBJECTIVES: dict[str, Objective[Any]] = {
    "ce": CE(),
    "kd": KD(temperature=2.0),
    "reverse_kl": ReverseKL(),
    "gkd": GKD(beta=0.3),
    "skew_kl": SkewKL(),
    "skew_reverse_kl": SkewReverseKL(),
    "total_variation": TotalVariation(),
    "adaptive_kl": AdaptiveKL(),
    "taid": TAID(),
    "ce and kd": 0.3 * CE() + 0.7 * KD(temperature=2.0),
}
EVERY = pytest.mark.parametrize("name", OBJECTIVES)
Change = Callable[[Batch, int], Batch]


def rows(step: int) -> Batch:
    """Rows of 4 to 11 tokens, no two steps alike; one row, and with it a micro-batch, scores
    nothing."""
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(V, (ROWS, LONGEST), generator=draw)
    lengths = torch.randint(4, LONGEST + 1, (ROWS, 1), generator=draw)
    place = torch.arange(LONGEST)
    scored = (place + 1 < lengths) & (place >= 2)
    scored[-1] = False
    labels = torch.full_like(ids, -1)
    labels[:, :-1] = ids[:, 1:]
    number = torch.arange(ROWS).unsqueeze(1) + ROWS * step
    extra = {
        "row": number.expand_as(ids).where(scored, -1),
        "offset": (place - 2).expand_as(ids).where(scored, -1),
    }
    return Batch(
        {"input_ids": ids.where(place < lengths, 0), "attention_mask": (place < lengths).long()},
        labels=labels.masked_fill(~scored, -1),
        mask=scored,
        ids=number.squeeze(1),
        extra=extra,
    )


@final
class Changed(Source):
    """The same rows, each batch changed in a way that is to change no number."""

    num_classes = V
    num_examples = ROWS * (STEPS + 1)

    def __init__(self, change: Change) -> None:
        self.change, self.step = change, 0

    @property
    def labels(self) -> Tensor:
        return torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        return STEPS

    def sample(self, count: int = 2) -> Batch:
        return rows(0).rows(0, count)

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        del rank, world
        self.step += 1
        return self.change(rows(self.step), self.step)

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def same(batch: Batch, step: int) -> Batch:
    del step
    return batch


def model(seed: int, width: int, *, causal: bool = True, padding: int = 0) -> TappedModel:
    """A GPT-2 in double precision, with as many rows of padding in its vocabulary."""
    torch.manual_seed(seed)
    dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    shape: dict[str, Any] = {"n_embd": width, "n_layer": 1, "n_head": 2, "n_positions": 32}
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
    module = AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=V, tie_word_embeddings=False, **shape, **dropout, **ends)
    ).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    if padding:
        module.resize_token_embeddings(V + padding, mean_resizing=False)
    return TappedModel(module, causal=causal, vocabulary=V if padding else 0)


def ended(
    objective: Objective[Any],
    *,
    student: TappedModel | None = None,
    teacher: Teacher | None = None,
    change: Change = same,
    accumulate: int = 1,
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights after a few plain steps."""
    student = student or model(1, 8)
    plan = Plan(
        steps=STEPS,
        batch=ROWS,
        accumulate=accumulate,
        optimizer=OptimizerPlan(name="sgd", lr=0.5, momentum=0.0),
    )
    teacher = teacher or Live(model(2, 12))
    losses = [
        step.total for step in run(Training(student, teacher, objective, Changed(change), plan))
    ]
    return losses, {n: p.detach() for n, p in student.module.named_parameters()}


@cache
def plain(name: str) -> tuple[list[float], dict[str, Tensor]]:
    """With dense logits on both sides."""
    student, teacher = model(1, 8, causal=False), Live(model(2, 12, causal=False))
    losses, weights = ended(OBJECTIVES[name], student=student, teacher=teacher)
    begun = dict(model(1, 8).module.named_parameters())
    assert all(not torch.equal(weights[n], p) for n, p in begun.items() if "wpe" not in n)
    return losses, weights


def assert_as_plain(
    name: str, found: tuple[list[float], Mapping[str, Tensor]], *, within: float = 1e-10
) -> None:
    losses, weights = plain(name)
    assert found[0] == pytest.approx(losses, rel=max(within, 2e-7))  # logged in single precision
    for key, tensor in weights.items():
        other = found[1][key][: len(tensor)]
        torch.testing.assert_close(other, tensor, rtol=within, atol=within, msg=f"{key} moved")


@EVERY
@pytest.mark.parametrize("length", [0, 1, 7])
def test_a_projection_in_slices_of_any_length_is_dense_logits(
    monkeypatch: pytest.MonkeyPatch, name: str, length: int
) -> None:
    lengths: list[int] = []

    def sliced(*arguments: Any, **said: Any) -> Tensor:
        lengths.append(length)
        return projected(*arguments, **{**said, "length": length or said.get("length", 0)})

    monkeypatch.setattr(scoring, "projected", sliced)
    assert_as_plain(name, ended(OBJECTIVES[name]))
    assert lengths


@EVERY
@pytest.mark.parametrize("accumulate", [2, 3, 4, 5])
def test_micro_batches_of_any_number_are_the_whole_batch(name: str, accumulate: int) -> None:
    assert_as_plain(name, ended(OBJECTIVES[name], accumulate=accumulate))


def wider(batch: Batch, step: int) -> Batch:
    """More padding, of ids that mean something."""
    del step

    def pad(tensor: Tensor, fill: int) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, 9), value=fill)

    said, inputs = batch.fields(), batch.inputs
    assert not isinstance(inputs, Tensor)
    there = pad(inputs["attention_mask"], 0)
    ids = pad(inputs["input_ids"], 0)
    said |= {
        "inputs": {"input_ids": ids.where(there > 0, 7), "attention_mask": there},
        "labels": pad(batch.labels, -1),
        "mask": pad(batch.mask("all"), False),
        "extra": {key: pad(tensor, -1) for key, tensor in batch.extra.items()},
    }
    return Batch(**said)


def together(batch: Batch, step: int) -> Batch:
    """Several rows a sequence."""
    del step
    return packed(batch, [[3, 0], [7], [1, 2, 6], [5, 4]])


def shuffled(batch: Batch, step: int) -> Batch:
    """The same rows in another order."""
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(step))
    said = batch.fields()
    return Batch(**{n: map_tensors(value, lambda t: t[order]) for n, value in said.items()})


@EVERY
@pytest.mark.parametrize(
    ("change", "accumulate"), [(wider, 1), (together, 1), (together, 3), (shuffled, 3)]
)
def test_padding_packing_and_the_order_of_rows_change_no_number(
    name: str, change: Change, accumulate: int
) -> None:
    found = ended(OBJECTIVES[name], change=change, accumulate=accumulate)
    assert_as_plain(name, found)


@EVERY
def test_rows_of_padded_vocabularies_change_no_number_and_never_move(name: str) -> None:
    student, teacher = model(1, 8, padding=3), Live(model(2, 12, padding=9))
    ends = dict(model(1, 8, padding=3).module.named_parameters())
    found = ended(OBJECTIVES[name], student=student, teacher=teacher)
    assert_as_plain(name, found)
    for key in ("lm_head.weight", "transformer.wte.weight"):
        assert torch.equal(found[1][key][V:], ends[key][V:])


@final
class Largest(Teacher):
    """A live teacher's k largest probabilities."""

    def __init__(self, live: Live, k: int, temperature: float) -> None:
        self.live, self.k, self.temperature = live, k, temperature

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({self.temperature}))

    def signal(self, batch: Batch) -> Signal:
        every = torch.arange(batch.labels.numel())
        found = largest(self.live.signal(batch).whole.at(every), self.k, self.temperature)
        return Signal(spread(found, every, tuple(batch.labels.shape), batch.labels.device))


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n not in ("taid", "ce")])
def test_the_largest_of_all_classes_are_the_live_teacher(name: str) -> None:
    temperature = 2.0 if "kd" in name.split() else 1.0
    teacher = Largest(Live(model(2, 12)), V, temperature)
    assert_as_plain(name, ended(OBJECTIVES[name], teacher=teacher))
    few = ended(OBJECTIVES[name], teacher=Largest(Live(model(2, 12)), 3, temperature))
    assert few[0] != pytest.approx(plain(name)[0], rel=1e-6)  # the test above compares something


@EVERY
@pytest.mark.parametrize("change", [together, shuffled])
def test_a_cache_of_every_logit_is_the_live_teacher(
    tmp_path: Path, name: str, change: Change
) -> None:
    identity = Identity("teacher", "tokenizer", "template", "data", V)
    live, batches = Live(model(2, 12)), (rows(step) for step in range(1, STEPS + 1))
    write_tokens(tmp_path, live, batches, identity=identity, codec=DenseCodec("float32"))
    cached = CachedTokens(TokenStore.open(tmp_path))
    # Kept in single precision.
    assert_as_plain(name, ended(OBJECTIVES[name], teacher=cached, change=change), within=1e-6)


PREFIX = torch.tensor([5, 1, 17, 2])


def privileged(batch: Batch, step: int) -> Batch:
    """The teacher reads more before each row, and its answers stand further on."""
    del step
    inputs = batch.inputs
    assert not isinstance(inputs, Tensor)
    before = PREFIX.expand(len(batch), -1)
    theirs = {
        "input_ids": torch.cat([before, inputs["input_ids"]], dim=1),
        "attention_mask": torch.cat([torch.ones_like(before), inputs["attention_mask"]], dim=1),
    }
    places = torch.arange(LONGEST).expand(len(batch), -1) + len(PREFIX)
    said = {"teacher_inputs": theirs, "teacher_positions": places.where(batch.mask("all"), -1)}
    return Batch(**{**batch.fields(), **said})


@final
class Gathered(Teacher):
    """A model that reads the prefix itself, its logits gathered by hand."""

    def __init__(self, dense: TappedModel) -> None:
        self.dense = dense.eval()

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"logits", "probabilities"}))

    @torch.no_grad()
    def signal(self, batch: Batch) -> Signal:
        assert not isinstance(batch.inputs, Tensor)
        each: list[Tensor] = []
        for ids, there in zip(
            batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True
        ):
            alone = torch.cat([PREFIX, ids[: int(there.sum())]])
            logits = self.dense({"input_ids": alone[None]}).logits[0, len(PREFIX) :]
            each.append(torch.nn.functional.pad(logits, (0, 0, 0, LONGEST - len(logits))))
        return Signal(Dense(torch.stack(each)))


@EVERY
def test_a_teacher_with_a_longer_prompt_answers_where_its_own_tokens_stand(name: str) -> None:
    dense = Gathered(model(2, 12, causal=False))
    losses, weights = ended(OBJECTIVES[name], teacher=dense)
    for change, accumulate in ((privileged, 3), (lambda b, s: together(privileged(b, s), s), 1)):
        found = ended(OBJECTIVES[name], change=change, accumulate=accumulate)
        assert found[0] == pytest.approx(losses, rel=2e-7)
        for key, tensor in weights.items():
            torch.testing.assert_close(found[1][key], tensor, rtol=1e-10, atol=1e-10)
    if name != "ce":
        assert losses != pytest.approx(plain(name)[0], rel=1e-6)
