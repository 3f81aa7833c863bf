"""Time, memory and exactness of sketched gradients beside one plain forward and backward pass.

One thread, float32. The plain pass is the model's own forward, the head and cross-entropy on the
scored positions alone, and a backward pass with every weight's gradient; a sketched pass of the
same batch gives 512 numbers an example. Time is the paired ratio of processor time; peak is all
that is allocated beyond weights and signs, from the allocator's own records, the plain pass's
gradients included.

With `--device cuda` a Llama of 1.2 B parameters, its products in bfloat16 on both sides, timed by
the wall; peaks are those of torch's allocator on the device.

One example at a time, the usual way: its gradient, then a dense random projection to 512 numbers
whose signs are made again for each example.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from paired import (
    Claim,
    Interval,
    at_most,
    conclude,
    median_interval,
    paired,
    peak_mib,
    table,
)
from torch import Tensor
from torch.nn import functional as F

from preceptor.batches import Batch
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel
from preceptor.ops.sketching import signs_sketch
from preceptor.selection.exact import ExactSketcher
from preceptor.selection.factored import FactoredSketcher
from preceptor.selection.head import HeadSketcher

TIME, MEMORY, ERROR, TIMES = 1.0, 1.0, 0.08, 10.0
DIMENSION = 512
HEADS = ("student", "features", "seconds", "plain", "ratio", "peak over plain's")
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

Rows = list[tuple[object, ...]]
Step = Callable[[], object]


@dataclass(frozen=True)
class Student:
    """A model with fresh weights, and a batch for it.

    Args:
        name: what to call it.
        spec: what `load_model` takes.
        batch: examples.
        tokens: of a text; 0 for an image of 32x32.
    """

    name: str
    spec: dict[str, Any]
    batch: int
    tokens: int = 0

    def model(self, device: str = "cpu") -> TappedModel:
        """The same at every call, in eval mode."""
        torch.manual_seed(0)
        return load_model(self.spec).eval().to(device)

    def examples(self) -> Batch:
        """Random ids, a quarter of each text its prompt; or noise with labels."""
        draw = torch.Generator().manual_seed(1)
        names = torch.arange(self.batch)
        if not self.tokens:
            images = torch.rand(self.batch, 3, 32, 32, generator=draw)
            return Batch(images, labels=names % self.spec["classes"], ids=names)
        classes = self.spec["causal"]["vocab_size"]
        ids = torch.randint(3, classes, (self.batch, self.tokens), generator=draw)
        labels = ids.roll(-1, 1)
        labels[:, -1], labels[:, : self.tokens // 4] = -1, -1
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return Batch(inputs, labels=labels, mask=labels >= 0, ids=names)


def llama(width: int, layers: int, classes: int, batch: int, tokens: int) -> Student:
    """A Llama with a tied head."""
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": True}
    config = {"model_type": "llama", "vocab_size": classes, **shape, **heads, **_IDS}
    return Student(f"Llama, width {width}", {"causal": config}, batch, tokens)


def billion(batch: int, tokens: int) -> Student:
    """The shape of Llama-3.2-1B."""
    shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True}
    config = {"model_type": "llama", "vocab_size": 128_256, **shape, **heads, **_IDS}
    return Student("Llama, 1.2 B", {"causal": config}, batch, tokens)


def gpt2(width: int, layers: int, classes: int, batch: int, tokens: int) -> Student:
    """A GPT-2, tied, with biases."""
    shape = {"n_embd": width, "n_layer": layers, "n_head": 8, "n_positions": tokens}
    config = {"model_type": "gpt2", "vocab_size": classes, **shape, **_IDS}
    return Student(f"GPT-2, width {width}", {"causal": config}, batch, tokens)


def mixtral(width: int, layers: int, classes: int, batch: int, tokens: int) -> Student:
    """A mixture of eight experts, two for each token."""
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "num_local_experts": 8}
    config = {"model_type": "mixtral", "vocab_size": classes, **shape, **heads, **_IDS}
    return Student(f"Mixtral, width {width}", {"causal": config}, batch, tokens)


def image(name: str, batch: int) -> Student:
    """A classifier of the zoo."""
    return Student(f"{name}, batch {batch}", {"zoo": name, "classes": 100}, batch)


def plain(model: TappedModel, batch: Batch) -> Step:
    """One forward and backward pass with all gradients, in bfloat16 on a GPU."""
    device = batch.labels.device.type

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            shown = model(batch.inputs)
            if model.causal:
                index = batch.mask("all").flatten().nonzero().squeeze(1)
                logits, labels = shown.projection.at(index).logits, batch.labels.flatten()[index]
            else:
                logits, labels = shown.logits, batch.labels
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        model.zero_grad(set_to_none=True)  # Freeing what it made is its own work.

    return step


def finished(step: Step) -> Step:
    """The step, and waiting until a GPU has done it."""

    def whole() -> object:
        found = step()
        torch.cuda.synchronize()
        return found

    return whole


def peak(step: Step, device: str) -> float:
    """MiB allocated at once in a step beyond what was there."""
    if device == "cpu":
        return peak_mib(step)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def compared(claims: list[Claim], student: Student, rounds: int, device: str = "cpu") -> Rows:
    """Factored and head features beside the plain pass: a row each."""
    model, batch = student.model(device), student.examples().to(device)
    on_gpu = device != "cpu"
    clock, settled = ("wall", finished) if on_gpu else ("cpu", lambda step: step)
    whole = settled(plain(model, batch))
    sketchers: dict[str, Any] = {"factored": FactoredSketcher(model, bfloat16=on_gpu)}
    if model.causal:
        sketchers["head alone"] = HeadSketcher(model, bfloat16=on_gpu)
    whole()
    rows: Rows = []
    most = peak(whole, device)
    for name, sketcher in sketchers.items():
        step: Step = settled(partial(sketcher, batch))
        step()
        found = paired(step, whole, rounds=rounds)
        ratio = found.ratio(clock)
        share = peak(step, device) / most
        said = f"{student.name}: {name}"
        claims.append(at_most(f"{said}: time over a plain pass", ratio, TIME))
        claims.append(at_most(f"{said}: peak over a plain pass's", flat(share), MEMORY))
        seconds = [f"{each:.2f}" for each in found.medians(clock)]
        rows.append((student.name, name, *seconds, ratio, f"{share:.2f}"))
    return rows


def against_one_at_a_time(claims: list[Claim], student: Student, rounds: int) -> Rows:
    """Seconds an example of each exact way over the factored pass's, at the same dimension."""
    model, batch = student.model(), student.examples()
    factored = FactoredSketcher(model)
    single = batch.rows(0, 1)
    ways: dict[str, Any] = {
        "gradient and dense signs": ExactSketcher(model, dimension=DIMENSION),
        "gradient and buckets": ExactSketcher(model, dimension=DIMENSION, projection="counts"),
    }
    rows: Rows = []
    for name, way in ways.items():
        found = paired(lambda way=way: way(single), lambda: factored(batch), rounds=rounds)
        ratio = median_interval(found.cpu[:, 0] * len(batch) / found.cpu[:, 1])
        each = found.medians("cpu")
        said = f"{student.name}: one at a time, {name}, over factored, an example"
        bound = TIMES if way is ways["gradient and dense signs"] else None
        holds = None if bound is None else ratio.value >= bound
        claims.append(Claim(said, *ratio, bound=bound, holds=holds))
        rows.append((student.name, name, f"{each[0]:.2f}", f"{each[1] / len(batch):.3f}", ratio))
    return rows


