"""Sharding that was asked for and cannot be had is a sentence, never a silent something else."""

from dataclasses import replace
from typing import Any

import pytest
from accelerate.utils import DistributedType
from torch import nn

from preceptor.errors import RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective, Sum
from preceptor.objectives.ce import CE
from preceptor.objectives.hidden_states import HiddenStates
from preceptor.objectives.kd import KD
from preceptor.objectives.schedules import Auto
from preceptor.train.plan import Plan
from preceptor.train.sharding import Sharded, require_sharding
from tests.train.sentences import language_model, language_training

PLAN = Plan(steps=1, batch=8, sharded=True)


def asked(
    plan: Plan = PLAN,
    objective: Objective | None = None,
    members: int = 1,
    learns: bool = False,
    launched: DistributedType = DistributedType.MULTI_CPU,
) -> None:
    parts = Sum((objective or CE() + KD()).parts())
    require_sharding(plan, parts, processes=2, launched=launched, members=members, learns=learns)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a cohort": ({"members": 2}, "cohort"),
    "half precision": ({"plan": replace(PLAN, precision="fp16")}, "fp16"),
    "own modules": ({"objective": CE() + HiddenStates()}, "hidden_states trains modules"),
    "found weights": ({"objective": CE() + Auto(0.5) * KD()}, "found by the loop"),
    "a moving teacher": ({"learns": True}, "moves with the student"),
    "Accelerate's": ({"launched": DistributedType.FSDP}, "sharded: true"),
}


@pytest.mark.parametrize(("said", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_spread_is_refused(said: dict[str, Any], words: str) -> None:
    asked()
    with pytest.raises(RecipeError, match=words):
        asked(**said)


def test_one_process_cannot_share() -> None:
    with pytest.raises(RecipeError, match="one process"):
        language_training(language_model(), plan=PLAN)


def test_accelerate_s_own_sharding_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="Accelerate was configured to shard"):
        language_training(language_model(), plan=Plan(steps=1, batch=8))


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(RecipeError, match="no row of layers"):
        Sharded(TappedModel(nn.Linear(2, 2)))


def test_layers_that_all_stand_still_are_refused() -> None:
    model = language_model()
    for name, parameter in model.module.named_parameters():
        parameter.requires_grad_("layers" not in name)
    with pytest.raises(RecipeError, match="no trainable parameter inside any layer"):
        Sharded(model)
