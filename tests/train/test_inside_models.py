"""Layers of language models and encoders, compared in the loop."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSequenceClassification

from preceptor.data.arithmetic import Arithmetic
from preceptor.data.chat import Rendering
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.data.tokenizers import character_tokenizer
from preceptor.errors import DataError, NeedsError
from preceptor.models.tapped import TappedModel
from preceptor.objectives.attention_maps import AttentionMaps
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.objectives.kd import KD
from preceptor.objectives.minilm import MiniLM
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.train.fit import run
from preceptor.train.plan import Plan
from preceptor.train.training import Training
from preceptor.train.update import SETTLING_STEPS
from preceptor.types import Batch, Needs, Signal
from tests.models.architectures import configuration
from tests.train.sentences import SGD, Sentences, inputs, language_model

PLAN = Plan(steps=2, batch=8, optimizer=SGD)


class OtherPadding(Sentences):
    """The same rows with other ids as padding, and more of it."""

    def __init__(self, classes: int = 0, *, other: bool = True) -> None:
        super().__init__()
        self.classes, self.other = classes, other
        if classes:
            self.num_classes = classes

    def rows(self, step: int, count: int) -> Batch:
        plain = super().rows(step, count)
        mask = inputs(plain)["attention_mask"]
        ids = inputs(plain)["input_ids"]
        labels, scored = plain.labels, plain.mask("all")
        if self.other:
            ids = F.pad(ids.where(mask.bool(), 17), (0, 3), value=23)
            mask, scored = F.pad(mask, (0, 3)), F.pad(scored, (0, 3))
            labels = F.pad(labels, (0, 3), value=-1)
        shown = {"input_ids": ids, "attention_mask": mask}
        if self.classes:
            return Batch(shown, labels=ids[:, 0] % self.classes, ids=plain.ids)
        return Batch(shown, labels=labels, mask=scored, ids=plain.ids)

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        assert (rank, world) == (0, 1)
        self.step += 1
        return self.rows(self.step, self.batch)


def causal(name: str, seed: int, layers: int, **said: Any) -> TappedModel:
    depth = "n_layer" if name == "gpt2" else "num_hidden_layers"
    config = {**configuration(name), depth: layers, **said}
    return language_model(seed, causal=config, attention="eager")


def classifier(seed: int, layers: int, width: int = 16) -> TappedModel:
    torch.manual_seed(seed)
    said = {"vocab_size": 61, "num_labels": 3, "hidden_dropout_prob": 0.0}
    config = AutoConfig.for_model(
        "bert",
        **said,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=24,
        attention_probs_dropout_prob=0.0,
    )
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    return TappedModel(model, head="classifier")


def trained(
    student: TappedModel, teacher: TappedModel, objective: Objective[Any], source: Sentences
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    training = Training(student, Live(teacher), objective, source, PLAN, seed=3)
    losses = [dict(each.terms) for each in run(training)]
    return losses, training.students()[0].state_dict()


def both(
    objective: Objective[Any], make: Callable[[], tuple[TappedModel, TappedModel]], classes: int = 0
) -> list[Any]:
    return [
        trained(*make(), objective, OtherPadding(classes, other=other)) for other in (False, True)
    ]


LAYERS: Objective[Any] = (
    HiddenStates(pairing="uniform")
    + HiddenStates(pairing="last", pairs=1)
    + HiddenStates(pairing="similar")
    + AttentionMaps(pairing="last", pairs=1)
    + AttentionMaps(form="mse")
)
RELATIONS = MiniLM(heads=4, teacher_block=-2)


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_padding_changes_no_number_in_a_language_model(name: str) -> None:
    still = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0} if name == "gpt2" else {}

    def make() -> tuple[TappedModel, TappedModel]:
        return causal(name, 0, 2, **still), causal(name, 1, 3)

    # GPT-2 makes queries, keys and values with one layer.
    layers = LAYERS if name == "gpt2" else LAYERS + RELATIONS
    (plain, weights), (padded, others) = both(0.5 * KD() + 0.5 * layers, make)
    for one, other in zip(plain, padded, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    for key, tensor in weights.items():
        torch.testing.assert_close(others[key], tensor, rtol=1e-3, atol=1e-5)


def test_padding_changes_no_number_in_an_encoder() -> None:
    def make() -> tuple[TappedModel, TappedModel]:
        return classifier(0, 2), classifier(1, 3, width=24)

    (plain, weights), (padded, others) = both(CE() + LAYERS + RELATIONS, make, classes=3)
    for one, other in zip(plain, padded, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    for key, tensor in weights.items():
        torch.testing.assert_close(others[key], tensor, rtol=1e-3, atol=1e-5)


def test_a_student_comes_nearer_to_its_teachers_states() -> None:
    student, teacher = causal("llama", 0, 2), causal("llama", 1, 3)
    plan = Plan(steps=12, batch=8, optimizer=SGD)
    training = Training(student, Live(teacher), 10 * HiddenStates(), Sentences(), plan, seed=3)
    seen = [each.terms["hidden_states"] for each in run(training)]
    assert seen[-1] < 0.8 * seen[0]


def test_micro_batches_give_the_numbers_of_the_whole() -> None:
    weights = []
    for accumulate in (1, 4):
        plan = Plan(steps=2, batch=8, accumulate=accumulate, optimizer=SGD)
        models = causal("qwen3", 0, 2), Live(causal("qwen3", 1, 2))
        objective = 0.5 * KD() + 0.5 * HiddenStates() + AttentionMaps()
        training = Training(*models, objective, Sentences(), plan, seed=3)
        list(run(training))
        weights.append(training.students()[0].state_dict())
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=1e-3, atol=1e-5)


def test_a_teacher_with_another_prompt_shows_its_states_where_the_student_stands() -> None:
    teacher = causal("llama", 1, 2)
    tap = "model.layers.1"
    prefix, response = torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9, 10, 11]])
    whole = torch.cat([prefix, response], dim=1)
    positions = torch.tensor([[3, 4, 5, -1]])
    batch = Batch(
        {"input_ids": response},
        labels=torch.tensor([[9, 10, 11, -1]]),
        mask=torch.tensor([[True, True, True, False]]),
        teacher_inputs={"input_ids": whole},
        teacher_positions=positions,
    )
    shown = Live(teacher.reading(frozenset({tap}))).signal(batch).tap(tap)
    expected = teacher.reading(frozenset({tap}))({"input_ids": whole}).tap(tap)
    assert torch.equal(shown[0, :3], expected[0, 3:6])
    maps = "model.layers.1.self_attn:output[1]"
    with pytest.raises(NeedsError, match="another text than the student"):
        Live(teacher.reading(frozenset({maps}))).signal(batch)


class Watched(Teacher):
    """A live teacher whose layers are looked for afterwards."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.model = live.model
        self.shown: list[weakref.ref[Tensor]] = []

    def offers(self) -> Needs:
        return self.live.offers()

    def reading(self, taps: frozenset[str]) -> "Watched":
        self.live = self.live.reading(taps)
        return self

    def signal(self, batch: Batch) -> Signal:
        found = self.live.signal(batch)
        self.shown += [weakref.ref(tap) for tap in found.taps.values()]
        return found


