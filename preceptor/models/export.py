"""A classifier or an encoder as an ONNX file, compared with the model itself before it is kept.

The input's normalisation is inside the file, so whoever runs it gives pixels in [0, 1], or padded
token ids with their mask. The number of examples, and of tokens, is free.

Dimension key: b examples, e width of the answer.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from preceptor.batches import map_tensors
from preceptor.errors import ModelError
from preceptor.files import flush, storage
from preceptor.models.dry import keeping_modes
from preceptor.models.quiet import quiet
from preceptor.models.tapped import TappedModel
from preceptor.types import Inputs

TOLERANCE = 1e-4
"""How far answers may differ, as a share of the largest answer or of 1 where that is less."""

_WHOLE = 1_500_000_000
"""Bytes up to which weights lie inside the file: protobuf ends at two gigabytes."""


@final
@dataclass(frozen=True)
class Exported:
    """A file that answers as its model does.

    Args:
        file: where it lies; weights of more than 1.5 GB lie beside it.
        difference: the largest |difference| between an answer of the file and the model's own.
        largest: the model's largest |answer|.
        shapes: of the first input in each batch that was compared.
        examples: how many were compared.
        same: for how many of them the largest answer is the same.
    """

    file: Path
    difference: float
    largest: float
    shapes: tuple[tuple[int, ...], ...]
    examples: int
    same: int


@final
class OnnxModel:
    """An ONNX file in onnxruntime, called with the inputs that the model is called with."""

    def __init__(self, file: Path, threads: int = 1) -> None:
        """Load it, to compute on the CPU with so many threads.

        Errors:
            ModelError: onnxruntime is not installed.
        """
        onnxruntime = _needed("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        given = self._session.get_inputs()
        self.inputs = tuple(each.name for each in given)
        self.fixed = next((each.shape for each in given if isinstance(each.shape[0], int)), None)
        """An input's shape, where it lets no other number of examples through."""

    def __call__(self, inputs: Inputs) -> Float[Tensor, "b e"]:
        """The answers to a batch on the CPU."""
        given = {self.inputs[0]: inputs} if isinstance(inputs, Tensor) else inputs
        feed = {name: given[name].numpy() for name in self.inputs}
        return torch.from_numpy(self._session.run(None, feed)[0])


def write_onnx(
    model: TappedModel, batches: Sequence[Inputs], file: Path, notes: Mapping[str, Any]
) -> Exported:
    """Write a model as ONNX, and put it in place only where it answers every batch as the model.

    Args:
        model: a classifier or an encoder, in fp32 on the CPU; its modes are afterwards as before.
        batches: real inputs, of several sizes: the file is traced on the first, compared on all.
        file: where it is written.
        notes: what is told in the file's own metadata, each as JSON under `preceptor.NAME`.

    Errors:
        ModelError: a causal language model; onnx is not installed; the model cannot be traced;
            the file's answers differ.
        StorageError: the disk refused.
    """
    if model.causal:
        raise ModelError(
            "a causal language model was to be written as ONNX",
            "servers of language models read its folder, with its own cache of keys and values",
            "Serve the student's folder: transformers serve, vLLM and SGLang load it as it is.",
        )
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _needed(package)
    with storage(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".writing-") as name:
            draft = Path(name) / file.name
            with torch.no_grad(), keeping_modes(model):
                model.eval()
                _trace(model, batches[0], draft, notes)
                written = OnnxModel(draft)
                _require_free(model, written)
                found = _compared(model, written, batches, file)
            _require_alike(model, found)
            # The weights first, where they lie beside it: whoever sees the file finds them.
            for part in sorted(Path(name).iterdir(), key=lambda part: part == draft):
                flush(part)
                os.replace(part, file.parent / part.name)
    return found


@final
class _Answering(nn.Module):
    """A model that takes its tensors one after the other, and gives one."""

    def __init__(self, model: TappedModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *given: Tensor) -> Tensor:
        inputs = dict(zip(self.names, given, strict=True)) if self.names else given[0]
        return self.model(inputs).logits


def _trace(model: TappedModel, first: Inputs, draft: Path, notes: Mapping[str, Any]) -> None:
    """Trace two examples: one alone would be taken for the only size there is."""
    two = map_tensors(first, lambda tensor: torch.cat([tensor, tensor])[:2].contiguous())
    names = () if isinstance(two, Tensor) else tuple(two)
    given = _tensors(two)
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    try:
        with quiet("torch.onnx"):
            program: Any = torch.onnx.export(
                _Answering(model, names),
                given,
                dynamo=True,
                verbose=False,
                input_names=list(names) or ["pixels"],
                output_names=["answer"],
                dynamic_shapes=(tuple(map(_free, given)),),
            )
            for name, note in notes.items():
                program.model.metadata_props[f"preceptor.{name}"] = json.dumps(note)
            program.save(draft, external_data=size > _WHOLE)
    except Exception as error:  # torch's exporter has errors of many kinds
        reason = str(error.__cause__ or error).strip().partition("\n")[0].rstrip(".")
        raise ModelError(
            f"a {type(model.module).__name__} was to be written as ONNX",
            f"torch cannot trace it ({type(error).__name__}: {reason})",
            "Take from its forward pass what depends on the numbers in a tensor, or use the "
            "student's folder as it is.",
        ) from error


def _free(given: Tensor) -> dict[int, Any]:
    """The axes of an input that may have any size: examples, and the tokens of ids and masks."""
    axes: dict[int, Any] = {0: torch.export.Dim("examples")}
    if given.dim() == 2 and not given.is_floating_point():
        axes[1] = torch.export.Dim("tokens")
    return axes


def _compared(
    model: TappedModel, written: OnnxModel, batches: Sequence[Inputs], file: Path
) -> Exported:
    difference = largest = 0.0
    shapes: list[tuple[int, ...]] = []
    examples = same = 0
    for inputs in batches:
        own, theirs = model(inputs).logits.float(), written(inputs).float()
        gap = float((own - theirs).abs().max())
        # Whatever is not a number is no answer: a comparison must not pass it over.
        difference = max(difference, float("inf") if math.isnan(gap) else gap)
        largest = max(largest, float(own.abs().max()))
        shapes.append(tuple(_tensors(inputs)[0].shape))
        examples += len(own)
        same += int((own.argmax(-1) == theirs.argmax(-1)).sum())
    return Exported(file, difference, largest, tuple(shapes), examples, same)


def _require_free(model: TappedModel, written: OnnxModel) -> None:
    if written.fixed is not None:
        raise ModelError(
            f"the ONNX file of a {type(model.module).__name__} takes inputs of {written.fixed}",
            "its forward pass turns the number of examples into a constant",
            "Write x.shape[0] where it says len(x) or int(...) of a shape.",
        )


def _require_alike(model: TappedModel, found: Exported) -> None:
    if found.difference <= TOLERANCE * max(1.0, found.largest):
        return
    raise ModelError(
        f"the ONNX file of a {type(model.module).__name__} answers {found.examples} examples with "
        f"up to {found.difference:.2g} of difference (the largest answer is {found.largest:.3g})",
        f"more than {TOLERANCE:g} of that is no rounding: it was not kept",
        "Report the architecture; the student's folder is whole.",
    )


def _tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs.values())


def _needed(package: str) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise ModelError(
            "an ONNX file was asked for",
            f"the package {package!r} is not installed",
            "Install the optional extra: pip install 'preceptor[onnx]'.",
        ) from error
