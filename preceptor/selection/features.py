"""What one pass over the student leaves of a candidate's responses; every score reads this alone.

Sketches and lengths are kept raw, so that length factors, folds, smoothing and the number of
prompts are chosen later, without another pass.

Dimension key: n responses, d numbers a sketch, p prompts.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from preceptor.errors import DataError, NeedsError, NonFiniteError, StorageError
from preceptor.files import write_atomically
from preceptor.selection.probe import Probe

_COLUMNS = (
    "sketches",
    "prompts",
    "lengths",
    "losses",
    "rank_sums",
    "texts",
    "repetitions",
)


@final
@dataclass(frozen=True, eq=False)
class Features:
    """One row a response, in any order; several rows may answer the same prompt.

    Args:
        sketches: isometric sketches, E||S g||^2 = ||g||^2, of the gradient g of the *mean* loss
            over the response's tokens: no length factor, no normalisation.
        prompts: the prompt that a row answers, by its number in the data.
        lengths: tokens of the response, the end of sequence counted; 1 for an image.
        losses: the student's mean loss over those tokens, in nats.
        rank_sums: sum over those tokens of min(rank, 100), where the token that the student finds
            most probable has rank 1 (see `rank_surprisal`).
        texts: a hash of the response (`texts.text_hash`): equal where the text is.
        repetitions: the share of a response's n-grams that stood in it before
            (`texts.repetition`), 0 to 1.
        probe: how all of it was taken.

    Raises:
        DataError: columns differ in length, a length is below 1, or sketches are not d wide.
        NonFiniteError: NaN or Inf in a number.
    """

    sketches: Float32[np.ndarray, "n d"]
    prompts: Int64[np.ndarray, " n"]
    lengths: Int64[np.ndarray, " n"]
    losses: Float32[np.ndarray, " n"]
    rank_sums: Float32[np.ndarray, " n"]
    texts: Int64[np.ndarray, " n"]
    repetitions: Float32[np.ndarray, " n"]
    probe: Probe

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(sizes.values())) > 1 or len(self.prompts) == 0:
            raise DataError(
                f"features have columns of {sizes} rows",
                "each response needs one number in each",
                "Give every column one row a response, and at least one response.",
            )
        if self.sketches.shape[1] != self.probe.dimension:
            raise DataError(
                f"sketches are {self.sketches.shape[1]} wide",
                f"the probe's dimension is {self.probe.dimension}",
                "Say the dimension that the sketches have.",
            )
        if (self.lengths < 1).any():
            raise DataError(
                f"the response to prompt {self.prompts[self.lengths < 1][0]} has no tokens",
                "there is no mean loss of nothing",
                "Leave empty responses out, or count the end of sequence.",
            )
        for name in ("sketches", "losses", "rank_sums", "repetitions"):
            column = getattr(self, name)
            if not np.isfinite(column).all():
                bad = ~np.isfinite(column.reshape(len(column), -1)).all(axis=1)
                raise NonFiniteError(
                    f"{name} of the response to prompt {self.prompts[bad][0]}",
                    "it is NaN or Inf",
                    "Compute in bfloat16 or float32 instead of float16, or leave it out.",
                )

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def every_prompt(self) -> Int64[np.ndarray, " p"]:
        """The prompts that are answered, each once, ascending."""
        return np.unique(self.prompts)

    def of(self, prompts: Int64[np.ndarray, " p"]) -> "Features":
        """The rows that answer these prompts, in the order they have here.

        Raises:
            NeedsError: a prompt has no row.
        """
        missing = np.setdiff1d(prompts, self.prompts)
        if len(missing):
            raise NeedsError(
                f"features of prompts {missing[:5].tolist()} were asked for",
                f"{len(missing)} of {len(prompts)} have none",
                "Take features of these prompts first.",
            )
        return self._rows(np.isin(self.prompts, prompts))

    def _rows(self, where: np.ndarray) -> "Features":
        return replace(self, **{name: getattr(self, name)[where] for name in _COLUMNS})

    def with_responses(self, most: int) -> "Features":
        """The first `most` responses to each prompt: GRACE falls as rows become many.

        Raises:
            DataError: `most` is below 1.
        """
        if most < 1:
            raise DataError(
                f"{most} responses a prompt were to be kept",
                "nothing would be left",
                "Keep one at least.",
            )
        return self._rows(_places_within(self.prompts) < most)

    def narrowed(self, dimension: int) -> "Features":
        """The same responses in fewer numbers: another isometric sketch, of the sketches.

        Number i is added to number i mod `dimension` with a sign that depends on the probe's seed,
        so that all numbers keep their part. Used where prompts are few for the dimension.
        """
        if dimension == self.probe.dimension:
            return self
        if not 1 <= dimension < self.probe.dimension:
            raise DataError(
                f"sketches of {self.probe.dimension} numbers were to be narrowed to {dimension}",
                "narrowing leaves fewer numbers, and at least one",
                "Choose a smaller dimension, or take wider sketches.",
            )
        generator = np.random.default_rng([self.probe.seed, dimension])
        signs = generator.integers(0, 2, self.probe.dimension) * 2 - 1
        signed = (self.sketches * signs.astype(np.float32)).T
        narrow = np.zeros((dimension, len(self)), dtype=np.float32)
        for start in range(0, len(signed), dimension):
            piece = signed[start : start + dimension]
            narrow[: len(piece)] += piece
        probe = replace(self.probe, dimension=dimension)
        return replace(self, sketches=np.ascontiguousarray(narrow.T), probe=probe)

    def expect_comparable(self, other: "Features", whose: str) -> None:
        """Raises `NeedsError` where `other`, which `whose` names, cannot be compared with these.

        Both must come from the same probe and answer the same prompts; how many responses a prompt
        has may differ.
        """
        self.probe.expect(other.probe, whose)
        here, there = self.every_prompt, other.every_prompt
        if not np.array_equal(here, there):
            lone = np.setxor1d(here, there)
            raise NeedsError(
                f"{whose} answers {len(there)} prompts, of them {len(np.intersect1d(here, there))} "
                f"of the {len(here)} of the candidates beside it",
                f"prompts {lone[:5].tolist()} have answers on one side only, and easier prompts "
                "would look like a better teacher",
                "Compare on the prompts that all candidates answer: take `of` these.",
            )

    def save(self, path: Path) -> None:
        """One safetensors file, put in place whole; the probe is JSON in its header."""
        write_atomically(path, self.write)

    def write(self, path: Path) -> None:
        """Fills that file, for those who put it in place themselves."""
        columns = {name: np.ascontiguousarray(getattr(self, name)) for name in _COLUMNS}
        save_file(columns, path, {"probe": json.dumps(asdict(self.probe), sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "Features":
        """What `save` wrote.

        Raises:
            StorageError: there is no such file, or it holds something else.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                columns = {name: file.get_tensor(name) for name in _COLUMNS}
                probe = json.loads(file.metadata()["probe"])
            return cls(**columns, probe=Probe(**probe))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"the features {path}",
                f"they cannot be read ({error})",
                "Take them again.",
            ) from error


def _places_within(prompts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """How many rows of its prompt stand before each row."""
    order = np.argsort(prompts, kind="stable")
    _, first, counts = np.unique(prompts[order], return_index=True, return_counts=True)
    places = np.empty_like(prompts)
    places[order] = np.arange(len(prompts)) - np.repeat(first, counts)
    return places


def joined(parts: Sequence[Features]) -> Features:
    """The rows of several pieces of the same candidate, ascending by prompt.

    A prompt's rows stay in the order of the pieces, so that which prompts a piece held does not
    show in the result.

    Raises:
        NeedsError: a piece comes from another probe.
    """
    first = parts[0]
    for number, part in enumerate(parts):
        first.probe.expect(part.probe, f"piece {number}")
    order = np.argsort(np.concatenate([part.prompts for part in parts]), kind="stable")
    columns = {name: np.concatenate([getattr(p, name) for p in parts])[order] for name in _COLUMNS}
    return Features(**columns, probe=first.probe)
