"""A `transformers.Trainer` that distils: any teacher and objective, on fixed data, as `fit` counts.

    trainer = DistillationTrainer(model, Live(teacher), 0.3 * CE() + 0.7 * KD(),
                                  args=TrainingArguments(...), train_dataset=..., data_collator=...)
    trainer.train()

For people who live there: its arguments, callbacks, checkpoints and launchers stay what they are.
Losses and gradients are those of `fit` for the same batches: each term's sum is divided by its
count over the whole optimiser step, all micro-batches and processes. What needs the loop itself
(students that write their own text, teachers that move, modules of a method's own, weights found
on the way) is refused by name.

Dimension key: b examples, t tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from preceptor.errors import DataError, RecipeError
from preceptor.models.causal import language_head, last_hidden, verify_head
from preceptor.models.tapped import TappedModel
from preceptor.models.taps import expand, reading
from preceptor.objectives.base import Objective, Sum
from preceptor.objectives.schedules import Auto
from preceptor.teachers.base import Teacher
from preceptor.train.scoring import Scored, Share, Worth, by_position
from preceptor.train.training import moves, require
from preceptor.train.update import Counts, count_step, reduced
from preceptor.types import Batch, Needs, Outputs, Progress, Projected, Term

Features = Mapping[str, Any]


class DistillationTrainer(Trainer):
    """transformers' loop with this package's losses.

    Args:
        model: a causal language model of transformers, with peft's adapters or without; or a
            `TappedModel` around one.
        teacher: whoever answers; it is frozen by whoever made it.
        objective: what is minimised.
        args: transformers' own.
        data_collator: makes a `Batch` of some examples, or a mapping with `input_ids`,
            `attention_mask` and `labels`, where -100 is not scored and labels stand where their
            tokens do, as everywhere in transformers: they are shifted here, once.
        vocabulary: how many rows of the head are classes; 0 for all.
        options: of `Trainer`, such as `train_dataset`, `callbacks` and `optimizers`.

    Raises:
        RecipeError: an objective or teacher that needs the loop itself.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher,
        objective: Objective[Any],
        *,
        args: TrainingArguments,
        data_collator: Callable[[Sequence[Any]], Any] | None = None,
        vocabulary: int = 0,
        **options: Any,
    ) -> None:
        if isinstance(model, TappedModel):
            vocabulary, model = vocabulary or model.vocabulary, model.module
        verify_head(model)
        self.objective = Sum(objective.parts())
        _require(self.objective, teacher, args)
        needs = self.objective.needs()
        self.vocabulary = vocabulary
        self.taps = frozenset(name for tap in needs.student_taps for name in expand(model, tap))
        self.counts: Counts | None = None
        if data_collator is not None:
            options["data_collator"] = _featured(data_collator)
        super().__init__(model=model, args=args, **options)  # pyright: ignore[reportArgumentType]
        # Earlier versions ask this instead of `loss_is_scaled_for_ga`.
        self.model_accepts_loss_kwargs = True
        self.teacher = teacher.reading(needs.teacher_taps).to(self.args.device)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The step's micro-batches; what its terms are divided by is counted on the way."""
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        each = [count_step(as_batch(features).to(device)).numbers for features in samples]
        if each:
            self.counts = Counts({key: sum(own[key] for own in each) for key in each[0]})
        return samples, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """A micro-batch's share of the step's loss, times the processes that are averaged over."""
        del num_items_in_batch
        batch = as_batch(inputs).to(self.args.device)
        counts = self.counts if model.training and self.counts else count_step(batch)
        signal = self.teacher.signal(batch)
        outputs = self._shown(model, batch)
        with torch.autocast(outputs.device.type, enabled=False):
            scored = self._scored(outputs, signal, batch, counts)
        loss = torch.stack(list(scored.losses.values())).sum()
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The loss alone: logits of all positions are never made."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            loss = self.compute_loss(model, inputs)
        return loss.detach() / self.accelerator.num_processes, None, None

    def _shown(self, model: nn.Module, batch: Batch) -> Outputs:
        inside: nn.Module = self.accelerator.unwrap_model(model)
        assert not isinstance(batch.inputs, Tensor), "a language model reads keyword tensors"
        # Through the wrapper, which prepares for the backward pass.
        with reading(inside, self.taps) as taps:
            hidden = last_hidden(inside, batch.inputs, through=model)
        head = language_head(inside)
        head = head.first(self.vocabulary or len(head.weight))
        return Outputs(Projected(hidden, head), taps, head)

    def _scored(self, outputs: Outputs, signal: Any, batch: Batch, counts: Counts) -> Scored:
        steps, done = self.state.max_steps, self.state.global_step
        objective = self.objective.at(Progress(done, max(1, steps), float(self.state.epoch or 0)))
        world = self.accelerator.num_processes
        aux = nn.ModuleList(nn.Module() for _ in objective.members)

        def weight(name: str, term: Term) -> float:
            del name
            return term.weight

        def worth(name: str, term: Term) -> Worth:
            return Worth(weight(name, term), world / counts.of(term))

        sliced = by_position(objective)
        rest = [label for label in objective.labels() if label not in sliced]
        terms = objective.terms_seen(lambda _: (outputs, signal, batch), aux, rest)
        values = reduced(terms, batch, counts, float(world))
        found = Scored.of(terms, values, weight)
        if sliced:
            share = Share(objective, sliced, signal, batch, aux, worth)
            found = found.beside(share.scored(outputs))
        return found


