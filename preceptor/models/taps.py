"""Reading tensors at named modules during one forward pass.

A tap's name is a module's name and means its output; `name:input` is its first input, "" the
whole model. Where there are several, `name:output[1]` is the second and `name:output[logits]` the
one of that name; the first is meant where none is named. In a glob, `*` stands for anything
within one part of a name, `**` for any parts: `stage*.0`, `**.relu`.

A module that is called several times in a pass shows its last call.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from preceptor.errors import ModelError, nearest

_NAME = re.compile(r"^(?P<module>[^:]*)(:(?P<side>input|output)(\[(?P<item>\w+)\])?)?$")


@dataclass(frozen=True)
class Tap:
    """A tap's name, taken apart; `item` is empty where the first tensor is meant."""

    name: str
    module: str
    side: Literal["input", "output"]
    item: str


def parsed(tap: str) -> Tap:
    """A tap's name, taken apart.

    >>> parsed("stage1.0:output[1]")
    Tap(name='stage1.0:output[1]', module='stage1.0', side='output', item='1')
    """
    match = _NAME.match(tap)
    if match is None:
        raise ModelError(
            f"the tap {tap!r} was asked for",
            "after a colon stands `input` or `output`, and which one in brackets",
            "Write `module`, `module:input` or `module:output[1]`.",
        )
    side: Literal["input", "output"] = "input" if match["side"] == "input" else "output"
    return Tap(tap, match["module"], side, match["item"] or "")


def find_module(model: nn.Module, tap: str) -> nn.Module:
    """The module that a tap reads; an unknown name answers with the nearest three."""
    name = parsed(tap).module
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise _unknown(model, tap, name) from None


def expand(model: nn.Module, pattern: str) -> tuple[str, ...]:
    """The taps that a glob names, in the model's own order; a plain name is itself.

    >>> expand(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "*:input")
    ('0:input', '1:input')
    """
    tap = parsed(pattern)
    if not set(tap.module) & set("*?"):
        find_module(model, pattern)
        return (pattern,)
    glob = re.escape(tap.module)
    glob = glob.replace(r"\*\*", ".+").replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
    names = [name for name, _ in model.named_modules() if name and re.fullmatch(glob, name)]
    if not names:
        raise _unknown(model, pattern, tap.module)
    return tuple(name + pattern[len(tap.module) :] for name in names)


@contextmanager
def reading(
    model: nn.Module, taps: frozenset[str], *, unmoved: frozenset[str] = frozenset()
) -> Iterator[dict[str, Tensor]]:
    """Collects the taps of the forward pass made inside the block, by name.

    Every tap is a copy, since a later operation may write over what a module returned (a ReLU in
    place, `x += y`); those named in `unmoved` are the tensors themselves (see `unmoved_taps`).
    The hooks are gone after the block, also after an error. Under activation checkpointing taps
    keep their gradient with `use_reentrant=False`; the other kind is refused.
    """
    reader = _Reader(unmoved)
    with _hooked(model, taps, reader):
        yield reader.found
    reader.check(taps)


def unmoved_taps(
    model: nn.Module, taps: frozenset[str], run: Callable[[], object]
) -> frozenset[str]:
    """Taps that nothing writes over during the forward pass that `run` makes."""
    reader = _Reader(taps)
    with _hooked(model, taps, reader):
        run()
    return taps & reader.found.keys() - reader.moved()


@contextmanager
def _hooked(model: nn.Module, taps: frozenset[str], reader: "_Reader") -> Iterator[None]:
    handles = []
    try:
        for name in taps:
            module, tap = find_module(model, name), parsed(name)
            if tap.side == "input":
                hook = reader.input_hook(tap)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(reader.output_hook(tap)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reader:
    """What the hooks of one block fill."""

    def __init__(self, unmoved: frozenset[str]) -> None:
        self.found: dict[str, Tensor] = {}
        self._unmoved = unmoved
        self._versions: dict[str, int] = {}
        self._graded = torch.is_grad_enabled()

    def input_hook(self, tap: Tap) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            named = {**{str(index): value for index, value in enumerate(args)}, **kwargs}
            self._keep(tap, module, named if len(named) != 1 else next(iter(named.values())))

        return hook

    def output_hook(self, tap: Tap) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del args
            self._keep(tap, module, output)

        return hook

    def _keep(self, tap: Tap, module: nn.Module, value: Any) -> None:
        tensor = picked(tap, value)
        lost = self._graded and not torch.is_grad_enabled()
        if lost and any(parameter.requires_grad for parameter in module.parameters()):
            raise ModelError(
                f"the tap {tap.name!r} was read",
                "its module ran without gradients inside a pass that has them, as under "
                "reentrant activation checkpointing",
                "Checkpoint with `use_reentrant=False`, or freeze the module.",
            )
        # Tensors of inference mode do not count their changes.
        if tap.name in self._unmoved and not tensor.is_inference():
            self._versions[tap.name] = tensor._version
        else:
            tensor = tensor.clone()
        self.found[tap.name] = tensor

    def moved(self) -> frozenset[str]:
        """Taps that were written over after they were read."""
        return frozenset(
            name for name, version in self._versions.items() if self.found[name]._version != version
        )

    def check(self, taps: frozenset[str]) -> None:
        for name in sorted(taps - self.found.keys()):
            raise ModelError(
                f"the tap {name!r} was asked for",
                "its module was not called in the forward pass",
                "Name a module that the model calls; `preceptor taps` lists them.",
            )
        for name in sorted(self.moved()):
            raise ModelError(
                f"the tap {name!r} was read without a copy",
                "a later operation of the model wrote over it",
                "Leave it out of `unmoved`.",
            )


def picked(tap: Tap, value: Any) -> Tensor:
    """The tensor that a tap means in what a module took or returned."""
    if isinstance(value, Tensor) and tap.item in ("", "0"):
        return value
    items: dict[str, Any] = {}
    if isinstance(value, Mapping):
        items = {str(name): item for name, item in value.items()}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = {str(index): item for index, item in enumerate(value)}
    tensors = {name: item for name, item in items.items() if isinstance(item, Tensor)}
    if tap.item == "" and tensors:
        return next(iter(tensors.values()))
    if tap.item in tensors:
        return tensors[tap.item]
    if tap.item.isdigit() and int(tap.item) < len(items):
        # A mapping's values by their place, as transformers' outputs are read.
        item = list(items.values())[int(tap.item)]
        if isinstance(item, Tensor):
            return item
    raise ModelError(
        f"the tap {tap.name!r} was read from a {type(value).__name__}",
        f"there {_count(value, tensors)}",
        "Name one of them in brackets.",
    )


def _count(value: Any, tensors: Mapping[str, Tensor]) -> str:
    if isinstance(value, Tensor):
        return "is one tensor, without a number or name"
    return f"the tensors are {', '.join(tensors) or 'none'}"


def _unknown(model: nn.Module, tap: str, name: str) -> ModelError:
    names = dict(model.named_modules())
    return ModelError(
        f"the tap {tap!r} was asked of a {type(model).__name__}",
        "it has no module of that name",
        f"Nearest: {nearest(name, names)}. `preceptor taps` lists them all.",
    )
