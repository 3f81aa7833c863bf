"""Recipes of text that run in a second or two."""

import copy
import json
from pathlib import Path
from typing import Any

ADAM = {"name": "adamw", "lr": 0.005}


def llama(width: int, layers: int = 1) -> dict[str, Any]:
    """A tiny causal model of a real architecture."""
    return {
        "causal": {
            "model_type": "llama",
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
        }
    }


def sums(file: Path, rows: int = 120) -> Path:
    """Additions with their answers, one JSON object a line."""
    pairs = [(i % 10, (i // 10 + i * i) % 10) for i in range(rows)]
    lines = [{"prompt": f"{a}+{b}=", "completion": f"{a + b}", "answer": a + b} for a, b in pairs]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def written_recipe(source: Path, **sections: Any) -> dict[str, Any]:
    """A recipe over such a file as plain data, with some of its sections replaced."""
    whole = {
        "seed": {"count": 1},
        "threads": 1,
        "data": {
            "kind": "text",
            "source": str(source),
            "max_length": 24,
            "tokenizer": {"characters": True},
            "plain": True,
            "verify": {"most": 4},
        },
        "teacher": {
            "model": llama(16, 2),
            "train": {"steps": 25, "batch": 16, "optimizer": ADAM},
        },
        "student": {"model": llama(8)},
        "stages": [
            {
                "objective": [{"ce": {}}, {"kd": {"temperature": 1}}],
                "plan": {"steps": 6, "batch": 8, "optimizer": ADAM},
            }
        ],
        "control": {"arms": ["control"]},
        "evaluate": ["accuracy", "calibration", "fidelity"],  # Cost takes longer than training.
        "checkpoint": {"every": 3},
    }
    return copy.deepcopy({**whole, **sections})
