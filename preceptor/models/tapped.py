"""Any module as one that shows `Outputs`: it normalises its own input and reads its own taps.

Dimension key: *n positions, v classes, c channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.taps import find_module, reading
from preceptor.types import Head, Inputs, Outputs


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
    ) -> None:
        super().__init__()
        self.module = module
        self._mean: Tensor
        self._std: Tensor
        self.head_name = head
        self.reads = reads
        self.spec = dict(spec or {})
        self.mean, self.std = tuple(mean), tuple(std)
        # Plain buffers outside the state: the numbers are part of the spec, not learned.
        shape = (1, len(self.mean), 1, 1)
        self.register_buffer("_mean", torch.tensor(self.mean).view(shape), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(shape), persistent=False)

    def forward(self, inputs: Inputs) -> Outputs:
        """Logits, the taps named in `reads`, and the classifier."""
        with reading(self.module, self.reads) as taps:
            answer = self._call(inputs)
        logits = answer if isinstance(answer, Tensor) else _logits(answer)
        return Outputs(logits, taps, self.head() if self.has_head() else None)

    def _call(self, inputs: Inputs) -> Any:
        if isinstance(inputs, Tensor):
            return self.module(self.normalized(inputs))
        return self.module(**inputs)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] as the module expects them."""
        if not self.mean:
            return pixels
        return (pixels - self._mean) / self._std

    def reading(self, taps: frozenset[str]) -> "TappedModel":
        """The same module, showing these taps; an unknown name answers with the nearest three."""
        for name in taps:
            find_module(self.module, name)
        return TappedModel(
            self.module,
            mean=self.mean,
            std=self.std,
            head=self.head_name,
            reads=taps,
            spec=self.spec,
        ).train(self.training)

    def has_head(self) -> bool:
        """Whether the module ends in a known linear classifier."""
        return bool(self.head_name)

    def head(self) -> Head:
        """The linear classifier's own parameters, with their graph."""
        linear = self.module.get_submodule(self.head_name)
        weight, bias = getattr(linear, "weight", None), getattr(linear, "bias", None)
        if not isinstance(weight, Tensor):
            raise ModelError(
                f"the classifier {self.head_name!r} is a {type(linear).__name__}",
                "a head is one linear layer",
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
