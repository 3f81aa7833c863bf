"""Features of nobody: random gradients, some alike within a prompt, and what goes with them."""

from typing import Any

import numpy as np

from preceptor.selection.features import Features
from preceptor.selection.probe import Probe


def probe(dimension: int, **told: Any) -> Probe:
    return Probe(
        **{
            "student": "student",
            "data": "data",
            "kind": "exact",
            "dimension": dimension,
            "parameters": 10_000,
            **told,
        }
    )


def of_gradients(h: np.ndarray, prompts: np.ndarray, **columns: np.ndarray) -> Features:
    """Features with these sketches: long, different, plain responses where nothing is said."""
    n = len(h)
    return Features(
        **{
            "sketches": h.astype(np.float32),
            "prompts": prompts.astype(np.int64),
            "lengths": np.full(n, 60),
            "losses": np.ones(n, np.float32),
            "rank_sums": np.full(n, 180, np.float32),
            "texts": np.arange(n),
            "repetitions": np.zeros(n, np.float32),
            **columns,
        },
        probe=probe(h.shape[1]),
    )


def isotropic(
    prompts: int,
    responses: int,
    dimension: int,
    *,
    alike: float = 0.0,
    spectrum: np.ndarray | float = 1.0,
    seed: int = 0,
    common: float = 0.0,
    spread: np.ndarray | float = 1.0,
    **columns: np.ndarray,
) -> Features:
    """Gradients with correlation `alike` within a prompt and mean squared norm about 1.

    `common` is added to every number, `spread` multiplies each prompt's gradients.
    """
    generator = np.random.default_rng(seed)
    shape = (prompts, responses, dimension)
    of_prompts = generator.normal(size=(prompts, 1, dimension))
    own = generator.normal(size=shape)
    h = (np.sqrt(alike) * of_prompts + np.sqrt(1 - alike) * own) * spectrum
    h = (h / np.sqrt(dimension) + common) * np.broadcast_to(spread, prompts)[:, None, None]
    numbers = np.repeat(np.arange(prompts), responses)
    return of_gradients(h.reshape(-1, dimension), numbers, **columns)


def ragged(prompts: int, dimension: int, seed: int = 0, common: float = 0.05) -> Features:
    """One to four responses a prompt, shuffled, with random lengths, losses, ranks and copies."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(7 * np.arange(prompts) + 3, generator.integers(1, 5, prompts))
    numbers = generator.permutation(numbers)
    n = len(numbers)
    return of_gradients(
        generator.normal(size=(n, dimension)) * generator.gamma(2, size=(n, 1)) + common,
        numbers,
        lengths=generator.integers(1, 400, n),
        losses=generator.gamma(2, size=n).astype(np.float32),
        rank_sums=generator.gamma(300, size=n).astype(np.float32),
        texts=generator.integers(0, 3, n),
        repetitions=generator.random(n).astype(np.float32),
    )
