"""What it costs to begin a student inside a teacher that does not fit in memory.

The teacher has the shapes of an 8B model (Qwen3-8B: width 4096, 36 blocks, 151,936 tokens), random
bfloat16 weights, in files of one block each; the student those of Qwen3-0.6B. Each start runs in a
process of its own: seconds by the wall from the first read to the last write, without drawing the
student, and the largest memory that the process ever held, the student's 2.4 GB among it.

The teacher takes 16 GB of disk in `--folder` (or a temporary folder) and is removed at the end.
`--quick` leaves all but two of its blocks out, which `guide` does not read anyway, and begins a
student of two blocks.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from paired import Claim, Interval, at_most, conclude, table
from safetensors.torch import save_file

from preceptor.models.load import load_model
from preceptor.students.start import PLANS, begin

SECONDS, GIGABYTES = 180.0, 6.0
BIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "tie_word_embeddings": False,
}
SMALL = {
    **BIG,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "tie_word_embeddings": True,
}


def write_teacher(folder: Path, blocks: int) -> None:
    """Random weights of the teacher's shapes, with an index as the hub's models have it."""
    config = {**BIG, "num_hidden_layers": blocks}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        shapes = load_model_shapes(config)
    generator = torch.Generator().manual_seed(0)
    index: dict[str, str] = {}
    for part in sorted({part_of(name) for name in shapes}):
        file = f"model-{part}.safetensors"
        drawn = {
            name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
            for name, shape in shapes.items()
            if part_of(name) == part
        }
        save_file(drawn, folder / file)
        index |= dict.fromkeys(drawn, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def load_model_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape; on the device `meta` nothing is drawn."""
    from transformers import AutoConfig, AutoModelForCausalLM

    own = {key: value for key, value in config.items() if key != "model_type"}
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **own))
    return {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}


def part_of(name: str) -> str:
    """A tensor's file: its block's, or the table's own."""
    words = name.split(".")
    return f"block-{words[2]}" if words[1] == "layers" else "-".join(words[:-1])


def once(plan: str, folder: str, blocks: int) -> None:
    """One start; prints seconds and gigabytes."""
    student = load_model({"causal": {**SMALL, "num_hidden_layers": blocks}})
    start = time.perf_counter()
    begin(student, folder, PLANS[plan])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "gigabytes": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two blocks: 3.3 GB of disk")
    parser.add_argument("--folder", type=Path, help="where the teacher is written; is removed")
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        once(given.once[0], given.once[1], int(given.once[2]))
        return
    blocks = (2, 2) if given.quick else (36, 28)
    rows: list[tuple[object, ...]] = []
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        write_teacher(Path(folder), blocks[0])
        for plan in ("guide", "select"):
            command = [sys.executable, __file__, "--once", plan, folder, str(blocks[1])]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = json.loads(answer.splitlines()[-1])
            rows.append((plan, f"{found['seconds']:.1f}", f"{found['gigabytes']:.2f}"))
            for what, bound in (("seconds", SECONDS), ("gigabytes", GIGABYTES)):
                value = Interval(found[what], found[what], found[what])
                claims.append(at_most(f"{plan}: {what}", value, bound))
    print(table(("start", "seconds", "GB, with the student"), rows))
    conclude(claims)


if __name__ == "__main__":
    main()
