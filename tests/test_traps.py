"""What has bitten other frameworks, each as a whole step or run of this one.

`docs/architecture.md` lists which test stands for which trap. Losses and moved weights are computed
again by hand: transformers' own forward pass on each row alone, without padding, and autograd on
its logits.
"""

import copy
import json
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from preceptor.data.chat import Rendering
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.evaluate.report import Value
from preceptor.models.load import load_model
from preceptor.models.sampling import Sampling
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
from preceptor.synthesis.rollouts import Rollouts
from preceptor.synthesis.writers import Local
from preceptor.teachers.live import Live
from preceptor.train.fit import Losses, run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training
from preceptor.types import Batch
from tests.data.tokens import CHATML, characters, chat
from tests.models.architectures import ARCHITECTURES
from tests.verbs.small import ran
from tests.verbs.text import sums, written_recipe

RATE = 0.1
END = "<|end|>"
LONGER = (
    "{% for m in messages %}[{{ m.role }} says] {{ m.content }}"
    "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant says] {% endif %}"
)
"""Another template, whose responses begin further on and end as the student's do."""


def tokenizer(template: str) -> Any:
    """One token a character; what pads is what ends a turn, and prompts hold it too."""
    made = characters(template)
    made.pad_token = made.eos_token
    return made


OWN, THEIRS = tokenizer(CHATML), tokenizer(LONGER)
ROWS = [
    chat("2+2=", "4"),
    chat("hi", "hello", "and 3+4=", "that is 7", number=1),
    chat("a long word", "antidisestablishment", number=2),
    chat("x", "y", number=3),
    chat("1", "one", "2", "two", "3", "three", number=4),
]
"""Of unequal lengths; of each the last turn is scored."""


def texts(*, teacher: bool = False) -> TextSet:
    theirs = Rendering(THEIRS, 160, turns="last") if teacher else None
    return TextSet(ROWS, Rendering(OWN, 160, turns="last"), theirs)


def model(name: str = "llama", seed: int = 0, **said: Any) -> TappedModel:
    """In double precision, without dropout, with weights large enough to have opinions."""
    torch.manual_seed(seed)
    wide = {"n_positions": 160} if "n_positions" in ARCHITECTURES[name] else {}
    still = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) if wide else {}
    shape = {**ARCHITECTURES[name], "vocab_size": len(OWN), **wide, **still}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    made = load_model({"causal": {"model_type": name, **shape, **ends}, **said})
    with torch.no_grad():
        for key, parameter in made.module.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
            if "bias" in key or "lora_B" in key:
                parameter.normal_()
    made.module.double()
    return made


def said_by_hand(who: Any, row: int) -> tuple[Tensor, int]:
    """A row's ids as its template and tokenizer have them, and where the response begins."""
    *before, last = ROWS[row].messages
    prompt = who.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
    ids = [who(text, add_special_tokens=False).input_ids for text in (prompt, last["content"])]
    return torch.tensor([*ids[0], *ids[1], who.eos_token_id]), len(ids[0])


def logits_by_hand(module: Any, who: Any, row: int) -> tuple[Tensor, Tensor]:
    """The logits that predict each token of the response and its end, and these tokens."""
    ids, start = said_by_hand(who, row)
    return module(input_ids=ids[None]).logits[0, start - 1 : -1], ids[start:]


def stepped(
    student: TappedModel,
    teacher: TappedModel,
    objective: Objective[Any],
    source: Source,
    **plan: Any,
) -> Losses:
    """One plain step."""
    optimizer = OptimizerPlan(name="sgd", lr=RATE, momentum=0.0)
    steps = Plan(steps=1, batch=len(ROWS), optimizer=optimizer, **plan)
    (losses,) = run(Training(student, Live(teacher), objective, source, steps))
    return losses


def assert_stepped(student: TappedModel, begun: Any, loss: Tensor) -> None:
    """The student is where a plain step down the loss leads from where it begun."""
    loss.backward()
    for (name, now), then in zip(
        student.module.named_parameters(), begun.parameters(), strict=True
    ):
        slope = torch.zeros_like(then) if then.grad is None else then.grad
        torch.testing.assert_close(now, then - RATE * slope, rtol=1e-6, atol=1e-6, msg=name)


HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "tied": ("gpt2", {}),
    "with a bias": ("phi", {}),
    "soft-capped": ("gemma2", {}),
    "with a scale": ("cohere", {}),
    "with a divisor": ("granite", {}),
    "adapted": ("llama", {"lora": {"rank": 2, "targets": ["q_proj", "lm_head"]}}),
}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("head", HEADS)
def test_a_step_is_that_of_the_models_own_logits_on_every_token_of_the_response(
    head: str, accumulate: int
) -> None:
    """The first token of a response and its end count, and nothing else does; the teacher reads
    its own template; means are over tokens, whatever the micro-batches; each model's own head."""
    name, said = HEADS[head]
    student, teacher = model(name, 1, **said), model(name, 2)
    begun = copy.deepcopy(student.module)
    source = TextSource(texts(teacher=True), batch=len(ROWS))
    losses = stepped(student, teacher, CE() + KD(temperature=2.0), source, accumulate=accumulate)
    ce, kd = [], []
    for row in range(len(ROWS)):
        ours, answer = logits_by_hand(begun, OWN, row)
        with torch.no_grad():
            theirs, same = logits_by_hand(teacher.module, THEIRS, row)
        assert torch.equal(answer, same)
        ce.append(F.cross_entropy(ours, answer, reduction="none"))
        log_q, log_p = ((z / 2).log_softmax(-1) for z in (ours, theirs))
        kd.append(4 * (log_p.exp() * (log_p - log_q)).sum(-1))
    means = [torch.cat(each).mean() for each in (ce, kd)]
    assert len(torch.cat(ce)) == sum(len(str(r.messages[-1]["content"])) + 1 for r in ROWS)
    assert losses.terms["ce"] == pytest.approx(means[0].item(), rel=1e-6)
    assert losses.terms["kd"] == pytest.approx(means[1].item(), rel=1e-6)
    assert_stepped(student, begun, means[0] + means[1])


DIVERGENCES: list[Objective[Any]] = [
    KD(temperature=2.0),
    ReverseKL(),
    GKD(beta=0.5),
    SkewKL(),
    SkewReverseKL(),
    TotalVariation(),
    AdaptiveKL(),
    TAID(),
]


@pytest.mark.parametrize("objective", DIVERGENCES, ids=lambda each: each.name)
def test_a_divergence_holds_no_cross_entropy(objective: Objective[Any]) -> None:
    """A student that is its teacher has nothing to learn, whatever the labels say."""
    student = model(seed=1)
    begun = copy.deepcopy(student.module)
    source = TextSource(texts(), batch=len(ROWS))
    losses = stepped(student, model(seed=1), objective, source)
    assert set(losses.terms) == {objective.name}
    assert losses.total == pytest.approx(0.0, abs=1e-7)
    for now, then in zip(student.module.parameters(), begun.parameters(), strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=1e-7)


@pytest.mark.parametrize("sampling", [Sampling(6, temperature=0.6, top_p=0.7), Sampling(6, 0.0)])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_how_text_was_sampled_is_not_how_it_is_compared(sampling: Sampling, beta: float) -> None:
    """The count is that of what was written; both sides are read whole, at the loss's own T."""
    student, teacher = model(seed=1), model(seed=2)
    begun, held = copy.deepcopy(student.module), copy.deepcopy(student)
    ends = frozenset(range(0, len(OWN), 4))  # many, so that lengths differ

    def source(writer: TappedModel) -> Source:
        rows = TextSource(texts(), batch=len(ROWS))
        return Rollouts(rows, Local(writer, sampling, ends), share=1.0)

    losses = stepped(student, teacher, GKD(beta=beta), source(student), accumulate=2)
    batch = source(held).take()
    assert not isinstance(batch.inputs, Tensor)
    values: list[Tensor] = []
    for ids, there, labels in zip(*batch.inputs.values(), batch.labels, strict=True):
        alone = ids[: int(there.sum())][None]
        places = (labels >= 0).nonzero().squeeze(1)
        assert torch.equal(labels[places], alone[0, places + 1])
        log_q = begun(input_ids=alone).logits[0, places].log_softmax(-1)
        with torch.no_grad():
            log_p = teacher.module(input_ids=alone).logits[0, places].log_softmax(-1)
        values.append(_jensen_shannon(log_p, log_q, beta))
    assert len({len(each) for each in values}) > 1
    mean = torch.cat(values).mean()
    assert losses.total == pytest.approx(mean.item(), rel=1e-6)
    assert_stepped(student, begun, mean)


def _jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    if beta == 1.0:
        return (q * (log_q - log_p)).sum(-1)
    log_m = (beta * p + (1 - beta) * q).log()
    return (beta * p * (log_p - log_m) + (1 - beta) * q * (log_q - log_m)).sum(-1)


