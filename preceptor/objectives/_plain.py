"""Plain tensors from anyone's own loop: held against one another, and put into what flows.

Dimension key: *n positions ([B] or [B, T]), b examples, v and w classes.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from preceptor.errors import DataError, ModelError
from preceptor.types import Batch, Dense, Head, Needs, Outputs, Signal

Taps = Mapping[str, Tensor] | None


def shown(
    needs: Needs,
    student_logits: Float[Tensor, "*n v"],
    teacher_logits: Float[Tensor, "... w"] | None,
    taps: tuple[Taps, Taps],
    heads: tuple[Head | None, Head | None],
) -> tuple[Outputs, Signal]:
    """What the student and the teacher show; `taps` and `heads` are the student's, the teacher's.

    Raises:
        ModelError: the two do not answer for the same classes, and both answers are read.
        DataError: logits or taps are not of the same examples.
    """
    ours = student_logits.shape
    if teacher_logits is not None and needs.kinds:
        theirs = teacher_logits.shape
        if theirs[-1] != ours[-1] and not needs.foreign:
            raise ModelError(
                f"the student's logits are for {ours[-1]} classes, the teacher's for {theirs[-1]}",
                "both are read class by class",
                "Give both the same classes, or compare layers instead of logits.",
            )
        if theirs[:-1] != ours[:-1]:
            raise DataError(
                f"the student's logits are {tuple(ours)}, the teacher's {tuple(theirs)}",
                "they must be of the same examples",
                "Show both models the same batch.",
            )
    for who, side in zip(("student", "teacher"), taps, strict=True):
        for name, tap in (side or {}).items():
            if len(tap) != ours[0]:
                raise DataError(
                    f"the {who}'s tap {name!r} holds {len(tap)} examples, the student's logits "
                    f"{ours[0]}",
                    "they must be of the same examples",
                    "Give logits and taps of one batch, its examples on the first axis.",
                )
    distribution = None if teacher_logits is None else Dense(teacher_logits)
    return Outputs(student_logits, taps[0], heads[0]), Signal(distribution, taps[1], heads[1])


def batch_of(
    needs: Needs,
    student_logits: Float[Tensor, "*n v"],
    *,
    labels: Tensor | None,
    mask: Bool[Tensor, "..."] | None,
    labelled: Bool[Tensor, "..."] | None,
    ids: Int[Tensor, "..."] | None,
) -> Batch:
    """The batch that the logits are of.

    Raises:
        DataError: labels, masks or ids are not of these positions, or a label is no class.
    """
    every, classes = student_logits.shape[:-1], student_logits.shape[-1]
    # A mask of tokens may stand beside one answer an example where only layers are compared.
    masked = every if needs.kinds or needs.labels or mask is None else mask.shape
    wanted = {"labels": every, "mask": masked, "labelled": every, "ids": every[:1]}
    given = {"labels": labels, "mask": mask, "labelled": labelled, "ids": ids}
    for name, tensor in given.items():
        if tensor is not None and (tensor.shape != wanted[name] or len(tensor) != every[0]):
            raise DataError(
                f"`{name}` is {tuple(tensor.shape)} beside logits of {tuple(student_logits.shape)}",
                f"one is read for each {'example' if name == 'ids' else 'position'}",
                f"Give `{name}` the shape {tuple(wanted[name])}.",
            )
    if labels is not None and needs.labels:
        labels = _indices(labels, classes)
    if mask is None:
        mask = torch.ones(every, dtype=torch.bool, device=student_logits.device)
    return Batch(student_logits, labels=labels, mask=mask, labelled=labelled, ids=ids)


def _indices(labels: Tensor, classes: int) -> Int[Tensor, "*n"]:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(
            f"the labels are {labels.dtype}",
            "a label is the index of one class, a whole number",
            "Give indices; soft labels are a teacher's, by `teacher_logits`.",
        )
    # Elsewhere the question would make the host wait for the device at every step.
    if labels.device.type == "cpu" and labels.numel() and int(labels.max()) >= classes:
        raise DataError(
            f"a label is {int(labels.max())}, and the logits are for {classes} classes",
            f"labels lie between 0 and {classes - 1}, or below 0 where there is none",
            "Give the student more classes, or map the labels.",
        )
    return labels.long()
