"""A language model behind a server, asked for its largest probabilities at each token.

Dimension key: b rows, t positions of the student, s of the teacher, k entries.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from preceptor.data.client import Client
from preceptor.errors import ModelError, NeedsError, PreceptorError, ServerRefusal
from preceptor.fields import Count, check_ranges
from preceptor.teachers.base import Teacher
from preceptor.teachers.prompt_scores import API, Entries, predictions, question, sum_exp
from preceptor.types import Batch, Needs, Signal, TopK


@final
@dataclass(frozen=True)
class Served(Teacher):
    """The k largest probabilities of each position and the mass of the rest, from a server.

    Sequences go as token ids, never as text, one call each, as many at once as the client allows;
    packed ones are asked for apart. What comes back is the untruncated distribution at temperature
    1, whatever the server samples with. The mass of the rest is 1 minus the others' sum, in
    float64 from the server's float32, so below about 1e-7 it is noise. Nothing is kept: what is
    asked every epoch is better cached.

    Args:
        client: of a vLLM or SGLang server. vLLM takes no k above 20 unless it was started with
            `--max-logprobs`.
        classes: the vocabulary; an id from the server beyond it is refused.
        k: how many probabilities a position.
        api: whose form of question and answer.
    """

    client: Client
    classes: Count
    k: Count = 20
    api: API = "vllm"

    def __post_init__(self) -> None:
        check_ranges(self)

    def offers(self) -> Needs:
        """Bins at temperature 1."""
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({1.0}))

    def signal(self, batch: Batch) -> Signal:
        """What the server says of all positions that count; of the others, nothing.

        Raises:
            ServerRefusal, ServerFailure: the server does not answer.
            TeacherFailure: it answers about something else.
        """
        assert not isinstance(batch.teacher_inputs, Tensor), "a language model reads token ids"
        every = list(_sequences(batch.teacher_inputs))
        shape = (*batch.teacher_inputs["input_ids"].shape, min(self.k, self.classes))
        ids = torch.full(shape, -1, dtype=torch.int64)
        log_p = torch.full(shape, -torch.inf)
        log_tail = torch.zeros(shape[:2])
        places = _wanted(batch)
        asked = [each for each in every if not places.isdisjoint(each.keys)]
        for each, entries in zip(asked, self._told(asked), strict=True):
            if each.keys[-1] in places:
                raise _nothing_after(each)
            rows, where = zip(*each.keys[:-1], strict=True)
            values, tokens = _filled(entries, shape[-1])
            ids[rows, where], log_p[rows, where] = tokens, values
            log_tail[rows, where] = torch.tensor([self._log_tail(told) for told in entries])
        return Signal(_placed(TopK(ids, log_p, log_tail, 1.0, self.classes), batch))

    def _told(self, sequences: "list[_Sequence]") -> list[list[Entries]]:
        if not sequences:
            return []
        path = question(self.api, [], self.k)[0]
        payloads = (question(self.api, each.ids, self.k)[1] for each in sequences)
        try:
            answers = self.client.all(path, payloads)
        except ServerRefusal as error:
            raise self._explained(error) from error
        told = [
            predictions(self.api, answer, each.ids, self.k)
            for each, answer in zip(sequences, answers, strict=True)
        ]
        beyond = max((i for seq in told for entries in seq for _, i in entries), default=0)
        if beyond >= self.classes:
            raise ModelError(
                f"the server gave a probability to token {beyond}",
                f"the vocabulary has {self.classes} tokens",
                "Serve a model of the student's vocabulary, or count its padded rows in.",
            )
        return told

    def _log_tail(self, told: Entries) -> float:
        mass = 1.0 if len(told) == self.classes else sum_exp(told)
        return math.log1p(-mass) if mass < 1 else -math.inf

    def _explained(self, error: ServerRefusal) -> PreceptorError:
        if "logprobs" not in error.why:
            return error
        if "max" in error.why:
            do = f"Start it with --max-logprobs {self.k}, or set k to what it allows (vLLM: 20)."
        else:
            do = "Use a vLLM server (or SGLang with api: sglang); `transformers serve` gives none."
        return NeedsError(f"the server was asked for {self.k} probabilities a token", error.why, do)


@final
@dataclass(frozen=True)
class _Sequence:
    """Tokens that follow each other, and where each stands in the batch: (row, place)."""

    ids: list[int]
    keys: list[tuple[int, int]]


def _sequences(inputs: Mapping[str, Tensor]) -> Iterator[_Sequence]:
    """The batch's sequences without padding; a row of several (packed) is taken apart."""
    ids = inputs["input_ids"].cpu()
    # Packed rows have no mask: their padding is a sequence of its own, which nobody asks about.
    shown = inputs.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if shown is None else shown.cpu() != 0
    starts = inputs["position_ids"].cpu() == 0 if "position_ids" in inputs else None
    for row in range(len(ids)):
        places = real[row].nonzero().squeeze(1)
        if not len(places):
            continue
        cuts = [] if starts is None else starts[row, places].nonzero().squeeze(1).tolist()
        edges = [*([0] if 0 not in cuts else []), *cuts, len(places)]
        for start, stop in pairwise(edges):
            some = places[start:stop]
            yield _Sequence(ids[row, some].tolist(), [(row, place) for place in some.tolist()])


def _filled(entries: Sequence[Entries], k: int) -> tuple[Float[Tensor, "t k"], Int[Tensor, "t k"]]:
    """Log-probabilities and ids; -inf and -1 where a position has fewer than k."""
    nothing = (-math.inf, -1)
    whole = [[*told, *[nothing] * (k - len(told))] for told in entries]
    values = torch.tensor([[value for value, _ in told] for told in whole])
    return values, torch.tensor([[token for _, token in told] for told in whole])


def _wanted(batch: Batch) -> set[tuple[int, int]]:
    """Rows and places of the teacher's sequences where an answer is wanted."""
    mask, positions = batch.mask("all").cpu(), batch.teacher_positions
    if positions is None:
        return {(row, place) for row, place in mask.nonzero().tolist()}
    there = mask & (positions.cpu() >= 0)
    rows = there.nonzero()[:, 0].tolist()
    return set(zip(rows, positions.cpu()[there].tolist(), strict=True))


def _placed(told: TopK, batch: Batch) -> TopK:
    """The same at the student's positions, on the batch's device; nothing where it has none."""
    device, positions = batch.mask("all").device, batch.teacher_positions
    ids, log_p, log_tail = told.ids, told.log_p, told.log_tail
    if positions is not None:
        at: Int[Tensor, "b t"] = positions.cpu()
        none, index = at < 0, at.clamp_min(0)
        each = index.unsqueeze(-1).expand(-1, -1, ids.shape[-1])
        ids = ids.gather(1, each).masked_fill(none.unsqueeze(-1), -1)
        log_p = log_p.gather(1, each).masked_fill(none.unsqueeze(-1), -torch.inf)
        log_tail = log_tail.gather(1, index).masked_fill(none, 0.0)
    return TopK(ids.to(device), log_p.to(device), log_tail.to(device), 1.0, told.classes)


def _nothing_after(sequence: _Sequence) -> NeedsError:
    row, place = sequence.keys[-1]
    return NeedsError(
        f"position {place} of row {row} counts and is the last of its sequence",
        "a server tells what each token was predicted from, and no token follows",
        "Leave the last position out of the mask.",
    )
