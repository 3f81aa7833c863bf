"""What the feature methods share: their pairs of taps, and the regressors between them.

Dimension key: b examples, c channels, h and w height and width, t tokens, d width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import DataError, ModelError, NeedsError
from preceptor.objectives.base import Layers
from preceptor.objectives.reduction import by_example
from preceptor.types import Batch, Outputs, Signal, Term, at_least_float32

Activation = Literal["relu", "none"]
"""What follows a regressor: the non-linearity that the teacher's tap comes out of."""


class Tapped(NamedTuple):
    """One pair's tensors; `words` name the pair in messages."""

    words: str
    student: Tensor
    teacher: Tensor


def tapped(layers: Layers, student: Outputs, teacher: Signal) -> Iterator[Tapped]:
    """Each pair's student tensor and detached teacher tensor, in float32 or better."""
    if layers == "auto" or not layers:
        raise NeedsError(
            f"taps were read while `layers` is {layers!r}",
            "no pair of layers is named",
            'Give `layers=(("student.module", "teacher.module"), ...)`; "auto" is settled by the '
            "recipe, or by `objective.settled`.",
        )
    for ours, theirs in layers:
        pair = at_least_float32(student.tap(ours))
        hint = at_least_float32(teacher.tap(theirs).detach()).to(pair.dtype)
        yield Tapped(f"student {ours!r} and teacher {theirs!r}", pair, hint)


def tapped_maps(layers: Layers, student: Outputs, teacher: Signal) -> Iterator[Tapped]:
    """`tapped`, each tensor as a map [B, C, H, W]."""
    for words, ours, theirs in tapped(layers, student, teacher):
        yield Tapped(words, as_map(ours, words), as_map(theirs, words))


def added(values: Sequence[Float[Tensor, " b"]]) -> Float[Tensor, " b"]:
    """The pairs' numbers, one sum an example."""
    return torch.stack(tuple(values)).sum(dim=0)


def as_map(features: Tensor, words: str) -> Float[Tensor, "b c h w"]:
    """A feature map; a vector an example counts as a map of one position."""
    if features.ndim == 4:
        return features
    if features.ndim == 2:
        return features[:, :, None, None]
    raise ModelError(
        f"a tap of {words} has shape {tuple(features.shape)}",
        "this method compares maps [B, C, H, W]; which of a sequence's tokens form a grid, and "
        "which stand before it, cannot be read from the shape",
        "Name a convolutional layer, or use `hidden_states` for tokens.",
    )


def kept(
    features: Float[Tensor, "b ..."], mask: Bool[Tensor, "b ..."] | None
) -> Float[Tensor, "b ..."]:
    """`features` with zeros where `mask` ([B] or [B, T], the first axes) says that nothing counts.

    Zeros before a regressor, not after it: NaN in a row that does not count would reach the
    regressor's weights as 0 * NaN.
    """
    if mask is None:
        return features
    return torch.where(mask[(...,) + (None,) * (features.ndim - mask.ndim)], features, 0.0)


def counting_rows(batch: Batch) -> Bool[Tensor, " b"] | None:
    """The examples that count; None for all, which spares a copy of every map."""
    return None if batch.fields()["mask"] is None else by_example(batch.mask("all"))


def counting_tokens(batch: Batch, tokens: Tensor, words: str) -> Bool[Tensor, "b t"] | None:
    """Which tokens of [B, T, ...] count; None for all.

    The batch's mask where it has one number a token; where it has one number an example, all
    tokens of those examples, or those in the `attention_mask` among the inputs (a classifier of
    sentences).
    """
    mask = batch.mask("all")
    if mask.ndim == 1:
        given = batch.inputs.get("attention_mask") if isinstance(batch.inputs, Mapping) else None
        if given is None or given.ndim != 2:
            rows = counting_rows(batch)
            return None if rows is None else rows.unsqueeze(-1).expand(tokens.shape[:2])
        mask = given.bool() & mask.unsqueeze(-1)
    if mask.shape != tokens.shape[:2]:
        raise DataError(
            f"{words} have shape {tuple(tokens.shape)}, the batch's mask {tuple(mask.shape)}",
            "without a common number of tokens it is not known which of them are padding",
            "Compare layers that keep one state an input token.",
        )
    return mask


