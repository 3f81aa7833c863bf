"""A tiny real language-model training that tests share: random rows of unequal length."""

from typing import Any

import torch
from torch import Tensor

from preceptor.data.source import Source
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.ce import CE
from preceptor.objectives.kd import KD
from preceptor.teachers.base import Teacher
from preceptor.teachers.live import Live
from preceptor.train.plan import OptimizerPlan, Plan
from preceptor.train.training import Training
from preceptor.types import Batch

VOCABULARY, LONGEST = 61, 11
SGD = OptimizerPlan(name="sgd", lr=0.5, momentum=0.0)
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def language_model(seed: int = 0, width: int = 16, **said: Any) -> TappedModel:
    """A fresh Llama, or whatever configuration is named with `causal`."""
    torch.manual_seed(seed)
    config = {**LLAMA, "hidden_size": width}
    return load_model({"causal": config, **said})


class Sentences(Source):
    """Rows of 4 to 11 tokens, the last ones scored; in every third step no odd row's."""

    num_classes = VOCABULARY
    num_examples = 64

    def __init__(self, batch: int = 8) -> None:
        self.batch, self.step = batch, 0

    @property
    def labels(self) -> Tensor:
        return torch.full((self.num_examples,), -1)

    @property
    def steps_per_epoch(self) -> int:
        return 8

    def sample(self, count: int = 2) -> Batch:
        return self.rows(0, count)

    def rows(self, step: int, count: int) -> Batch:
        draw = torch.Generator().manual_seed(step)
        ids = torch.randint(VOCABULARY, (count, LONGEST), generator=draw)
        lengths = torch.randint(4, LONGEST + 1, (count, 1), generator=draw)
        there = torch.arange(LONGEST) < lengths
        scored = (torch.arange(LONGEST) + 1 < lengths) & (torch.arange(LONGEST) >= 2)
        if step % 3 == 2:
            scored[1::2] = False
        labels = torch.full_like(ids, -1)
        labels[:, :-1] = ids[:, 1:]
        return Batch(
            {"input_ids": ids.where(there, 0), "attention_mask": there.long()},
            labels=labels.masked_fill(~scored, -1),
            mask=scored,
            ids=torch.arange(count),
        )

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        self.step += 1
        whole = self.rows(self.step, self.batch)
        index = torch.arange(rank, self.batch, world)
        return Batch(
            {name: tensor[index] for name, tensor in inputs(whole).items()},
            labels=whole.labels[index],
            mask=whole.mask("all")[index],
            ids=whole.ids[index],
        )

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def inputs(batch: Batch) -> dict[str, Tensor]:
    """A batch's keyword tensors."""
    assert not isinstance(batch.inputs, Tensor)
    return dict(batch.inputs)


def language_training(
    student: TappedModel,
    *,
    teacher: Teacher | None = None,
    objective: Objective | None = None,
    plan: Plan | None = None,
) -> Training:
    """Everything put together, the same each time."""
    return Training(
        student,
        teacher or Live(language_model(7, width=32)),
        objective or 0.3 * CE() + 0.7 * KD(temperature=2.0),
        Sentences(),
        plan or Plan(steps=4, batch=8, optimizer=SGD),
        seed=3,
    )
