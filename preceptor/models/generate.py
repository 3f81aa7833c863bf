"""Responses that a language model writes, with its key-value cache on and no trace left behind.

The loop is our own, on transformers' models and caches: drawing by one number a row makes a row's
tokens a function of its prompt and seed alone, rows that have ended leave the batch, and a second
model can take part in every step.

Dimension key: b rows that still grow, t prompt tokens, v classes, n rows.
"""

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from preceptor.errors import DataError, ModelError
from preceptor.models.causal import bare, context_length
from preceptor.models.dry import undisturbed
from preceptor.models.generated import Generated as Generated
from preceptor.models.generated import Growing
from preceptor.models.sampling import Sampling, drawn, uniform
from preceptor.models.tapped import TappedModel
from preceptor.types import at_least_float32

Prompt = Sequence[int] | NDArray[np.integer]
"""Token ids before a response."""
_LEAVING = 0.25
"""Rows that have ended leave the batch once they are this share of it: leaving copies the cache."""


def generate(
    model: TappedModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    seeds: Sequence[int],
    ends: Collection[int],
    pad: int = 0,
    record: bool = False,
) -> Generated:
    """A response to each prompt.

    Args:
        model: a causal one; its modes, buffers and torch's generators are as before afterwards.
        prompts: token ids, one or more a prompt.
        sampling: how tokens are drawn.
        seeds: one a prompt; the same seed, prompt and weights give the same tokens.
        ends: tokens that end a response.
        pad: what stands where nothing is; masked by lengths, so that it may equal an end.
        record: also give the log-probability of each token.

    Raises:
        DataError: an empty prompt, or one that leaves no room for `max_new` tokens.
        ModelError: the model is not causal.
    """
    fed = _Fed(prompts, seeds, sampling.max_new, frozenset(ends), pad)

    def choose(readers: Sequence[_Reader], numbers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = readers[0].logits()
        tokens = sampling.draw(logits, numbers)
        return tokens, {"log_q": _chosen(logits, tokens)} if record else {}

    return _decoded((model,), fed, choose)


def generate_mixed(
    student: TappedModel,
    teacher: TappedModel,
    prompts: Sequence[Prompt],
    *,
    teacher_share: float,
    max_new: int,
    seeds: Sequence[int],
    ends: Collection[int],
    pad: int = 0,
) -> Generated:
    """Responses drawn, token by token, from `teacher_share` p + (1 - `teacher_share`) q.

    p is the teacher's whole distribution at temperature 1 and q the student's; the importance of
    a token is exp(log_q - log_drawn). Other arguments and errors as for `generate`.

    Yuxian Gu, Li Dong, Furu Wei, Minlie Huang. "MiniLLM: Knowledge Distillation of Large Language
    Models". ICLR, 2024.
    """
    if not 0 < teacher_share < 1:
        raise ModelError(
            f"teacher_share={teacher_share}",
            "a mixture gives both writers a part",
            "Choose a number between 0 and 1, or use `generate` for one writer.",
        )
    fed = _Fed(prompts, seeds, max_new, frozenset(ends), pad)
    log_share, log_rest = math.log(teacher_share), math.log1p(-teacher_share)

    def choose(readers: Sequence[_Reader], numbers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_q, log_p = (torch.log_softmax(reader.logits(), dim=-1) for reader in readers)
        if log_q.shape != log_p.shape:
            raise ModelError(
                f"the student has {log_q.shape[-1]} classes and the teacher {log_p.shape[-1]}",
                "a mixture is of two distributions over the same tokens",
                "Give both the same `vocabulary`.",
            )
        mixed = torch.logaddexp(log_p + log_share, log_q + log_rest)
        tokens = drawn(mixed.exp(), numbers)
        each = {"log_q": log_q, "log_p": log_p, "log_drawn": mixed}
        return tokens, {n: v.gather(-1, tokens[:, None]).squeeze(-1) for n, v in each.items()}

    return _decoded((student, teacher), fed, choose)


@final
@dataclass(frozen=True)
class _Fed:
    """What a decoding starts from."""

    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    max_new: int
    ends: frozenset[int]
    pad: int

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.prompts):
            raise DataError(
                f"{len(self.prompts)} prompts and {len(self.seeds)} seeds",
                "each row is drawn from its own seed",
                "Give as many of one as of the other.",
            )
        empty = [index for index, prompt in enumerate(self.prompts) if not len(prompt)]
        if empty:
            raise DataError(
                f"prompt {empty[0]} has no token",
                "a model needs one to say what comes next",
                "Put a beginning-of-sequence token there.",
            )

    def padded(self) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n t"]]:
        """Ids and mask, padded on the left."""
        width = max(len(prompt) for prompt in self.prompts)
        ids = torch.full((len(self.prompts), width), self.pad)
        mask = torch.zeros_like(ids)
        for index, prompt in enumerate(self.prompts):
            ids[index, width - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.int64)
            mask[index, width - len(prompt) :] = 1
        return ids, mask


@final
class _Reader:
    """One model and its cache, reading the rows that still grow.

    The model's own forward pass runs, so that whatever it does to its logits is done, and sharded
    parameters are gathered.
    """

    def __init__(self, model: TappedModel, fed: _Fed) -> None:
        self._model = model
        base = bare(model.module)
        ids, mask = fed.padded()
        _check_room(base, ids.shape[1] + fed.max_new)
        device = next(model.module.parameters()).device
        self._next = ids.to(device)
        # Without padding no mask is given: attention then takes its plain causal path.
        self._mask = None if bool(mask.all()) else mask.to(device)
        self._positions = (mask.cumsum(-1) - 1).clamp_(min=0).to(device)
        known = inspect.signature(base.forward).parameters
        self._placed = "position_ids" in known
        self._fixed = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._cache: Any = None

    def logits(self) -> Float[Tensor, "b v"]:
        """Of the next token of each row; reads what was pushed since."""
        placed = {"position_ids": self._positions} if self._placed else {}
        answer = self._model.module(
            input_ids=self._next,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            **placed,
            **self._fixed,
        )
        self._cache = answer.past_key_values
        logits = at_least_float32(answer.logits[:, -1])
        return logits[:, : self._model.vocabulary] if self._model.vocabulary else logits

    def push(self, tokens: Int[Tensor, " b"]) -> None:
        """Each row's next token."""
        self._next = tokens.to(self._positions.device)[:, None]
        self._positions = self._positions[:, -1:] + 1
        if self._mask is not None:
            self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)

    def keep(self, rows: Int[Tensor, " b"]) -> None:
        """Go on with these rows alone."""
        rows = rows.to(self._positions.device)
        self._next, self._positions = self._next[rows], self._positions[rows]
        self._mask = None if self._mask is None else self._mask[rows]
        self._cache.batch_select_indices(rows)


