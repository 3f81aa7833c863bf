"""What runs through a live teacher: its residual stream, and what is written to it.

Dimension key: b examples, t tokens, n tokens that count, d width, h heads, l head size, u neurons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from preceptor.models.dry import keeping_modes
from preceptor.models.tapped import TappedModel
from preceptor.models.taps import reading
from preceptor.students.architecture import Architecture
from preceptor.students.bases import Basis, centred_moment
from preceptor.students.choosing import Importance
from preceptor.types import Inputs, map_tensors


@dataclass(frozen=True)
class Pooled:
    """A teacher's activations over some examples.

    Args:
        moment: E[x x^T] of the stream at every place that reads it, each token scaled to a root
            mean square of one so that late, large streams do not outweigh the rest; the mean
            over places.
        channels: the mean square of what readers are given, norms and gains included.
        influence: of each block, 1 - E cos(stream before, stream after).
        importance: of each block's heads and neurons: the energy of what they write.
    """

    moment: Float[Tensor, "d d"]
    channels: Float[Tensor, " d"]
    influence: tuple[float, ...]
    importance: tuple[Importance, ...]


def stream_taps(architecture: Architecture) -> dict[str, str]:
    """Where the stream is read: a name for people -> a tap; two a block, and the end."""
    taps = {}
    for block in range(architecture.sizes.blocks):
        for part, readers in (("attention", ("query", "query key value")), ("mlp", ("up",))):
            taps[f"block {block} {part}"] = f"{_reads_at(architecture, readers, block)}:input"
    if architecture.piece("final norm") is not None:
        return taps | {"end": f"{architecture.module('final norm')}:input"}
    last = architecture.sizes.blocks - 1
    return taps | {"end": architecture.module("after mlp", last)}


def _reads_at(architecture: Architecture, readers: tuple[str, ...], block: int) -> str:
    """The module that takes the stream in: a reader, or the norm before it."""
    key = next(key for key in readers if architecture.piece(key, block) is not None)
    layer = architecture.family.layer(key)
    assert layer is not None, "a piece is of a layer of its family"
    return architecture.module(layer.reads or key, block)


def shown(model: TappedModel, taps: Sequence[str], inputs: Inputs) -> dict[str, Tensor]:
    """Taps of one pass in eval mode, without gradients, by name."""
    device = next(model.parameters()).device
    inputs = map_tensors(inputs, lambda tensor: tensor.to(device))
    with keeping_modes(model), torch.no_grad(), reading(model.module, frozenset(taps)) as found:
        model.eval()
        model(inputs)
    return found


def counted(inputs: Inputs, shape: torch.Size, *, causal: bool) -> Bool[Tensor, "b t"]:
    """The tokens that count: no padding, and of a language model not the first, whose stream is
    often a hundred times larger than any other's and says nothing.

    Args:
        inputs: of the pass.
        shape: of a stream in it, [b, t, d].
        causal: whether it is a language model.
    """
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    counts = torch.ones(shape[:2], dtype=torch.bool) if mask is None else mask.bool().cpu()
    if causal and shape[1] > 1:
        counts = counts & (counts.cumsum(1) > 1)
    return counts


def pooled(
    teacher: TappedModel, architecture: Architecture, calibration: Sequence[Inputs]
) -> Pooled:
    """One pass over the examples."""
    places = stream_taps(architecture)
    blocks, width = range(architecture.sizes.blocks), architecture.sizes.stream
    writers = {
        (key, block): f"{architecture.module(key, block)}:input"
        for key in ("attention out", "down")
        for block in blocks
    }
    readers = [f"{name}:input" for name in _readers(architecture)]
    moment = torch.zeros(width, width, dtype=torch.float64)
    channels = torch.zeros(width, dtype=torch.float64)
    turns = torch.zeros(len(blocks), dtype=torch.float64)
    written: dict[tuple[str, int], Tensor] = {}
    tokens = 0
    for inputs in calibration:
        found = shown(teacher, [*places.values(), *writers.values(), *readers], inputs)
        counts = counted(inputs, found[places["end"]].shape, causal=teacher.causal)
        taken = {name: _tokens(tensor, counts) for name, tensor in found.items()}
        for place in places.values():
            own = unit(taken[place])
            moment += (own.T @ own).double() / len(places)
        for reader in readers:
            channels += taken[reader].square().sum(0).double() / len(readers)
        turns += _turns(
            [taken[places[f"block {block} attention"]] for block in blocks], taken, places
        )
        for at, tap in writers.items():
            energy = _energy(taken[tap], architecture, at[0])
            written[at] = written.get(at, torch.zeros(())) + energy
        tokens += int(counts.sum())
    moment = moment / max(tokens, 1)
    importance = tuple(
        Importance(
            _written(
                teacher, architecture, written["attention out", block], "attention out", block
            ),
            _written(teacher, architecture, written["down", block], "down", block),
        )
        for block in blocks
    )
    moment = centred_moment(moment) if architecture.family.norm == "layer" else moment
    influence = tuple((1 - turns / max(tokens, 1)).tolist())
    return Pooled(moment, channels / max(tokens, 1), influence, importance)


def explained_energy(
    teacher: TappedModel, architecture: Architecture, basis: Basis, calibration: Sequence[Inputs]
) -> dict[str, float]:
    """The share of the stream's energy that a basis keeps, at each place that reads it."""
    places = stream_taps(architecture)
    kept, whole = dict.fromkeys(places, 0.0), dict.fromkeys(places, 0.0)
    centred = architecture.family.norm == "layer" and basis.dense
    for inputs in calibration:
        found = shown(teacher, list(places.values()), inputs)
        counts = counted(inputs, found[places["end"]].shape, causal=teacher.causal)
        for place, tap in places.items():
            stream = _tokens(found[tap], counts)
            stream = unit(stream - stream.mean(1, keepdim=True) if centred else stream)
            whole[place] += stream.square().sum().item()
            kept[place] += basis.of(stream, 1).square().sum().item()
    return {place: kept[place] / max(whole[place], 1e-30) for place in places}


