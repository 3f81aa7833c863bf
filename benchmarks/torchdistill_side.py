"""How torchdistill 1.1.5 trains the same students, by the box that its documentation shows.

A configuration names hooks, the criterion and the optimizer; a step is `forward_process` and
`post_forward_process`. Images come from our source, which costs both sides the same: what is
compared is the training step. They are normalised once a step, as its data pipeline would.
"""

# pyright: reportMissingImports=false
# torchdistill is installed in the environment that `peers_vision.py` makes, and nowhere else.

from collections.abc import Iterator
from typing import Any

import torch
from settings import Setting
from torchdistill.core.distillation import get_distillation_box
from torchdistill.models.adaptation import ConvReg
from torchdistill.models.registry import register_auxiliary_model_wrapper
from torchdistill.models.wrapper import AuxiliaryModelWrapper

from preceptor.data.images import ImageSet

STAGES = ("stage1", "stage2", "stage3")
MIDDLE, WIDTH = "stage2", 128


@register_auxiliary_model_wrapper
class Hint(AuxiliaryModelWrapper):
    """A student with FitNets' regressor beside it: its own way to add modules to a method."""

    def __init__(self, student_model: torch.nn.Module, **_: Any) -> None:
        super().__init__()
        self.student_model = student_model
        self.regressor = ConvReg(WIDTH, WIDTH, kernel_size=1, stride=1, padding=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The student's logits."""
        return self.student_model(x)

    def secondary_forward(self, io_dict: dict[str, Any]) -> None:
        """Runs the regressor, whose output is hooked."""
        self.regressor(io_dict[f"student_model.{MIDDLE}"]["output"])


def _hooks(*modules: str) -> dict[str, Any]:
    return {"forward_hook": {"input": [], "output": list(modules)}}


def _logit_loss(key: str, **arguments: float) -> dict[str, Any]:
    where = {f"{who}_module_{what}": at for who in ("student", "teacher") for what, at in _WHOLE}
    return {"criterion": {"key": key, "kwargs": {**where, **arguments}}, "weight": 1.0}


_WHOLE = (("path", "."), ("io", "output"))


def _plain_loss(key: str, weight: float, **sides: Any) -> dict[str, Any]:
    return {
        "criterion": {"key": key, "kwargs": {"reduction": "mean"}},
        "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": sides},
        "weight": weight,
    }


def _shown(teacher: bool, path: str) -> dict[str, Any]:
    return {"is_from_teacher": teacher, "module_path": path, "io": "output"}


def _attention() -> dict[str, Any]:
    side = {"io": "output"}
    pairs = {s: {"teacher": {**side, "path": s}, "student": {**side, "path": s}} for s in STAGES}
    return {"criterion": {"key": "ATLoss", "kwargs": {"at_pairs": pairs, "mode": "code"}}}


def config(method: str) -> dict[str, Any]:
    """What to train with, as its YAML files would say it."""
    teacher: dict[str, Any] = {"forward_proc": "forward_batch_only", "requires_grad": False}
    student: dict[str, Any] = {"forward_proc": "forward_batch_only"}
    cross_entropy = _plain_loss(
        "CrossEntropyLoss", 1.0, input=_shown(False, "."), target={"uses_label": True}
    )
    if method == "kd":
        terms = {"kd": _logit_loss("KDLoss", temperature=4.0, alpha=0.1)}
    elif method == "logit_standardization":
        terms = {"std": _logit_loss("LogitStdKDLoss", temperature=2.0, alpha=0.1, beta=9.0)}
    elif method == "attention_transfer":
        terms = {"ce": cross_entropy, "at": {**_attention(), "weight": 1000.0}}
        teacher |= _hooks(*STAGES)
        student |= _hooks(*STAGES)
    else:
        target = {"uses_label": False, **_shown(True, MIDDLE)}
        hint = _plain_loss("MSELoss", 100.0, input=_shown(False, "regressor"), target=target)
        terms = {"ce": cross_entropy, "hint": hint}
        teacher |= _hooks(MIDDLE)
        student |= _hooks(f"student_model.{MIDDLE}", "regressor")
        student["auxiliary_model_wrapper"] = {"key": "Hint"}
    return {
        "num_epochs": 1,
        "teacher": teacher,
        "student": student,
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.01, "momentum": 0.9}},
    }


def steps(setting: Setting, images: ImageSet, method: str, batch: int) -> Iterator[float]:
    """Its steps, with the loss read as a number, as its example scripts log it."""
    teacher, student = setting.pair()
    source = setting.source(images, batch=batch)
    box = get_distillation_box(
        teacher.module, student.module, {}, config(method), torch.device("cpu"), None, False, 1
    )
    box.pre_epoch_process(epoch=0)
    while True:
        drawn = source.take()
        assert isinstance(drawn.inputs, torch.Tensor)
        pixels = student.normalized(drawn.inputs)
        loss = box.forward_process(pixels, drawn.labels, None)
        box.post_forward_process(loss=loss)
        yield loss.item()
