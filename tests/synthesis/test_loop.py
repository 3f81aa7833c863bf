"""Written text through the loop: whole steps, split steps, and a run that was stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import final

import pytest
import torch

from preceptor.data.source import Source
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.distillm2 import DistiLLM2
from preceptor.objectives.gkd import GKD
from preceptor.objectives.minillm import MiniLLM
from preceptor.synthesis.adaptive import AdaptiveRollouts
from preceptor.synthesis.pairs import Pairs
from preceptor.synthesis.policy import PolicyRollouts
from preceptor.synthesis.rollouts import Rollouts
from preceptor.synthesis.writers import Local, Mixed
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.teachers.routed import Routed
from preceptor.teachers.tokens.cached import CachedTokens
from preceptor.teachers.tokens.capture import write_tokens
from preceptor.teachers.tokens.codecs import TopKCodec
from preceptor.teachers.tokens.manifest import Identity
from preceptor.teachers.tokens.store import TokenStore
from preceptor.train.checkpoint import resume, save
from preceptor.train.fit import Losses, run
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training
from preceptor.types import Batch, Dense, Needs, Signal
from tests.synthesis.small import ends, model, source, texts

Made = Callable[[TappedModel], tuple[Objective, Source]]


def gkd(student: TappedModel) -> tuple[Objective, Source]:
    writer = Local(student, Sampling(5, temperature=0.9), ends())
    return GKD(temperature=1.0), Rollouts(source(), writer, share=0.6)


def minillm(student: TappedModel) -> tuple[Objective, Source]:
    writer = Mixed(student, model(2), ends(), max_new=5)
    loss = MiniLLM() + 0.5 * CE(over="data_written")
    return loss, PolicyRollouts(source(), writer, passes=2, pretraining=source(2, seed=1))


def adaptive(student: TappedModel) -> tuple[Objective, Source]:
    stream = AdaptiveRollouts(source(), Local(student, Sampling(5), ends()), steps=6)
    stream.phi = 0.8
    return GKD(beta=1.0), stream


def pairs(student: TappedModel) -> tuple[Objective, Source]:
    return DistiLLM2(), Pairs(source(), Local(student, Sampling(5), ends()))


def begun(
    made: Made, accumulate: int = 1, steps: int = 6, teacher: Teacher | None = None
) -> Training:
    student = model(1)
    objective, stream = made(student)
    plan = Plan(
        steps=steps,
        batch=4,
        accumulate=accumulate,
        optimizer=OptimizerPlan(name="sgd", lr=0.05),
    )
    return Training(student, teacher or Live(model(2)), objective, stream, plan)


def totals(losses: list[Losses]) -> list[float]:
    return [each.total for each in losses]


EVERY = pytest.mark.parametrize("made", [gkd, minillm, adaptive, pairs])


@EVERY
def test_micro_batches_change_no_number(made: Made) -> None:
    whole = totals(list(run(begun(made, steps=3))))
    split = totals(list(run(begun(made, accumulate=2, steps=3))))
    assert split == pytest.approx(whole, rel=1e-4)


@EVERY
def test_a_stopped_run_goes_on_with_the_same_losses(made: Made, tmp_path: Path) -> None:
    whole = totals(list(run(begun(made))))
    stopped = begun(made)
    for losses in run(stopped):
        if losses.step == 3:
            save(stopped, tmp_path)
            break
    again = begun(made)
    assert resume(again, tmp_path) == ()
    assert totals(list(run(again))) == whole[3:]


@final
class Apart(Teacher):
    """Rows of the data to one model, what was written meanwhile to another, each by hand."""

    def __init__(self, of_rows: Live, of_writing: Live) -> None:
        self.both = of_rows, of_writing

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"probabilities"}))

    def signal(self, batch: Batch) -> Signal:
        old, new = (each.signal(batch).whole.log_probs(1.0) for each in self.both)
        is_row = (batch.extra["row"] >= 0).unsqueeze(-1)
        return Signal(Dense(torch.where(is_row, old, new)))


@pytest.mark.parametrize("made", [gkd, pairs])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_cache_and_a_live_teacher_each_answer_for_their_own_text(
    made: Made, accumulate: int, tmp_path: Path
) -> None:
    rows, size = source().texts, texts().vocabulary
    write_tokens(
        tmp_path,
        Live(model(2)),
        rows.batches(5),
        identity=Identity("teacher", "tokenizer", "template", rows.fingerprint, size),
        codec=TopKCodec(k=size, levels=65_535),
    )
    cache = CachedTokens(TokenStore.open(tmp_path))
    # Two teachers that disagree, so that a text that went to the wrong one is seen.
    found: list[list[torch.Tensor]] = []
    for teacher in (Routed(cache, Live(model(3))), Apart(Live(model(2)), Live(model(3)))):
        training = begun(made, accumulate, steps=4, teacher=teacher)
        losses = list(run(training))
        assert len(losses) == 4
        found.append([p.detach() for p in training.students()[0].module.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)
    alone = begun(made, accumulate, steps=4, teacher=Live(model(2)))
    assert len(list(run(alone))) == 4
    others = [p.detach() for p in alone.students()[0].module.parameters()]
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(found[0], others, strict=True))
