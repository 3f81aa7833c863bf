"""Reading tensors at named modules during one forward pass.

A tap's name is a module's name, by default its output; `name:input` is its first input,
`name:output[1]` the second of several outputs, "" the whole model. `layer*.1` is a glob.
"""

import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from preceptor.errors import ModelError, nearest

_NAME = re.compile(r"^(?P<module>[^:]*)(:(?P<side>input|output)(\[(?P<index>\d+)\])?)?$")


def find_module(model: nn.Module, tap: str) -> nn.Module:
    """The module that a tap reads."""
    match = _NAME.match(tap)
    modules = dict(model.named_modules())
    name = match["module"] if match else tap
    if name not in modules:
        raise ModelError(
            f"the tap {tap!r} was asked of a {type(model).__name__}",
            "it has no module of that name",
            f"Nearest: {nearest(name, modules)}. `preceptor taps` lists them all.",
        )
    return modules[name]


@contextmanager
def reading(model: nn.Module, taps: frozenset[str]) -> Iterator[dict[str, Tensor]]:
    """Collects the taps of the forward passes made inside the block, by name."""
    found: dict[str, Tensor] = {}
    hooks = []
    for tap in sorted(taps):
        match = _NAME.match(tap)
        module = find_module(model, tap)
        assert match is not None
        index = int(match["index"] or 0)
        if match["side"] == "input":
            hook = module.register_forward_pre_hook(_keep_input(found, tap, index))
        else:
            hook = module.register_forward_hook(_keep_output(found, tap, index))
        hooks.append(hook)
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def expand(model: nn.Module, pattern: str) -> tuple[str, ...]:
    """The modules that a glob names, in the model's own order."""
    names = [name for name, _ in model.named_modules() if fnmatch.fnmatchcase(name, pattern)]
    return tuple(names)


def _keep_input(found: dict[str, Tensor], tap: str, index: int) -> Any:
    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        found[tap] = args[index]

    return keep


def _keep_output(found: dict[str, Tensor], tap: str, index: int) -> Any:
    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args
        found[tap] = output if isinstance(output, Tensor) else output[index]

    return keep
