"""What a model is made of, as one pass shows it: stages of maps, or blocks of tokens.

A *stage* is all that a convolutional network does at one resolution. Its output is what the
module that lowers the resolution takes in; of the last stage, the last map. *Blocks* are
transformers': modules of one class in a row that return [B, T, D].
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.shapes import Visit, visits
from preceptor.models.tapped import TappedModel
from preceptor.types import Inputs


@dataclass(frozen=True)
class Spot:
    """A tap, its shape, and how far into the model it lies: the share of weighted layers done."""

    tap: str
    shape: tuple[int, ...]
    depth: float


@dataclass(frozen=True)
class Stage:
    """A stage's output, and its input; none where the stage reads the pixels themselves."""

    exit: Spot
    entry: Spot | None


@dataclass(frozen=True)
class Anatomy:
    """What a model shows; empty where it has nothing of the kind."""

    stages: tuple[Stage, ...]
    blocks: tuple[Spot, ...]
    attention: tuple[Spot, ...]


def anatomy(model: TappedModel, inputs: Inputs) -> Anatomy:
    """A model's stages, blocks and attention maps, in order, from one pass without a trace."""
    found = _Pass(visits(model, inputs)[1])
    blocks = found.blocks()
    return Anatomy(() if blocks else found.stages(), blocks, found.attention(blocks))


_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
)
"""What architectures call the layers that make queries, keys and values."""


def projections(model: TappedModel, block: str, who: str) -> tuple[str, str, str]:
    """The taps of a block's queries, keys and values [B, T, D], before any rotation of positions.

    Errors:
        ModelError: the block makes all three with one layer, or calls them otherwise.
    """
    inside = {
        _own_name(name): name for name, _ in model.module.get_submodule(block).named_modules()
    }
    for names in _PROJECTIONS:
        if all(name in inside for name in names):
            query, key, value = (f"{block}.{inside[name]}" for name in names)
            return query, key, value
    raise ModelError(
        f"queries, keys and values of the {who}'s {block!r} were looked for",
        f"it has no three layers named as in {' or '.join('/'.join(n) for n in _PROJECTIONS)}",
        "Name them with `layers`; one layer that makes all three cannot be taken apart.",
    )


@dataclass(frozen=True)
class _Exit:
    """Where a stage ends: the tensor, its tap, the time, and the module that returned it."""

    tensor: Tensor
    tap: str
    time: int
    maker: Visit | None