def token_term(values: Float[Tensor, " b"], batch: Batch) -> Term:
    """Means over each example's tokens, as a term in which every token weighs the same.

    Where the batch counts tokens, each counting one has its example's mean, so that the loop
    divides by their number over the whole step; where it counts examples, an example is a number.
    """
    mask = batch.mask("all")
    if mask.ndim == 1:
        return Term(values, per="example")
    return Term(torch.where(mask, values.unsqueeze(-1), 0.0))


def require_apart(batch: Batch, method: str) -> None:
    """Raise where several examples lie in one sequence, which a method would compare.

    Raises:
        DataError: they do.
    """
    inputs = batch.inputs
    if isinstance(inputs, Mapping) and "position_ids" in inputs and "attention_mask" not in inputs:
        raise DataError(
            f"{method} with packed rows",
            "it relates the tokens of a sequence to one another, and these are of several rows",
            "Leave data.packed out.",
        )


def attended(batch: Batch, tokens: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Which tokens others may attend to: all but padding, as the inputs' `attention_mask` says.

    `tokens`, those that count, where the inputs say nothing: of a response, the prompt before it
    is attended to and does not count.
    """
    given = batch.inputs.get("attention_mask") if isinstance(batch.inputs, Mapping) else None
    return tokens if given is None or given.shape != tokens.shape else given.bool()


def regressors(
    layers: Layers, student: Outputs, teacher: Signal, build: Callable[[Tapped], nn.Module]
) -> nn.ModuleList:
    """One module a pair of maps, built from the shapes of a dry pass."""
    return nn.ModuleList(build(pair) for pair in tapped_maps(layers, student, teacher))


def regressed(regressor: nn.Module, features: Tensor) -> Tensor:
    """A regressor's answer, in its own precision."""
    weight = next(regressor.parameters(), None)
    return regressor(features if weight is None else features.to(weight.dtype))


def valid_convolution(pair: Tapped) -> nn.Conv2d:
    """No padding, kernel H_s - H_t + 1: every output sees as much of the student's map."""
    kernel = tuple(
        ours - theirs + 1
        for ours, theirs in zip(pair.student.shape[2:], pair.teacher.shape[2:], strict=True)
    )
    if min(kernel) < 1:
        raise _too_small(pair)
    return nn.Conv2d(pair.student.shape[1], pair.teacher.shape[1], (kernel[0], kernel[1]))


def matching_convolution(pair: Tapped) -> nn.Module:
    """1x1 between equal sizes; strided, transposed or valid where they differ."""
    ours, theirs = pair.student.shape[2:], pair.teacher.shape[2:]
    c, d = pair.student.shape[1], pair.teacher.shape[1]
    if all(2 * s == t for s, t in zip(ours, theirs, strict=True)):
        return nn.ConvTranspose2d(c, d, kernel_size=4, stride=2, padding=1)
    if all(s == 2 * t for s, t in zip(ours, theirs, strict=True)):
        return nn.Conv2d(c, d, kernel_size=3, stride=2, padding=1)
    return valid_convolution(pair)


def pointwise(pair: Tapped) -> nn.Module:
    """A 1x1 convolution where channels differ, nothing where they agree."""
    c, d = pair.student.shape[1], pair.teacher.shape[1]
    return nn.Identity() if c == d else nn.Conv2d(c, d, kernel_size=1)


def activated(*modules: nn.Module, activation: Activation) -> nn.Sequential:
    """The modules in a row, and the activation."""
    return nn.Sequential(*modules, *([nn.ReLU()] if activation == "relu" else []))


@final
class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that survives a batch of one value a channel.

    One value has no variance; it is normalised with the running statistics, which stay.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The normalised map."""
        if input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def _too_small(pair: Tapped) -> ModelError:
    return ModelError(
        f"{pair.words} have maps of {tuple(pair.student.shape[2:])} and "
        f"{tuple(pair.teacher.shape[2:])}",
        "the regressor has no padding and cannot enlarge the student's map",
        "Pair an earlier layer of the student, or a later one of the teacher.",
    )