def as_batch(features: Features) -> Batch:
    """A batch from what a collator made.

    Labels that stand where their tokens do are moved one place forward: position t is scored on
    token t + 1. Masks come from the labels' -100 alone, never from ids.
    """
    if "batch" in features:
        return features["batch"]
    for name in ("input_ids", "labels"):
        if name not in features:
            raise DataError(
                f"features named {', '.join(features)}",
                f"there are no {name}",
                "Use a collator that gives `input_ids`, `attention_mask` and `labels`.",
            )
    ids, unshifted = features["input_ids"], features["labels"]
    labels = torch.full_like(unshifted, -1)
    labels[:, :-1] = unshifted[:, 1:]
    labels = labels.masked_fill(labels < 0, -1)
    mask = features.get("attention_mask")
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}
    if "position_ids" in features:
        inputs["position_ids"] = features["position_ids"]
    return Batch(inputs, labels=labels, mask=labels >= 0, ids=features.get("ids"))


def _featured(collate: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Features]:
    """A collator whose batches carry what `Trainer` itself looks for."""

    def made(examples: Sequence[Any]) -> Features:
        found = collate(examples)
        if not isinstance(found, Batch):
            return found
        assert not isinstance(found.inputs, Tensor), "a language model reads keyword tensors"
        return {**found.inputs, "batch": found}

    return made


def _require(objective: Sum, teacher: Teacher, args: TrainingArguments) -> None:
    """Refuse what transformers' loop cannot carry, before anything is trained."""
    require(objective, teacher, args.gradient_accumulation_steps)
    methods = list(zip(objective.labels(), objective.members, strict=True))
    own = [label for label, member in methods if member.has_auxiliary()]
    wide = [label for label, member in methods if member.needs().scope == "batch"]
    found = [label for label, member in methods if isinstance(member.weight, Auto)]
    open_ = "auto" in objective.needs().student_taps
    written = [label for label, member in methods if _reads_rollouts(member.needs())]
    refused = {
        f"{', '.join(written)} reads text that is written while the student learns": bool(written),
        f"{', '.join(own)} has modules of its own, which it would neither train nor move": bool(
            own
        ),
        f"{', '.join(found)} has a weight that the loop finds": bool(found),
        f"{', '.join(wide)} compares examples of all processes": bool(wide) and args.world_size > 1,
        "the teacher moves with the student, once a step": moves(teacher),
        "layers were left to be paired by the loop; name them": open_,
        "it wraps the model in DataParallel where it sees several GPUs; use torchrun": (
            args.n_gpu > 1
        ),
    }
    for why, holds in refused.items():
        if holds:
            raise RecipeError("transformers' Trainer was to distil", why, "Use `fit` for that.")


def _reads_rollouts(needs: Needs) -> bool:
    return any(mask.endswith("_written") for mask in needs.masks) or "advantage" in needs.extra
