"""What functions make of several parameters, and so is the same for every example.

A network of its own that gives relative positions, a table that goes through a norm and the layers
of tokens, products of parameters: each is computed once. In the pass's graph it stands for one copy
an example, of which none is made; slopes come back for each example apart, through layers by their
rules and through any other function by its vector-Jacobian product for all examples at once.

Dimension key: b examples, *s axes of what was made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map, tree_map_only

from preceptor.selection.arguments import Arguments, pair
from preceptor.selection.einsum import einsum_beside, einsum_once
from preceptor.selection.entry import Entry
from preceptor.selection.linear import linear
from preceptor.selection.norms import layer_normed
from preceptor.selection.once import Once, picked
from preceptor.selection.shared import each_made
from preceptor.selection.small import beside, spread_to
from preceptor.selection.strange import refusal, unfit
from preceptor.selection.tracked import Tracked


class Derived(Tensor):
    """It holds the numbers once.

    Attributes:
        once: what it is copied from, for each example.
        entries: of the parameters that it was made of.
    """

    once: Once
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, every: Float[Tensor, "b *s"], entries: tuple[Entry, ...]) -> "Derived":
        """What these copies, one an example, are copies of."""
        return cls.made(Once.of(every), entries)

    @classmethod
    def made(cls, once: Once, entries: tuple[Entry, ...]) -> "Derived":
        """What is copied for each example once it meets what examples have of their own."""
        found = once.numbers.detach().as_subclass(cls)
        found.once, found.entries = once, entries
        return found

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Asked by torch of every function that one of these is an argument of."""
        del types
        with torch._C.DisableTorchFunctionSubclass():
            return derived(func, args, kwargs or {})


def derived(func: Any, args: Sequence[Any], named: dict[str, Any]) -> Any:
    """What a function gives of parameters, or of what was made of them, beside other things.

    Raises:
        Strange: it meets the examples in a way that is not known.
    """
    if not torch.is_grad_enabled():  # What is made here has no gradient.
        args, named = tree_map_only((Tracked, Derived), _plain, (args, named))
        return func(*args, **named)
    call = _Call(func, args, named)
    own = call.entries[0]
    if own.ledger.examples == 1:
        raise unfit(own.ledger, "takes what several parameters made")
    for entry in call.entries:
        entry.seen()
    met = call.met()
    if func in _ROWS and call.is_layer(met):
        return _ROWS[func](call.entries, *args, **named)
    if func in _READ:
        found = _READ[func](call, *args, **named)
        if found is not None:
            return found
    return call.beside(met) if met else call.once()


def expect_examples(x: Tensor) -> Tensor:
    """What it is given, where examples played a part in it.

    Raises:
        Strange: none was met, for they stand along another axis than the first.
    """
    if isinstance(x, Derived):
        raise refusal(x.entries[0], "with what seems to be the same for all examples")
    return x


@final
@dataclass
class _Call:
    """A function and what it is given."""

    func: Any
    args: Sequence[Any]
    named: dict[str, Any]

    def __post_init__(self) -> None:
        self._all = Arguments(self.args, self.named)
        self.leaves = self._all.leaves
        self.places = [i for i, x in enumerate(self.leaves) if isinstance(x, Tracked | Derived)]
        found: dict[int, Entry] = {}
        for place in self.places:
            found.update((id(entry), entry) for entry in _entries(self.leaves[place]))
        self.entries = tuple(found.values())

    def met(self) -> list[Tensor]:
        """The tensors that have rows of each example."""
        ledger, names = self.entries[0].ledger, tuple(entry.name for entry in self.entries)
        found: list[Tensor] = []
        for place, x in enumerate(self.leaves):
            if not isinstance(x, Tensor) or isinstance(x, Tracked | Derived | nn.Parameter):
                continue
            # What is read at some of one's places is the same for all.
            is_number = x.is_floating_point() or x.dtype == torch.bool or self.func in _BROADCAST
            if is_number and ledger.is_of_each(x, (self.func, place, names)):
                found.append(x)
        return found

    def is_layer(self, met: Sequence[Tensor]) -> bool:
        """Whether parameters stand where a layer's do, and no example plays a part."""
        weights = [*self.args[1:], *self.named.values()]
        tracked = [x for x in weights if isinstance(x, Tracked)]
        return not met and bool(tracked) and not any(isinstance(x, Derived) for x in weights)

    def _with(self, values: Sequence[Any]) -> Any:
        leaves = list(self.leaves)
        for place, value in zip(self.places, values, strict=True):
            leaves[place] = value
        return self._all.given_to(self.func, leaves)

    def once(self) -> Any:
        """What it gives for all examples."""
        own = [once(self.leaves[place]).continued() for place in self.places]
        ones = [each.numbers for each in own]
        roots = {key: root for each in own for key, root in each.roots.items()}
        before, is_changed = [x._version for x in ones], self._is_changed()
        with torch.enable_grad():
            given = [x.clone() for x in ones] if is_changed else ones
            found = self._with(given)
        if is_changed:
            if not isinstance(self.args[0], Derived):
                raise refusal(self.entries[0], "as what is written to what it is not")
            found = given[0]
        if any(x._version != version for x, version in zip(ones, before, strict=True)):
            raise refusal(self.entries[0], "as what is changed on the way")

        def made(x: Any) -> Any:
            has_gradient = isinstance(x, Tensor) and x.requires_grad
            return Derived.made(Once(x, roots), self.entries) if has_gradient else x

        result = made(found) if isinstance(found, Tensor) else tree_map(made, found)
        return self._changed(result) if is_changed else result

    def _is_changed(self) -> bool:
        """Whether the first of what it is given is written to."""
        name = getattr(self.func, "__name__", "")
        by_name = name.endswith("_") and not name.endswith("__")
        by_name = by_name or name in _WRITING
        return by_name or bool(self.named.get("inplace"))

    def _changed(self, result: Derived) -> Derived:
        own: Derived = self.args[0]
        own.data = result.once.numbers.detach()
        own.once, own.entries = result.once, result.entries
        return own

    def beside(self, met: Sequence[Tensor]) -> Any:
        """What it gives for each example, of tensors that have rows of each."""
        entry, widest = self.entries[0], max(met, key=Tensor.dim)
        every = [each(self.leaves[place]) for place in self.places]
        if self._is_changed() and 0 in self.places:
            raise refusal(entry, "as what is written to")
        is_vector = self.func in _PRODUCTS and any(value.dim() == 2 for value in every)
        if self.func in _BROADCAST and not is_vector:
            return self._with([beside(entry, value, widest) for value in every])
        if self.func is torch.einsum and len(self.places) == 1:
            value, (equation, *operands) = self.leaves[self.places[0]], self.args
            return einsum_beside(entry, equation, operands, value, every[0])
        if all(x.dim() == widest.dim() + 1 and x.shape[1] == 1 for x in every):
            return self._with([value.flatten(0, 1) for value in every])
        raise refusal(entry, f"in `{getattr(self.func, '__name__', self.func)}`")