def unit(stream: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each token scaled to a root mean square of one."""
    return stream * stream.square().mean(-1, keepdim=True).clamp_min(1e-20).rsqrt()


def _tokens(tensor: Tensor, counts: Bool[Tensor, "b t"]) -> Float[Tensor, "n w"]:
    return tensor[counts.to(tensor.device)].float().cpu()


def _readers(architecture: Architecture) -> list[str]:
    """A reader for each place in the blocks: what it is given has passed the norm."""
    keys = [("query", "query key value"), ("up",)]
    blocks = range(architecture.sizes.blocks)
    return [
        architecture.module(next(key for key in some if architecture.piece(key, block)), block)
        for block in blocks
        for some in keys
    ]


def _turns(before: list[Tensor], taken: dict[str, Tensor], places: dict[str, str]) -> Tensor:
    after = [*before[1:], taken[places["end"]]]
    pairs = zip(before, after, strict=True)
    return torch.stack([F.cosine_similarity(x, y, dim=-1).sum().double() for x, y in pairs])


def _energy(given: Float[Tensor, "n w"], architecture: Architecture, key: str) -> Tensor:
    """What a writer is given: second moments of each head [h, l, l], squares of neurons [u]."""
    if key == "down":
        return given.square().sum(0)
    heads = given.view(len(given), architecture.sizes.heads, -1)
    return torch.einsum("nhi,nhj->hij", heads, heads)


def _written(
    teacher: TappedModel, architecture: Architecture, energy: Tensor, key: str, block: int
) -> Tensor:
    """The energy that each head or neuron writes to the stream."""
    piece = architecture.piece(key, block)
    assert piece is not None, f"a block has a layer {key!r}"
    weight = teacher.module.get_parameter(piece.name).detach().float().cpu()
    weight = weight.T if piece.layer.transposed else weight
    if key == "down":
        return energy * weight.square().sum(0)
    heads = weight.view(len(weight), len(energy), -1)
    return torch.einsum("dhi,hij,dhj->h", heads, energy, heads)