_Choose = Callable[[Sequence[_Reader], Tensor], tuple[Tensor, dict[str, Tensor]]]
"""Each row's next token [b] and what is recorded of it, of the readers and one number a row."""


def _decoded(models: Sequence[TappedModel], fed: _Fed, choose: _Choose) -> Generated:
    """Token after token until every row has ended or is `max_new` long."""
    if not all(model.causal for model in models):
        raise ModelError(
            "a model that is not a causal language model was to write",
            "only those go on token by token",
            "Use one that was loaded as `causal`.",
        )
    written = Growing(len(fed.prompts))
    if not fed.prompts:
        return written.result()
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(undisturbed(model.module))
            model.module.eval()  # Layers that recompute their activations keep no cache in training
        readers = [_Reader(model, fed) for model in models]
        device = next(models[0].module.parameters()).device
        ends = torch.tensor(sorted(fed.ends), device=device, dtype=torch.int64)
        numbers = uniform(fed.seeds, fed.max_new).to(device)
        rows = torch.arange(len(fed.prompts), device=device)  # Those still in the batch.
        growing = torch.ones_like(rows, dtype=torch.bool)
        spread = any(isinstance(model.module, FSDPModule) for model in models)
        for step in range(fed.max_new):
            tokens, recorded = choose(readers, numbers[step, rows])
            written.add(rows, growing, tokens, recorded)
            growing = growing & ~torch.isin(tokens, ends)
            left = growing.sum()
            if step + 1 == fed.max_new or not _on_any_rank(left, spread):
                break
            for reader in readers:
                reader.push(tokens)
            if 0 < left <= (1 - _LEAVING) * len(rows):
                kept = growing.nonzero().flatten()
                rows, growing = rows[kept], growing[kept]
                for reader in readers:
                    reader.keep(kept)
        return written.result(rows[growing])


def _on_any_rank(left: Int[Tensor, ""], spread: bool) -> int:
    """Rows that still grow; where parameters are spread every rank goes on as long as any does."""
    if not spread:
        return int(left)
    most = left.clone()
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most)


def _chosen(logits: Float[Tensor, "b v"], tokens: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    picked = logits.gather(-1, tokens[:, None]).squeeze(-1)
    return picked - torch.logsumexp(logits, dim=-1)


def _check_room(module: Any, tokens: int) -> None:
    room = context_length(module)
    if room and tokens > room:
        raise DataError(
            f"the longest prompt and its response come to {tokens} tokens",
            f"the {type(module).__name__} sees {room}",
            "Lower `max_new`, or leave out the longest prompts.",
        )
