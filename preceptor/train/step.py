"""One optimiser step: forward, terms, counts, gradients, for all members and micro-batches."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from preceptor.objectives.base import Objective, Sum, Weighted, group
from preceptor.teachers.peers import Peers
from preceptor.train.faults import not_finite, out_of_memory, smaller_micro_batch
from preceptor.train.gather import gather_batch, gather_outputs, gather_rows, gather_signal
from preceptor.train.optimizers import rate_factor, set_rate
from preceptor.train.scoring import Scored, Share, Worth, by_position
from preceptor.train.training import Trainee, Training, moves
from preceptor.train.update import Counts, MethodGradients, count_step, reduced
from preceptor.types import Batch, Outputs, Signal, Term, Terms


@final
class Step:
    """One optimiser step: the batch, its counts, and what the micro-batches leave behind."""

    def __init__(self, training: Training, objective: Objective[Any], batch: Batch) -> None:
        assert isinstance(objective, Sum)
        self.training, self.objective, self.batch = training, objective, batch
        self.world = training.accelerator.num_processes
        self.counts: Counts = count_step(batch)
        self.learns = moves(training.teacher)
        self.probing = self._probing()
        self.seen: list[tuple[Batch, Outputs]] = []
        self.memories: dict[int, list[dict[str, Tensor]]] = {}

    def _probing(self) -> bool:
        every, step = self.training.plan.probe_every, self.training.step
        first = not self.training.trainees[0].balance.settled()
        # A method's gradient is taken apart with whole parameters.
        several = len(self.objective.members) > 1 and not self.training.plan.sharded
        return several and (first or (every > 0 and step % every == 0))

    def gradients(self) -> dict[str, tuple[float, float]]:
        """Leaves gradients on the parameters; gives each term's global mean and weight.

        Out of memory, the step is taken again in micro-batches of half the size.
        """
        while True:
            generator = torch.get_rng_state()
            try:
                return self._gradients()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                smaller_micro_batch(self.training, len(self.batch), error)
                torch.set_rng_state(generator)

    def _gradients(self) -> dict[str, tuple[float, float]]:
        self.seen, self.memories = [], {}
        trainees = self.training.trainees
        for trainee in trainees:
            trainee.mover.zero_grad(set_to_none=True)
        apart = [
            MethodGradients(list(trainee.names.values()), trainee.shared) for trainee in trainees
        ]
        sums: dict[str, Tensor] = {}
        weights: dict[str, Terms] = {}
        micros = _split(self.batch, self.training.accumulate)
        for micro in micros:
            last = micro is micros[-1]
            for index, scored in self._scored(micro, last):
                prefix = f"{index}/" if index else ""
                weights.setdefault(prefix, {}).update(scored.terms)
                for name, value in scored.values.items():
                    held = sums.get(prefix + name)
                    sums[prefix + name] = value.detach() + (0 if held is None else held)
                if self.probing:
                    apart[index].add(scored.losses, scored.terms, self._scale())
                else:
                    loss = torch.stack(list(scored.losses.values())).sum()
                    self.training.accelerator.backward(loss)
        if self.probing:
            for gradients, trainee in zip(apart, trainees, strict=True):
                gradients.settle(trainee.balance, self._scale())
        means = self._means(sums)
        return {name: (mean, self._weight(name, weights)) for name, mean in means.items()}

    def _scored(self, micro: Batch, last: bool) -> Iterator[tuple[int, Scored]]:
        """Each member's terms for a micro-batch, reduced; evaluated inside the wrapped module."""
        training = self.training
        if isinstance(training.teacher, Peers):
            yield from self._scored_cohort(micro, last)
            return
        # A server or a large model is not asked for what nobody reads.
        asked = self.objective.needs().reads_teacher() or self.learns
        signal = training.teacher.signal(micro) if asked else Signal()
        for index, trainee in enumerate(training.trainees):
            with self._sync(trainee, last):
                scored = trainee.wrapped(micro, partial(self._scored_one, index, signal, micro))
                self._remember(index, scored.terms)
                if trainee is training.trainees[-1]:
                    signal = Signal()  # The teacher's layers are not kept for the way back.
                yield index, scored

    def _scored_one(
        self, index: int, signal: Signal, micro: Batch, outputs: Outputs, aux: nn.ModuleList
    ) -> Scored:
        if self.learns:
            self.seen.append(self._whole(micro, outputs.detached()))
        return self._reduced(index, outputs, signal, micro, aux)

    def _scored_cohort(self, micro: Batch, last: bool) -> Iterator[tuple[int, Scored]]:
        teacher = self.training.teacher
        assert isinstance(teacher, Peers)
        shown: list[Outputs] = []
        for trainee in self.training.trainees:
            with self._sync(trainee, last):
                shown.append(trainee.wrapped(micro, _keep))
        teacher.show([outputs.detached() for outputs in shown])
        for index, trainee in enumerate(self.training.trainees):
            signal = teacher.signal_for(index, micro)
            with self._sync(trainee, last):
                scored = self._reduced(index, shown[index], signal, micro, trainee.member.aux)
                self._remember(index, scored.terms)
                yield index, scored

    def _reduced(
        self, index: int, outputs: Outputs, signal: Signal, micro: Batch, aux: nn.ModuleList
    ) -> Scored:
        """Terms, their reduced values, and the loss; what is projected is scored by slices."""
        balance = self.training.trainees[index].balance

        def weight(name: str, term: Term) -> float:
            return term.weight if self.probing else balance.weight(name, term)

        sliced = by_position(self.objective) if outputs.is_projected() else ()
        rest = [label for label in self.objective.labels() if label not in sliced]
        found = self._whole_terms(outputs, signal, micro, aux, rest, weight)
        together = [(label,) for label in sliced] if self.probing else [sliced] * bool(sliced)
        for labels in together:
            share = Share(self.objective, labels, signal, micro, aux, self._worth(weight))
            found = found.beside(share.scored(outputs))
        return found

    def _worth(self, weight: Callable[[str, Term], float]) -> Callable[[str, Term], Worth]:
        def worth(name: str, term: Term) -> Worth:
            return Worth(weight(name, term), self.world / self.counts.of(term))

        return worth

    def _whole_terms(
        self,
        outputs: Outputs,
        signal: Signal,
        micro: Batch,
        aux: nn.ModuleList,
        only: Sequence[str],
        weight: Callable[[str, Term], float],
    ) -> Scored:
        """Terms on whole tensors. What compares examples sees the rows of all ranks."""
        whole: list[tuple[Outputs, Signal, Batch]] = []

        def view(part: Weighted) -> tuple[Outputs, Signal, Batch]:
            if self.world == 1 or part.needs().scope != "batch":
                return outputs, signal, micro
            if not whole:
                gathered = gather_outputs(outputs), gather_signal(signal), gather_batch(micro)
                whole.append(gathered)
            return whole[0]

        terms = self.objective.terms_seen(view, aux, only)
        values: dict[str, Tensor] = {}
        for name, term in terms.items():
            rows = self.world > 1 and self._gathered(name)
            # Gathered rows are all there on each rank; local rows are averaged over ranks later.
            seen, factor = (whole[0][2], 1.0) if rows else (micro, float(self.world))
            values |= reduced({name: term}, seen, self.counts, factor)
        return Scored.of(terms, values, weight)

    def _gathered(self, term_name: str) -> bool:
        member = self.objective.members[self.objective.labels().index(group(term_name))]
        return member.needs().scope == "batch"

    def _sync(self, trainee: Trainee, last: bool) -> Any:
        """Gradients travel between ranks once a step; method by method we send them ourselves."""
        if trainee.sharded is not None:
            trainee.sharded.sync(last)
            return nullcontext()
        if self.world == 1 or (last and not self.probing):
            return nullcontext()
        return self.training.accelerator.no_sync(trainee.wrapped)

    def _scale(self) -> float:
        scaler = self.training.accelerator.scaler
        if scaler is None:
            return 1.0
        scaler.scale(torch.ones((), device=self.training.accelerator.device))  # creates the scale
        return float(scaler.get_scale())

    def _means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        stacked = torch.stack([value.float() for value in sums.values()])
        if self.world > 1:
            dist.all_reduce(stacked)
            stacked = stacked / self.world
        means = dict(zip(sums, stacked.tolist(), strict=True))
        for name, value in means.items():
            if not math.isfinite(value):
                raise not_finite(name, value, self.batch, self.training.step)
        return means

    def _weight(self, name: str, terms: dict[str, Terms]) -> float:
        index, slash, bare = name.rpartition("/")
        trainee = self.training.trainees[int(index or 0)]
        return trainee.balance.weight(bare, terms[index + slash][bare])

    def update(self) -> float:
        """Clip, set the rate, step, average; gives the learning rate that was used."""
        training, plan = self.training, self.training.plan
        lr = plan.optimizer.lr * rate_factor(plan.schedule, training.step, training.steps)
        for trainee in training.trainees:
            if plan.clip:
                parameters = list(trainee.names.values())
                training.accelerator.clip_grad_norm_(parameters, plan.clip)
            set_rate(trainee.mover, lr)
            trainee.mover.step()
            if trainee.average:
                _move_average(trainee, plan.ema)
        return lr

    def _remember(self, index: int, terms: Terms) -> None:
        rows = {
            f"{name}/{key}": tensor
            if self.world == 1 or self._gathered(name)
            else gather_rows(tensor)
            for name, term in terms.items()
            for key, tensor in term.remember.items()
        }
        if rows:
            self.memories.setdefault(index, []).append(rows)

    def remembered(self, index: int) -> dict[str, Tensor]:
        """What a member's terms asked to remember, the whole step's rows."""
        each = self.memories.get(index, [])
        return {key: torch.cat([rows[key] for rows in each]) for key in (each[0] if each else {})}

    def _whole(self, micro: Batch, outputs: Outputs) -> tuple[Batch, Outputs]:
        if self.world == 1:
            return micro, outputs
        return gather_batch(micro), gather_outputs(outputs)


def _keep(outputs: Outputs, aux: nn.ModuleList) -> Outputs:
    del aux
    return outputs


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    size = math.ceil(len(batch) / parts)
    return [batch.rows(start, start + size) for start in range(0, len(batch), size)]


def _move_average(trainee: Trainee, decay: float) -> None:
    with torch.no_grad():
        state = trainee.member.student.module.state_dict()
        for name, held in trainee.average.items():
            tensor = state[name]
            if held.is_floating_point():
                held.lerp_(tensor, 1 - decay)
            else:
                held.copy_(tensor)