def _plain(value: Tracked | Derived) -> Tensor:
    return value.as_subclass(Tensor)


def _entries(value: Tracked | Derived) -> tuple[Entry, ...]:
    return value.entries if isinstance(value, Derived) else (value.entry,)


def each(value: Tracked | Derived) -> Float[Tensor, "b *s"]:
    """One copy an example."""
    return value.once.every if isinstance(value, Derived) else each_made(value)


def once(value: Tracked | Derived) -> Once:
    """What functions of parameters alone are computed of."""
    return value.once if isinstance(value, Derived) else Once.of(each_made(value))


def _linear(entries: tuple[Entry, ...], input: Any, weight: Any, bias: Any = None) -> Derived:
    x = _rows(entries, input)
    found = linear(entries[0].ledger, x, pair(weight), pair(bias), once=True)
    return Derived.of(found, entries)


def _einsum(entries: tuple[Entry, ...], equation: Any, *operands: Any) -> Derived:
    return Derived.of(einsum_once(equation, *operands), entries)


def _layer_norm(
    entries: tuple[Entry, ...],
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Derived:
    x, ledger = _rows(entries, input), entries[0].ledger
    found = layer_normed(ledger, x, normalized_shape, pair(weight), pair(bias), eps, once=True)
    return Derived.of(found, entries)


def _rows(entries: tuple[Entry, ...], x: Any) -> Float[Tensor, "b *s"]:
    if any(entry.axis for entry in entries):
        raise refusal(entries[0], "with what is the same for all examples")
    if isinstance(x, Tracked | Derived):
        return each(x)
    return x.expand(entries[0].ledger.examples, *x.shape)


def _picked(call: _Call, value: Any, index: Any) -> Derived | None:
    """At places that a tensor tells."""
    asked = index if isinstance(index, tuple) else (index,)
    is_read = isinstance(value, Derived) and len(call.places) == 1
    if not is_read or not any(isinstance(each, Tensor) for each in asked):
        return None
    return Derived.of(picked(value.once.every, index), call.entries)


def _expanded(call: _Call, value: Any, *sizes: Any, **named: Any) -> Tensor | None:
    """Along the first axis once for each example, or not at all."""
    wanted = tuple(sizes[0]) if sizes and not isinstance(sizes[0], int) else sizes
    kept = (-1, len(value)) if 0 < value.dim() == len(wanted) else (1,)
    if named or not wanted or wanted[0] in kept:
        return None
    return spread_to(call.entries[0], each(value), wanted)


def _repeated(call: _Call, value: Any, *sizes: Any, **named: Any) -> Tensor | None:
    """The same, whatever its first axis is."""
    times = tuple(sizes[0]) if sizes and not isinstance(sizes[0], int) else sizes
    if named or not times or times[0] == 1:
        return None
    if times[0] != call.entries[0].ledger.examples:
        raise refusal(call.entries[0], f"{times[0]} times")
    own, more = each(value), len(times) - value.dim()
    own = own.reshape(len(own), *[1] * max(0, more - 1), *own.shape[1:])
    if more:
        return own.repeat(1, *times[1:])
    return own.repeat(1, 1, *times[1:]).flatten(0, 1)


_Rule = Callable[..., Any]
_ROWS: dict[Any, _Rule] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    torch.einsum: _einsum,
}
"""Layers of which each row is given for itself."""
_READ: dict[Any, _Rule] = {
    Tensor.__getitem__: _picked,
    Tensor.expand: _expanded,
    Tensor.repeat: _repeated,
}
"""Functions that may make the first axis one of examples, or read places that a tensor tells."""
_NAMES = ("add", "sub", "mul", "div", "true_divide", "maximum", "minimum", "pow")
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__rmatmul__}
_WRITING = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__setitem__")
_METHODS = ("add_", "sub_", "mul_", "div_", "__iadd__", "__isub__", "__imul__", "__rsub__")
_BROADCAST = {
    F.scaled_dot_product_attention,
    torch.where,
    torch.addcmul,
    *_PRODUCTS,
    *(getattr(kind, name) for name in _NAMES for kind in (torch, Tensor) if hasattr(kind, name)),
    *(getattr(Tensor, name) for name in _METHODS),
}
"""Functions whose axes are lined up from the last one on."""
