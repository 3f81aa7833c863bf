"""Some examples, as every model, teacher and objective sees them.

Dimension key: *n positions ([B] for images, [B, T] for text), b examples, t tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from preceptor.errors import NeedsError

Inputs = Tensor | Mapping[str, Tensor]
Over = str
"""Which positions count: "all", "labelled", or one of the batch's own `masks` by name."""


class Batch:
    """Some examples, as every model, teacher and objective sees them.

    Args:
        inputs: pixels in [0, 1] as [B, C, H, W], or a mapping of tensors whose first axis is B.
        labels: class indices [*n]; -1 where a position has no label.
        mask: positions that count [*n]; all of them where not given. Comes from lengths.
        labelled: positions whose label may be read [*n]; where not given, those with a label >= 0.
        ids: a name for each example [B], the same in every epoch; caches and memories key on it.
        view: the augmentation's number for each example [B], a pure function of seed, epoch and
            example; 0 means the plain example.
        teacher_inputs: what the teacher sees, where that differs from `inputs`.
        teacher_positions: where in the teacher's own sequence its answer to each position stands
            [B, T]; the same place where not given, -1 where it has none.
        origin: who wrote the examples: "data", "student" or "teacher".
        masks: further masks [*n] by name, which terms may count over (who wrote a token, say);
            each batch of a source has the same names.
        extra: further tensors whose first axis is B.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        labels: Int[Tensor, "*n"] | None = None,
        mask: Bool[Tensor, "*n"] | None = None,
        labelled: Bool[Tensor, "*n"] | None = None,
        ids: Int[Tensor, " b"] | None = None,
        view: Int[Tensor, " b"] | None = None,
        teacher_inputs: Inputs | None = None,
        teacher_positions: Int[Tensor, "b t"] | None = None,
        origin: str = "data",
        masks: Mapping[str, Bool[Tensor, "*n"]] | None = None,
        extra: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.inputs = inputs
        self.origin = origin
        self.masks = dict(masks or {})
        self.extra = dict(extra or {})
        self.teacher_positions = teacher_positions
        self._labels, self._mask, self._labelled = labels, mask, labelled
        self._ids, self._view, self._teacher_inputs = ids, view, teacher_inputs

    def __len__(self) -> int:
        return len(_any_tensor(self.inputs))

    def __repr__(self) -> str:
        return f"Batch({len(self)} examples, origin={self.origin!r})"

    @property
    def labels(self) -> Int[Tensor, "*n"]:
        """Class indices; -1 where there is no label."""
        if self._labels is None:
            raise missing("a label", "batch", "Give the data labels, or an objective without them.")
        return self._labels

    @property
    def ids(self) -> Int[Tensor, " b"]:
        """The examples' names."""
        if self._ids is None:
            raise missing("an example's id", "batch", "Give `ids=` one integer an example.")
        return self._ids

    @property
    def view(self) -> Int[Tensor, " b"]:
        """The augmentations' numbers; zeros where nothing is augmented."""
        if self._view is None:
            return torch.zeros(len(self), dtype=torch.int64, device=_any_tensor(self.inputs).device)
        return self._view

    @property
    def teacher_inputs(self) -> Inputs:
        """What the teacher sees: the student's inputs unless something else was given."""
        return self.inputs if self._teacher_inputs is None else self._teacher_inputs

    def mask(self, over: Over) -> Bool[Tensor, "*n"]:
        """Positions that count: "all" unmasked ones, those "labelled", or those of a named mask."""
        device = _any_tensor(self.inputs).device
        if self._mask is not None:
            every = self._mask
        elif self._labels is not None:
            every = torch.ones_like(self._labels, dtype=torch.bool)
        else:
            every = torch.ones(len(self), dtype=torch.bool, device=device)
        if over == "all":
            return every
        if over != "labelled":
            return every & self._named(over)
        if self._labelled is not None:
            return every & self._labelled
        if self._labels is not None:
            return every & (self._labels >= 0)
        return torch.zeros_like(every)

    def _named(self, over: str) -> Bool[Tensor, "*n"]:
        if over not in self.masks:
            raise NeedsError(
                f"a term counts over {over!r}",
                f"the batch has the masks all, labelled{''.join(f', {n}' for n in self.masks)}",
                "Use data that says so of each position, or another objective.",
            )
        return self.masks[over]

    def at(self, index: Int[Tensor, " n"]) -> "Batch":
        """Some flattened positions, as a batch of so many examples without ids or inputs."""
        shape = self.mask("all").shape

        def picked(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, len(shape) - 1)[index]

        def own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            fit = {n: t for n, t in tensors.items() if t.shape[: len(shape)] == shape}
            return {name: picked(tensor) for name, tensor in fit.items()}

        return Batch(
            index,
            labels=None if self._labels is None else picked(self._labels),
            mask=picked(self.mask("all")),
            labelled=picked(self.mask("labelled")),
            origin=self.origin,
            masks=own(self.masks),
            extra=own(self.extra),
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same examples on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def rows(self, start: int, stop: int) -> "Batch":
        """The examples from `start` up to `stop`."""
        return self._each(lambda tensor: tensor[start:stop])

    def _each(self, change: Any) -> "Batch":
        return Batch(**{name: map_tensors(value, change) for name, value in self.fields().items()})

    def fields(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {
            "inputs": self.inputs,
            "labels": self._labels,
            "mask": self._mask,
            "labelled": self._labelled,
            "ids": self._ids,
            "view": self._view,
            "teacher_inputs": self._teacher_inputs,
            "teacher_positions": self.teacher_positions,
            "origin": self.origin,
            "masks": self.masks,
            "extra": self.extra,
        }


def missing(what: str, holder: str, do: str) -> NeedsError:
    """What is raised where something is read that is not held."""
    return NeedsError(f"{what} was read", f"this {holder} does not hold it", do)


def _any_tensor(inputs: Inputs) -> Tensor:
    return inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))


def map_tensors(value: Any, change: Any) -> Any:
    """`value` with `change` applied to every tensor in it; mappings and sequences are walked."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map_tensors(item, change) for item in value)
    return value
