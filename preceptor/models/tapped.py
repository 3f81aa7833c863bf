"""Any module as one that shows `Outputs`: it normalises its own input and reads its own taps.

Dimension key: *n positions, v classes, c channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.causal import language_head, last_hidden
from preceptor.models.dry import undisturbed
from preceptor.models.grafts import Grafted
from preceptor.models.taps import expand, reading, unmoved_taps
from preceptor.types import Head, Inputs, Outputs, Projected, map_tensors

_PIXELS = "pixel_values"  # What transformers call the images among keyword tensors.


@final
class TappedModel(nn.Module):
    """A classifier of any origin, seen by the rest of the package in one way.

    Args:
        module: takes [B, C, H, W] (or keyword tensors) and returns logits, a mapping or an object
            with `.logits`.
        mean, std: the input normalisation that belongs to the model, one number a channel;
            empty for none. Batches hold pixels in [0, 1].
        head: the name of the linear classifier inside `module`; empty where there is none.
        reads: the taps to show.
        spec: how to make the module again (`models.load`); saved beside the weights.
        causal: a language model of transformers: it shows hidden states and its head.
        vocabulary: of a language model, how many rows of the head are classes; the others get no
            probability. 0 for all.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        head: str = "",
        reads: frozenset[str] = frozenset(),
        spec: Mapping[str, Any] | None = None,
        causal: bool = False,
        vocabulary: int = 0,
    ) -> None:
        super().__init__()
        self.module = module
        self.causal, self.vocabulary = causal, vocabulary
        self._mean: Tensor
        self._std: Tensor
        self.head_name = head
        self.reads = reads
        self.spec = dict(spec or {})
        self.mean, self.std = tuple(mean), tuple(std)
        if len(self.mean) != len(self.std) or any(width <= 0 for width in self.std):
            raise ModelError(
                f"a model was given mean {list(self.mean)} and std {list(self.std)}",
                "each channel has one mean and one positive standard deviation",
                "Give as many of one as of the other, or neither.",
            )
        # Plain buffers outside the state: the numbers are part of the spec, not learned.
        shape = (1, len(self.mean), 1, 1)
        self.register_buffer("_mean", torch.tensor(self.mean).view(shape), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(shape), persistent=False)
        self._unmoved: frozenset[str] | None = None

    def forward(self, inputs: Inputs) -> Outputs:
        """Logits, the taps named in `reads`, and the classifier."""
        if not self.reads:
            answer, taps = self._call(inputs), {}
        else:
            with reading(self.module, self.reads, unmoved=self._still(inputs)) as taps:
                answer = self._call(inputs)
        if self.causal:
            # Asked for after the pass: sharded parameters are whole by then.
            head = language_head(self.module)
            head = head.first(self.vocabulary or len(head.weight))
            return Outputs(Projected(answer, head), taps, head)
        logits = answer if isinstance(answer, Tensor) else _logits(answer)
        return Outputs(logits, taps, self.head() if self.has_head() else None)

    def _call(self, inputs: Inputs) -> Any:
        if self.causal:
            assert not isinstance(inputs, Tensor), "a language model reads keyword tensors"
            return last_hidden(self.module, inputs)
        if isinstance(inputs, Tensor):
            return self.module(self.normalized(inputs))
        if _PIXELS in inputs:
            inputs = {**inputs, _PIXELS: self.normalized(inputs[_PIXELS])}
        return self.module(**inputs)

    def _still(self, inputs: Inputs) -> frozenset[str]:
        """The taps that need no copy, found once by a pass of two examples that leaves no trace.

        Found before the first real pass, so that a resumed run computes in the same order as an
        uninterrupted one.
        """
        if not self.reads or torch.is_inference_mode_enabled():
            return frozenset()
        if self._unmoved is None:
            two = map_tensors(inputs, lambda tensor: tensor[:2])
            with undisturbed(self.module):
                self._unmoved = unmoved_taps(self.module, self.reads, lambda: self._call(two))
        return self._unmoved

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] as the module expects them."""
        if not self.mean:
            return pixels
        if pixels.dim() != 4 or pixels.shape[1] != len(self.mean) or not pixels.is_floating_point():
            raise ModelError(
                f"the model saw {pixels.dtype} pixels of shape {tuple(pixels.shape)}",
                f"it normalises {len(self.mean)} channels of [B, C, H, W] numbers in [0, 1]",
                "Give such pixels, or another `mean` and `std`.",
            )
        return (pixels - self._mean) / self._std

    def reading(self, taps: frozenset[str]) -> "TappedModel":
        """The same module, showing these taps (globs are expanded).

        An unknown name answers with the nearest three.
        """
        names = frozenset(name for tap in taps for name in expand(self.module, tap))
        model = TappedModel(
            self.module,
            mean=self.mean,
            std=self.std,
            head=self.head_name,
            reads=names,
            spec=self.spec,
            causal=self.causal,
            vocabulary=self.vocabulary,
        )
        model._mean, model._std = self._mean, self._std  # Where they are, in their precision.
        # Not `train()`, which would also thaw what was put into eval mode on purpose.
        model.training = self.training
        return model

    def grafted(self, module: nn.Module, tap: str, spec: Mapping[str, Any]) -> "TappedModel":
        """A model whose logits are `module(tap)`; this one's own classifier is left out.

        Works on a copy. Modules are then named `trunk.<name>` and `graft.<name>`.

        Args:
            module: takes the tap's tensor and returns logits.
            tap: where the graft sets on.
            spec: how to make `module` again: {"class": "package.module:Class", "arguments": {...}},
                and "head", the name of its linear classifier, where it has one.
        """
        inside = spec.get("head", "")
        return TappedModel(
            Grafted.onto(self.module, module, tap, head=self.head_name),
            mean=self.mean,
            std=self.std,
            head=f"graft.{inside}" if inside else "",
            spec={**self.spec, "graft": {**spec, "tap": tap, "replaces": self.head_name}},
        )

    def has_head(self) -> bool:
        """Whether the module ends in a known linear classifier."""
        return bool(self.head_name)

    def head(self) -> Head:
        """The linear classifier's own parameters, with their graph."""
        try:
            linear = self.module.get_submodule(self.head_name)
        except AttributeError:
            linear = nn.Identity()
        weight, bias = getattr(linear, "weight", None), getattr(linear, "bias", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2 or weight.shape[2:].numel() != 1:
            raise ModelError(
                f"the classifier {self.head_name!r} is a {type(linear).__name__}",
                "a head is one linear layer or 1x1 convolution",
                "Name the linear layer with `head`.",
            )
        return Head(weight.flatten(1), bias if isinstance(bias, Tensor) else None)


def _logits(answer: Any) -> Tensor:
    found = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if not isinstance(found, Tensor):
        raise ModelError(
            f"the model returned a {type(answer).__name__}",
            "a classifier returns logits, or something with `.logits`",
            "Wrap it in a module that returns its logits.",
        )
    return found
