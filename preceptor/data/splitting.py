"""Rows for training, for choices and for the final measurement."""

import json
from collections.abc import Sequence

import numpy as np

from preceptor.data.counter import shuffled
from preceptor.data.rows import Row, Rows
from preceptor.errors import DataError

_SPLIT = 6


def split_rows(
    rows: Rows, *, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> tuple[Rows, Rows, Rows]:
    """Training, validation and test rows, drawn at random.

    A row is never cut, and rows with the same prompt (or the same document) stay together, so
    nothing that is measured on was trained on. Each part keeps the rows' order.

    Args:
        rows: all of them.
        validation: the share for choices, 0 to 1.
        test: the share for the final measurement, 0 to 1.
        seed: decides who goes where.

    Raises:
        DataError: a part with a share would be empty.
    """
    prompts: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        prompts.setdefault(_prompt(row), []).append(index)
    groups = list(prompts.values())
    order = shuffled(np.arange(len(groups)), seed, _SPLIT)
    parts: dict[str, list[int]] = {"test": [], "validation": [], "training": []}
    wanted = {"test": round(test * len(rows)), "validation": round(validation * len(rows))}
    for k in order:
        short = next((n for n, size in wanted.items() if len(parts[n]) < size), "training")
        parts[short] += groups[k]
    shares = {"training": 1.0, "validation": validation, "test": test}
    for name, share in shares.items():
        if share and not parts[name]:
            raise DataError(
                f"{len(rows)} rows with {len(groups)} different prompts",
                f"none is left for the {name} part",
                "Give more rows (documents: line or paragraph, for plain text), or other shares.",
            )
    train, held, final = (
        Rows(tuple(rows[i] for i in sorted(parts[name])), f"{rows.name} ({name})")
        for name in ("training", "validation", "test")
    )
    return train, held, final


def _prompt(row: Row) -> str:
    """What makes two rows the same question."""
    turns: Sequence = row.messages[:-1] if row.has_response else row.messages
    return json.dumps([turns, row.prompt, row.text], sort_keys=True, default=str)
