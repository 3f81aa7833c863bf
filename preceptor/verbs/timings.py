"""How quick a finished run's models are: teacher, student and control, in turns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from torch import nn

from preceptor.evaluate.cost import measure, measure_writing
from preceptor.evaluate.timing import Timing, Writing
from preceptor.models.causal import bare, context_length, language_head
from preceptor.models.generate import generate
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.recipe.subject import Subject
from preceptor.recipe.text_answers import WithLogits

_NAMES = ("teacher", "distilled", "control")

_MANY, _ROUNDS = 16, 10
"""Examples at once for throughput, and how often each model is given them."""

_PROMPT, _FURTHER = 128, 16
"""Tokens of the prompt after which models are timed while they write; tokens after the first."""


@final
class Together(nn.Module):
    """Several models, one after the other; on one input of their own where there is one."""

    def __init__(self, members: Sequence[nn.Module], own: Any) -> None:
        super().__init__()
        self.members, self.own = nn.ModuleList(members), own

    def forward(self, inputs: Any) -> list[Any]:
        """Each one's answer."""
        # Those of the student may be another tokenizer's ids.
        inputs = inputs if self.own is None else self.own
        return [member(inputs) for member in self.members]


def of_one(models: Mapping[str, Any], example: Any) -> Timing:
    """One example at a time, one thread: what a server without batching would see."""
    shown = {k: v.cpu() for k, v in models.items() if k in _NAMES}
    return measure(shown, example, generator=np.random.default_rng(0), threads=1)


def of_many(models: Mapping[str, Any], subject: Subject) -> Timing:
    """Several examples at once; without a teacher that reads other tokens than the student."""
    shown = {
        k: v.cpu() for k, v in models.items() if k in _NAMES and getattr(v, "own", None) is None
    }
    (inputs, *_) = subject.calibration(_MANY)
    draw = np.random.default_rng(0)
    return measure(shown, inputs, generator=draw, threads=1, rounds=_ROUNDS, warmup=1)


def of_writing(models: Mapping[str, Any], subject: Subject) -> Writing | None:
    """One row at a time, greedily; None where nobody writes, or has no room to."""
    whole = {name: _whole(models.get(name)) for name in _NAMES}
    shown = {name: model.cpu() for name, model in whole.items() if model is not None}
    rooms = [
        context_length(bare(model.module)) or _PROMPT + _FURTHER + 1 for model in shown.values()
    ]
    length = min([_PROMPT, *(room - _FURTHER - 1 for room in rooms)])
    if not shown or length < 1:
        return None
    ids = subject.example()["input_ids"]
    prompt = ids.repeat(1, -(-length // ids.shape[1]))[:, :length]
    writers = {name: _writer(model, prompt[0].tolist()) for name, model in shown.items()}
    draw = np.random.default_rng(0)
    return measure_writing(writers, prompt, further=_FURTHER, generator=draw, threads=1)


def _whole(model: Any) -> TappedModel | None:
    """The language model that a runnable is; None of what is none, or is several."""
    if isinstance(model, Together):
        model = model.members[0] if len(model.members) == 1 else None
    return model.model if isinstance(model, WithLogits) else None


def _writer(model: TappedModel, prompt: list[int]) -> Callable[[int], object]:
    rows = len(language_head(model.module).weight)
    own = [token % rows for token in prompt]  # Another tokenizer's ids take as long as its own.

    def write(count: int) -> object:
        greedy = Sampling(max_new=count, temperature=0.0)
        return generate(model, [own], greedy, seeds=[0], ends=())

    return write
