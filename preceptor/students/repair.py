"""Writers fitted anew, in closed form: what a student writes should lead where its teacher's
stream does.

The student's blocks are walked in order. With A what a writer is given, H the student's own stream
and Y where the teacher's stream stands after the part of it that this one replaces, in the basis,

    W = argmin |A W^T - (Y - H)|^2 + lambda |W - W_0|^2,    lambda = ridge mean(diag(A^T A))

So heads, neurons and whole blocks that are missing, and errors of the blocks before, are made up
for at once. The attention's part ends at the same block's perceptron; the perceptron's before the
next block that the student has. Where a norm follows the writer its inverse is taken of Y first;
where it stands on the stream, Y is what the teacher gives to that norm.

Dimension key: n tokens, w what a writer is given, k the student's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.models.taps import reading
from preceptor.students.architecture import Architecture
from preceptor.students.bases import Basis
from preceptor.students.choosing import Choice
from preceptor.students.folding import gain_of
from preceptor.students.report import Repaired
from preceptor.students.streams import counted, shown, stream_taps
from preceptor.students.weights import ModuleWeights
from preceptor.types import Inputs, map_tensors

_WRITERS = (("attention out", "attention", "after attention"), ("down", "mlp", "after mlp"))
"""A block's writers, the place where the stream is read before each, and the norm behind it."""


@dataclass
class Fit:
    """A least-squares problem, summed up: A^T A [w, w], A^T Y [w, k] and |Y|^2, float64."""

    given: Tensor
    both: Tensor
    energy: float = 0.0

    @classmethod
    def of(cls, given: int, written: int) -> "Fit":
        """Nothing yet."""
        zeros = torch.zeros(given, given + written, dtype=torch.float64)
        return cls(zeros[:, :given].clone(), zeros[:, given:].clone())

    def add(self, given: Float[Tensor, "n w"], target: Float[Tensor, "n k"]) -> None:
        """Some more tokens."""
        given, target = given.double(), target.double()
        self.given += given.T @ given
        self.both += given.T @ target
        self.energy += target.square().sum().item()

    def error(self, weight: Float[Tensor, "k w"]) -> float:
        """|A W^T - Y|^2 / |Y|^2."""
        weight = weight.double()
        crossed = (weight * self.both.T).sum()
        own = ((weight @ self.given) * weight).sum()
        return ((own - 2 * crossed).item() + self.energy) / max(self.energy, 1e-30)

    def solved(self, start: Float[Tensor, "k w"], ridge: float, free: int = 0) -> Tensor:
        """The best weight [k, w], float64; the last `free` columns are held by nothing."""
        diagonal = self.given.diagonal()[: len(self.given) - free].mean() * ridge
        held = torch.full((len(self.given),), diagonal.item(), dtype=torch.float64)
        held[len(held) - free :] = 0.0
        # A direction that never occurs must not make the system singular.
        matrix = self.given + torch.diag(held.clamp_min(1e-12 * max(1.0, diagonal.item())))
        right = self.both + held[:, None] * start.double().T
        return torch.linalg.solve(matrix, right).T