class _Pass:
    """The visits of one pass, and what is read from them."""

    def __init__(self, seen: Sequence[Visit]) -> None:
        self.pixels = _first(next(visit.inputs for visit in seen if visit.name == ""))
        self.seen = [visit for visit in seen if visit.name]
        self.weighted = [v.left for v in self.seen if isinstance(v.module, nn.Conv2d | nn.Linear)]
        # Windows of attention lie on the first axis: an image is cut into several.
        maps = [v for v in self.seen if _is_map(_plain(v)) and self._a_row_an_image(_plain(v))]
        # Resolutions are those of convolutions: inside a block, maps may have their channels last.
        convolutions = [visit for visit in maps if isinstance(visit.module, nn.Conv2d)]
        sizes = {_size(visit) for visit in convolutions}
        # One convolution before many linear layers cuts a transformer's patches.
        embeds = len(convolutions) == 1 and len(self.weighted) > 4
        self.maps = [] if embeds else [visit for visit in maps if _size(visit) in sizes]

    def _a_row_an_image(self, tensor: Tensor | None) -> bool:
        return self.pixels is None or tensor is None or len(tensor) == len(self.pixels)

    def blocks(self) -> tuple[Spot, ...]:
        """Outermost members of a row of modules of one class that return [B, T, D]."""
        kinds: dict[str, set[type]] = {}
        for visit in self.seen:
            kinds.setdefault(_parent(visit.name), set()).add(type(visit.module))
        found: list[Spot] = []
        for visit in self.seen:
            output = _first(visit.outputs)
            in_a_row = _own_name(visit.name).isdigit() and len(kinds[_parent(visit.name)]) == 1
            outermost = not any(visit.name.startswith(f"{block.tap}.") for block in found)
            if output is None or output.dim() != 3 or not any(visit.module.children()):
                continue
            if not self._a_row_an_image(output):
                continue
            if in_a_row and outermost:
                found.append(self._spot(visit.name, output, visit.left))
        return tuple(found)

    def attention(self, blocks: Sequence[Spot]) -> tuple[Spot, ...]:
        """Each block's last output of shape [B, h, T, T]."""
        found: dict[str, Spot] = {}
        for visit in sorted(self.seen, key=lambda visit: visit.left):
            block = next((b for b in blocks if visit.name.startswith(f"{b.tap}.")), None)
            for item, tensor in visit.outputs.items():
                tokens = block.shape[1] if block is not None else 0
                if block is not None and tensor.dim() == 4 and tensor.shape[2:] == (tokens, tokens):
                    tap = f"{visit.name}:output[{item}]" if item else visit.name
                    found[block.tap] = self._spot(tap, tensor, visit.left)
        return tuple(found.values())

    def stages(self) -> tuple[Stage, ...]:
        """One stage a resolution, the largest first; a stem alone is none."""
        sizes = sorted({_size(visit) for visit in self.maps}, key=lambda hw: -hw[0] * hw[1])
        exits: list[_Exit] = []
        for size, below in zip(sizes, [*sizes, (0, 0)][1:], strict=True):
            step = self._step(size, below)
            if step is not None:
                exits.append(self._before(step))
            else:
                exits.append(self._last(size, after=exits[-1].time if exits else 0))
        spots = [self._spot(exit.tap, exit.tensor, exit.time) for exit in exits]
        entries = [self._stem(exits[0]), *spots[:-1]] if exits else []
        stages = tuple(Stage(spot, entry) for spot, entry in zip(spots, entries, strict=True))
        return stages[1:] if self._begins_with_stem(exits) else stages

    def _step(self, size: tuple[int, int], below: tuple[int, int]) -> Visit | None:
        """The outermost module that takes in one resolution and returns the next."""
        steps = [
            visit
            for visit in self.maps
            if _size(visit) == below
            and _is_map(_first(visit.inputs))
            and _entered_size(visit) == size
            and _first(visit.inputs) is not self.pixels
        ]
        step = next(iter(steps), None)
        while step is not None and isinstance(step.module, nn.Sequential):
            # A row that does more than the step alone: its member that takes the step.
            inner = [v for v in steps if _parent(v.name) == step.name]
            if not inner or _first(inner[0].inputs) is _first(step.inputs):
                break
            step = inner[0]
        return step

    def _before(self, step: Visit) -> _Exit:
        tensor = _first(step.inputs)
        assert tensor is not None
        makers = [v for v in self.maps if _plain(v) is tensor and v.left < step.entered]
        # Of several that return one tensor the last: after a ReLU in place, around its block.
        maker = max(makers, key=lambda visit: visit.left, default=None)
        tap = f"{step.name}:input" if maker is None else maker.name
        return _Exit(tensor, tap, step.entered, maker)

    def _last(self, size: tuple[int, int], after: int) -> _Exit:
        here = [visit for visit in self.maps if _size(visit) == size]
        # What lies inside a block that leaves this resolution is on its way to the next one.
        leaving = [v.name for v in self.seen if _shrinks(v, size) and v.entered >= after]
        own = [v for v in here if not any(v.name.startswith(f"{name}.") for name in leaving)]
        inside = [visit for visit in own if visit.entered >= after]
        maker = max(inside or own or here, key=lambda visit: visit.left)
        tensor = _plain(maker)
        assert tensor is not None
        return _Exit(tensor, maker.name, maker.left, maker)

    def _stem(self, first: _Exit) -> Spot | None:
        """What the first stage takes in, where that is not the pixels."""
        maker = first.maker
        taken = None if maker is None else _first(maker.inputs)
        if maker is None or not any(maker.module.children()) or not _is_map(taken):
            return None
        if taken is None or taken is self.pixels:
            return None
        makers = [v for v in self.maps if _plain(v) is taken and v.left < maker.entered]
        stem = max(makers, key=lambda visit: visit.left, default=None)
        tap = f"{maker.name}:input" if stem is None else stem.name
        return self._spot(tap, taken, maker.entered)

    def _begins_with_stem(self, exits: Sequence[_Exit]) -> bool:
        """Whether the first resolution has a single convolution and the second a block of them."""
        if len(exits) < 2:
            return False
        times = [visit.left for visit in self.maps if isinstance(visit.module, nn.Conv2d)]
        first = sum(time <= exits[0].time for time in times)
        return first <= 1 and sum(exits[0].time < time <= exits[1].time for time in times) >= 3

    def _spot(self, tap: str, tensor: Tensor, time: int) -> Spot:
        done = sum(left <= time for left in self.weighted)
        return Spot(tap, tuple(tensor.shape), done / max(1, len(self.weighted)))


def _first(tensors: dict[str, Tensor]) -> Tensor | None:
    return next(iter(tensors.values()), None)


def _plain(visit: Visit) -> Tensor | None:
    return visit.outputs.get("")


def _is_map(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dim() == 4 and tensor.shape[2] * tensor.shape[3] > 1


def _size(visit: Visit) -> tuple[int, int]:
    return _hw(_plain(visit))


def _shrinks(visit: Visit, size: tuple[int, int]) -> bool:
    """Whether a module takes in maps of this size and returns smaller ones."""
    taken, given = _first(visit.inputs), _plain(visit)
    if taken is None or given is None or taken.dim() != 4 or given.dim() != 4:
        return False
    return _hw(taken) == size and _hw(given) != size


def _entered_size(visit: Visit) -> tuple[int, int]:
    return _hw(_first(visit.inputs))


def _hw(tensor: Tensor | None) -> tuple[int, int]:
    assert tensor is not None, "only maps are measured"
    return tensor.shape[2], tensor.shape[3]


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _own_name(name: str) -> str:
    return name.rpartition(".")[2]