def errors(claims: list[Claim], student: Student) -> Rows:
    """How far normalised inner products are from the exact gradients'."""
    model, batch = student.model(), student.examples()
    gradients, _ = ExactSketcher(model).gradients(batch)
    truth = cosines(gradients)
    factored = FactoredSketcher(model)(batch).sketches
    found = flat(distance(cosines(factored), truth))
    claims.append(at_most(f"{student.name}: error of normalised inner products", found, ERROR))
    dense = distance(cosines(signs_sketch(gradients, DIMENSION, 0)), truth)
    return [(student.name, gradients.shape[1], f"{found.value:.4f}", f"{dense:.4f}")]


def cosines(rows: Tensor) -> Tensor:
    unit = F.normalize(rows, dim=1)
    return unit @ unit.T


def distance(found: Tensor, truth: Tensor) -> float:
    """Root mean square of what is off the diagonal."""
    off = ~torch.eye(len(truth), dtype=torch.bool)
    return float((found - truth)[off].square().mean().sqrt())


def flat(value: float) -> Interval:
    """A number that is exact."""
    return Interval(value, value, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: small models")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    said = parser.parse_args()
    torch.set_num_threads(said.threads)
    if said.device == "cuda":
        large: list[Claim] = []
        rows = compared(large, billion(*((4, 128) if said.quick else (16, 512))), 9, "cuda")
        print(table(HEADS, rows), flush=True)
        conclude(large)
    if said.quick:
        students = [llama(256, 4, 4096, 8, 128), image("resnet8x4", 64)]
        small, rounds = llama(64, 2, 512, 16, 64), 3
    else:
        students = [
            llama(512, 6, 16_384, 8, 256),
            gpt2(512, 6, 16_384, 8, 256),
            llama(256, 4, 8192, 16, 128),
            image("resnet8x4", 64),
            image("vit", 64),
            image("shufflenetv2", 64),
            *(image("mobilenetv2", batch) for batch in (64, 256)),
            mixtral(256, 2, 4096, 16, 128),
        ]
        small, rounds = llama(128, 4, 2048, 32, 128), 9
    claims: list[Claim] = []
    found = [row for student in students for row in compared(claims, student, rounds)]
    print(table(HEADS, found), flush=True)
    found = against_one_at_a_time(claims, small, min(rounds, 3))
    print(table(("student", "one at a time", "seconds", "factored", "times"), found), flush=True)
    found = errors(claims, small)
    print(table(("student", "parameters", "factored, error", "dense signs, error"), found))
    conclude(claims)


if __name__ == "__main__":
    main()