@final
class Repair:
    """A student that has been cut out of its teacher, and what its writers are fitted to.

    Args:
        student, teacher: live.
        seen: their architectures, the student's first.
        basis, choices: of the cut; `until` of a choice is the last block that it stands for.
        calibration: a few thousand tokens.
        ridge: how strongly writers are held to what they are.
    """

    def __init__(
        self,
        student: TappedModel,
        teacher: TappedModel,
        seen: tuple[Architecture, Architecture],
        basis: Basis,
        choices: Sequence[Choice],
        calibration: Sequence[Inputs],
        ridge: float,
    ) -> None:
        self._student, self._teacher = student, teacher
        self._own, self._theirs = seen
        self._basis, self._choices, self._ridge = basis, tuple(choices), ridge
        self._calibration = tuple(calibration)
        self._counts: list[Tensor] = []
        self._targets: list[dict[tuple[str, int], tuple[Tensor, Tensor]]] = []

    def run(self) -> tuple[Repaired, ...]:
        """Fit every writer of the student's blocks, in order, in place."""
        for inputs in self._calibration:
            self._aim(inputs)
        calls = [self._calls(inputs) for inputs in self._calibration]
        streams: list[Tensor] = [call[0][0][0] for call in calls]
        repaired = []
        with keeping_modes(self._student), torch.no_grad():
            self._student.eval()
            for number, name in enumerate(self._own.block_names):
                block = self._student.module.get_submodule(name)
                pairs = zip(streams, calls, strict=True)
                run = [_Call(block, stream, call[number]) for stream, call in pairs]
                repaired += [self._fit(run, number, *writer) for writer in _WRITERS]
                streams = [call() for call in run]
            if self._own.piece("sentence") is not None:
                repaired.append(self._fit_sentences())
        return tuple(repaired)

    def _aim(self, inputs: Inputs) -> None:
        """Where the stream has to lead in one batch, and how large the teacher wrote."""
        aims = {
            (key, number): self._aim_taps(key, norm, number)
            for number in range(len(self._choices))
            for key, _, norm in _WRITERS
        }
        taps = sorted({tap for pair in aims.values() for tap in pair})
        found = shown(self._teacher, taps, inputs)
        counts = counted(inputs, found[taps[0]].shape, causal=self._teacher.causal)
        self._counts.append(counts)

        def taken(tap: str) -> Tensor:
            return found[tap][counts.to(found[tap].device)].float().cpu()

        self._targets.append(
            {
                at: (
                    self._basis.of(taken(stream), 1),
                    taken(written).square().mean(1, keepdim=True).sqrt(),
                )
                for at, (stream, written) in aims.items()
            }
        )

    def _aim_taps(self, key: str, norm: str, number: int) -> tuple[str, str]:
        """The taps of the stream where a writer has to lead, and of what the teacher wrote."""
        choice, places = self._choices[number], stream_taps(self._theirs)
        last = choice.of if key == "attention out" else choice.until
        written = self._theirs.module(key, last)
        if self._place(norm) == "on":
            return f"{self._theirs.module(norm, last)}:input", written
        if key == "attention out":
            return places[f"block {last} mlp"], written
        return places.get(f"block {last + 1} attention", places["end"]), written

    def _place(self, norm: str) -> str:
        layer = self._own.family.layer(norm)
        return "" if layer is None else layer.place

    def _calls(self, inputs: Inputs) -> list[tuple[list[Any], dict[str, Any]]]:
        """What each of the student's blocks is called with, the stream first."""
        calls: list[tuple[list[Any], dict[str, Any]]] = []

        def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
            del module
            if args:
                calls.append((list(args), dict(kwargs)))
            else:
                named = dict(kwargs)
                calls.append(([named.pop("hidden_states")], named))

        blocks = [self._student.module.get_submodule(name) for name in self._own.block_names]
        handles = [b.register_forward_pre_hook(keep, with_kwargs=True) for b in blocks]
        device = next(self._student.parameters()).device
        try:
            with keeping_modes(self._student), torch.no_grad():
                self._student.eval()
                self._student(map_tensors(inputs, lambda tensor: tensor.to(device)))
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def _fit(
        self, calls: Sequence["_Call"], number: int, key: str, part: str, norm: str
    ) -> Repaired:
        """One writer, on all batches."""
        prefix = f"{self._own.block_names[number]}."
        before = stream_taps(self._own)[f"block {number} {part}"].removeprefix(prefix)
        module = self._own.module(key, number).removeprefix(prefix)
        weight, biased = self._start(number, key)
        fit = Fit.of(weight.shape[1], weight.shape[0])
        gain = self._gain(number, norm)
        for call, counts, targets in zip(calls, self._counts, self._targets, strict=True):
            with reading(call.block, frozenset({before, f"{module}:input"})) as found:
                call()
            taken = {n: t[counts.to(t.device)].float().cpu() for n, t in found.items()}
            stream, size = targets[key, number]
            target = stream - taken[before]
            if gain is not None:
                target = target * size / gain
            given = taken[f"{module}:input"]
            fit.add(torch.cat([given, torch.ones(len(given), biased)], 1), target)
        solved = fit.solved(weight, self._ridge, free=int(biased))
        if gain is not None:
            # A channel that the norm keeps from the stream cannot be aimed with.
            solved = torch.where(gain.abs()[:, None] > 1e-2 * gain.abs().mean(), solved, weight)
        self._write(number, key, solved)
        return Repaired(self._own.module(key, number), fit.error(weight), fit.error(solved))

    def _fit_sentences(self) -> Repaired:
        """A sentence encoder's last map, to the directions of the teacher's embeddings."""
        name = self._own.module("sentence")
        map_ = self._student.module.get_submodule(name)
        assert isinstance(map_, nn.Linear), "a sentence encoder ends in a linear map"
        fit = Fit.of(map_.in_features, map_.out_features)
        for inputs in self._calibration:
            own = shown(self._student, [f"{name}:input", name], inputs)
            device = next(self._teacher.parameters()).device
            aim = self._teacher(map_tensors(inputs, lambda t, to=device: t.to(to))).logits
            # As long as what the map makes now: embeddings may be scaled to length one after it.
            length = own[name].norm(dim=1).mean() / aim.norm(dim=1).mean().to(own[name].device)
            fit.add(own[f"{name}:input"].cpu(), aim.cpu() * length.cpu())
        start = map_.weight.double().cpu()
        solved = fit.solved(start, self._ridge)
        map_.weight.copy_(solved)
        return Repaired(name, fit.error(start), fit.error(solved))

    def _gain(self, number: int, norm: str) -> Tensor | None:
        """The gain of a norm between this writer and the stream, kept away from zero."""
        if self._place(norm) != "after":
            return None
        gain = gain_of(ModuleWeights(self._student), self._own, norm, number).cpu()
        floor = 1e-3 * gain.abs().mean()
        return torch.where(gain.abs() < floor, floor, gain)

    def _start(self, number: int, key: str) -> tuple[Tensor, bool]:
        """A writer's weight [k, w], with its bias as the last column where it has one."""
        weight, bias = self._tensors(number, key)
        own = [weight.T if self._transposed(key) else weight]
        own += [] if bias is None else [bias[:, None]]
        return torch.cat(own, 1).double().cpu(), bias is not None

    def _write(self, number: int, key: str, solved: Tensor) -> None:
        weight, bias = self._tensors(number, key)
        if bias is not None:
            bias.copy_(solved[:, -1])
            solved = solved[:, :-1]
        weight.copy_(solved.T if self._transposed(key) else solved)

    def _tensors(self, number: int, key: str) -> tuple[Tensor, Tensor | None]:
        module = self._student.module.get_submodule(self._own.module(key, number))
        weight, bias = module.weight, getattr(module, "bias", None)
        assert isinstance(weight, Tensor), "a writer has a weight"
        return weight.data, bias.data if isinstance(bias, Tensor) else None

    def _transposed(self, key: str) -> bool:
        layer = self._own.family.layer(key)
        return layer is not None and layer.transposed


@dataclass
class _Call:
    """A block on one batch: its stream, and whatever else the model gave it."""

    block: nn.Module
    stream: Tensor
    rest: tuple[list[Any], dict[str, Any]]

    def __call__(self) -> Tensor:
        answer = self.block(self.stream, *self.rest[0][1:], **self.rest[1])
        return answer if isinstance(answer, Tensor) else answer[0]