def test_the_teachers_layers_are_gone_before_the_way_back() -> None:
    teacher = Watched(Live(causal("llama", 1, 3)))
    objective = KD() + HiddenStates() + AttentionMaps() + AttentionMaps(form="mse")
    training = Training(causal("llama", 0, 2), teacher, objective, Sentences(), PLAN, seed=3)
    teacher.shown.clear()
    gone: list[bool] = []
    training.trainees[0].balance.measured = SETTLING_STEPS  # One pass back for all methods.

    def backward(loss: Tensor, **_: Any) -> None:
        assert loss.requires_grad
        gone.extend(ref() is None for ref in teacher.shown)

    training.accelerator.backward = backward
    list(run(training))
    assert len(gone) >= 4
    assert all(gone)


PACKED: dict[str, Objective] = {
    "hidden_states": HiddenStates(),
    "attention_maps": AttentionMaps(),
}


@pytest.mark.parametrize("objective", PACKED.values(), ids=PACKED.keys())
def test_packing_changes_no_number_of_a_method_that_reads_layers(objective: Objective) -> None:
    rows = Arithmetic(operations=2, largest=20).rows(40)
    tokenizer = character_tokenizer(f"{row.prompt}{row.completion}" for row in rows)
    texts = TextSet(rows, Rendering(tokenizer, 40, plain=True))
    found = []
    for pack in (None, 80):
        student, teacher = (
            language_model(seed, width=width, attention="eager", vocabulary=len(tokenizer))
            for seed, width in ((1, 16), (2, 32))
        )
        source = TextSource(texts, batch=16, pack=pack)
        taken = run(Training(student, Live(teacher), objective, source, PLAN))
        found.append([losses.total for losses in taken])
    assert found[0] == pytest.approx(found[1], rel=2e-5)


def test_relations_among_packed_rows_are_refused() -> None:
    rows = Arithmetic(operations=2, largest=20).rows(40)
    tokenizer = character_tokenizer(f"{row.prompt}{row.completion}" for row in rows)
    source = TextSource(TextSet(rows, Rendering(tokenizer, 40, plain=True)), batch=16, pack=80)
    student, teacher = (language_model(seed, vocabulary=len(tokenizer)) for seed in (1, 2))
    with pytest.raises(DataError, match="minilm with packed rows"):
        list(run(Training(student, Live(teacher), MiniLM(heads=2), source, PLAN)))