@final
class Silent(Source):
    """Batches of a set; the first scores nothing."""

    def __init__(self, inner: TextSource) -> None:
        self.inner = inner
        self.num_classes, self.num_examples = inner.num_classes, inner.num_examples

    @property
    def labels(self) -> Tensor:
        return self.inner.labels

    @property
    def steps_per_epoch(self) -> int:
        return self.inner.steps_per_epoch

    def sample(self, count: int = 2) -> Batch:
        return self.inner.sample(count)

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        first = self.inner.step == 0
        batch = self.inner.take(rank, world)
        nothing = torch.zeros_like(batch.mask("all"))
        return Batch(**{**batch.fields(), "mask": nothing}) if first else batch

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.inner.load_state(state)


@pytest.mark.parametrize("objective", [CE(), KD(), GKD(), CE() + KD()], ids=lambda o: o.name)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_scores_nothing_is_zero_and_moves_nothing(
    objective: Objective[Any], accumulate: int
) -> None:
    student = model(seed=1)
    begun = copy.deepcopy(student.module)
    plan = Plan(
        steps=2,
        batch=len(ROWS),
        accumulate=accumulate,
        optimizer=OptimizerPlan(name="sgd", lr=RATE, momentum=0.0),
    )
    source = Silent(TextSource(texts(), batch=len(ROWS)))
    training = Training(student, Live(model(seed=2)), objective, source, plan)
    for losses in run(training):
        moved = any(
            not torch.equal(now, then)
            for now, then in zip(student.module.parameters(), begun.parameters(), strict=True)
        )
        assert moved == (losses.step == 2)
        assert (losses.total > 0) == (losses.step == 2)


def test_a_teacher_is_frozen_in_its_own_precision_and_outside_of_what_is_saved() -> None:
    """In eval mode whoever calls train(), without gradients, and no part of a checkpoint."""
    torch.manual_seed(2)
    shape = {**ARCHITECTURES["gpt2"], "vocab_size": len(OWN), "n_positions": 160}
    made = {"model_type": "gpt2", **shape, "resid_pdrop": 0.5, "bos_token_id": 1, "eos_token_id": 2}
    teacher, student = load_model({"causal": made, "dtype": "bfloat16"}), model(seed=1)
    before = {name: p.clone() for name, p in teacher.module.state_dict().items()}
    live = Live(teacher)
    teacher.module.train()
    source = TextSource(texts(), batch=len(ROWS))
    sample = source.sample()
    whole = [live.signal(sample).whole.log_probs(1.0) for _ in range(2)]
    assert torch.equal(*whole)  # no dropout
    plain = OptimizerPlan(name="sgd", lr=RATE, momentum=0.0)
    plan = Plan(steps=2, batch=len(ROWS), optimizer=plain)
    training = Training(student, live, KD(), source, plan)
    assert all(losses.total > 0 for losses in run(training))
    for name, tensor in teacher.module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert {p.dtype for p in teacher.module.parameters()} == {torch.bfloat16}
    assert all(p.grad is None and not p.requires_grad for p in teacher.module.parameters())
    own = dict(student.module.named_parameters())
    saved = [t for t in training.tensors().values() if t.is_floating_point()]
    assert sum(t.numel() for t in saved) == sum(p.numel() for p in own.values())


def test_a_loss_that_falls_while_the_task_gets_worse_is_no_success(tmp_path: Path) -> None:
    """A teacher of wrong sums is followed ever better; the report holds it against the control."""
    source = sums(tmp_path / "sums.jsonl")
    wrong = [json.loads(line) for line in source.read_text().splitlines()]
    for row in wrong:
        row["completion"] = str((int(row["completion"]) + 5) % 10)
    other = tmp_path / "wrong.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in wrong))
    plan = {"steps": 30, "batch": 16, "optimizer": {"name": "adamw", "lr": 0.01}}
    begun = written_recipe(other)
    begun["data"].pop("verify")
    begun |= {"control": {"arms": []}}
    begun["teacher"]["train"] = plan
    ran(begun, tmp_path / "begun")
    teacher = tmp_path / "begun/teachers/teacher/student"
    recipe = written_recipe(source, teacher={"model": {"folder": str(teacher)}})
    recipe["data"].pop("verify")
    recipe["data"]["tokenizer"] = str(teacher)
    recipe["stages"][0] = {"objective": [{"kd": {"temperature": 1}}], "plan": plan}
    report = ran(recipe, tmp_path / "run")
    lines = (tmp_path / "run/arms/distilled/seed-0/stage-0/metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(line)["loss"] for line in (lines[0], lines[-1]))
    assert last < 0.5 * first
    bits = {a: report.arm(a).measures["bits_per_byte"] for a in ("distilled", "control")}
    assert isinstance(bits["distilled"], Value)
    assert isinstance(bits["control"], Value)
    assert bits["distilled"].estimate > bits["control"].estimate
    assert report.verdict is not None
    assert report.verdict.kind != "helped"
