"""What a token cache holds, in numbers: its size, and how much of the teacher it covers.

Dimension key: n positions, v classes, k entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.teachers.tokens.manifest import Manifest
from preceptor.teachers.tokens.store import TokenStore
from preceptor.types import Dense, Distribution, Sampled, TopK

COVERED = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
"""Edges of the histogram of covered mass."""

LOOKED_AT = 1 << 16
"""About so many positions are read, in rows that lie evenly over the cache."""

_BAR = 30


@final
@dataclass(frozen=True)
class Inspection:
    """What was found.

    Args:
        folder: the cache's.
        manifest: what it says of itself.
        rows: rows of text.
        tokens: positions.
        bytes: on the disk, the manifest included.
        looked_at: positions that were read for what follows.
        entries: mean number of ids kept of a position; v of a dense cache.
        entropy: mean entropy at the cache's temperature (1 where it has none), in nats; of a
            top-k cache at least so much: its tail counts as one class.
        covered: mean mass of what is kept; None for draws, which do not know.
        histogram: the share of positions between each two of the edges `COVERED`; empty for draws.
    """

    folder: Path
    manifest: Manifest
    rows: int
    tokens: int
    bytes: int
    looked_at: int
    entries: float
    entropy: float
    covered: float | None
    histogram: tuple[float, ...]

    @property
    def bytes_per_token(self) -> float:
        """On the disk."""
        return self.bytes / max(self.tokens, 1)

    def __str__(self) -> str:
        identity, kept = self.manifest.identity, self.manifest.codec
        state = "complete" if self.manifest.complete else "writing it was not finished"
        least = "at least " if isinstance(self.covered, float) and self.covered < 1 else ""
        lines = [
            f"{self.folder}: {state}",
            f"  keeps       {kept}",
            f"  of          {identity.vocabulary} classes",
            f"  teacher     {identity.teacher}",
            f"  tokenizer   {identity.tokenizer}",
            f"  template    {identity.template}",
            f"  data        {identity.data}",
            f"  rows        {self.rows}",
            f"  tokens      {self.tokens}",
            f"  size        {self.bytes / 1e6:.1f} MB, {self.bytes_per_token:.1f} bytes a token",
            f"  entries     {self.entries:.1f} a token",
            f"  entropy     {least}{self.entropy:.2f} nats",
        ]
        if self.covered is not None:
            lines.append(f"  covered     {self.covered:.1%} of the mass; tokens by covered mass:")
            lines += _bars(self.histogram)
        if self.looked_at < self.tokens:
            lines.append(f"  (means of {self.looked_at} tokens, in rows that lie evenly)")
        return "\n".join(lines)


def inspect(folder: Path) -> Inspection:
    """Look at a cache, finished or not; every shard is verified."""
    store = TokenStore.open(folder, partial=True)
    manifest = store.manifest
    step = max(1, -(-manifest.positions // LOOKED_AT))
    entries, entropy, covered = [torch.empty(0)], [torch.empty(0)], [torch.empty(0)]
    places = np.arange(0, len(store), step)
    for some in np.array_split(places, max(1, len(places) // 64)) if len(places) else []:
        for kept, told in zip(
            (entries, entropy, covered), _told(store.shown(store.columns(some))), strict=True
        ):
            kept.append(told)
    mass = torch.cat(covered)
    looked_at = len(torch.cat(entries))
    return Inspection(
        folder=folder,
        manifest=manifest,
        rows=len(store),
        tokens=manifest.positions,
        bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        looked_at=looked_at,
        entries=_mean(entries),
        entropy=_mean(entropy),
        covered=_mean(covered) if len(mass) else None,
        histogram=_histogram(mass) if len(mass) else (),
    )


def _told(
    found: Distribution,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " _"]]:
    """Of each position: entries, entropy, covered mass (nothing where that is not known)."""
    if isinstance(found, Sampled):
        return (found.ids >= 0).sum(dim=-1).float(), found.entropy, torch.empty(0)
    if isinstance(found, TopK):
        log_p = torch.cat([found.log_p, found.log_tail.unsqueeze(-1)], dim=-1)
        covered = -torch.expm1(found.log_tail)
        return (found.ids >= 0).sum(dim=-1).float(), _entropy(log_p), covered
    assert isinstance(found, Dense)
    log_p = found.log_probs(1.0)
    count = len(log_p)
    return torch.full((count,), float(log_p.shape[-1])), _entropy(log_p), torch.ones(count)


def _entropy(log_p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    return torch.special.entr(log_p.exp()).sum(dim=-1)


def _mean(parts: Sequence[Tensor]) -> float:
    whole = torch.cat(list(parts))
    return whole.double().mean().item() if len(whole) else float("nan")


def _histogram(mass: Float[Tensor, " n"]) -> tuple[float, ...]:
    counts, _ = np.histogram(mass.clamp(0, 1).double().numpy(), COVERED)
    return tuple((counts / counts.sum()).tolist())


def _bars(shares: Sequence[float]) -> list[str]:
    edges = [f"{edge:.1%}" for edge in COVERED]
    return [
        f"    {low:>6} to {high:>6}  {share:6.1%}  {'#' * round(_BAR * share)}".rstrip()
        for low, high, share in zip(edges, edges[1:], shares, strict=False)
    ]
