import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.tapped import TappedModel
from preceptor.models.zoo.plain import cnn
from preceptor.students.convolutions import begin_convolutions
from preceptor.students.start import Plan, begin
from tests.students.test_convolutions import logits, made, state

IMAGES = [
    torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
]


def gap(student: TappedModel, teacher: TappedModel) -> float:
    """Mean squared difference of logits on images that nothing was fitted on."""
    return (logits(student) - logits(teacher)).square().mean().item()


@pytest.mark.parametrize("name", ["cnn-deep", "resnet8"])
def test_a_network_of_its_teachers_size_needs_no_repair(name: str) -> None:
    teacher, student = made(name, 1), made(name, 2)
    report = begin_convolutions(
        student, teacher, "select", calibration=IMAGES, repair=True, ridge=1e-4
    )
    assert all(layer.before < 1e-6 for layer in report.repaired)
    torch.testing.assert_close(logits(student), logits(teacher), rtol=0, atol=0.02)


def doubled(seed: int) -> TappedModel:
    """Every second channel says what the one before says."""
    torch.manual_seed(seed)
    model = TappedModel(cnn(3, 1, widths=(16, 32, 32), per_stage=1)).eval()
    for part in model.module.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data[1::2] = part.weight.data[::2]
    return model


def test_channels_that_were_said_twice_are_made_up_for() -> None:
    teacher = doubled(1)
    plain, repaired = made("cnn-small", 2), made("cnn-small", 2)
    begin_convolutions(plain, teacher, "select")
    begin_convolutions(repaired, teacher, "select", calibration=IMAGES, repair=True, ridge=1e-6)
    assert gap(repaired, teacher) < 1e-6 < gap(plain, teacher)


@pytest.mark.parametrize(
    ("big", "small"),
    [("cnn-large", "cnn-small"), ("resnet20", "resnet8"), ("wrn-16-2", "wrn-16-1")],
)
def test_repair_brings_a_smaller_network_nearer_to_its_teacher(big: str, small: str) -> None:
    teacher, gaps = made(big, 1), []
    for repair in (False, True):
        student = made(small, 2)
        report = begin_convolutions(
            student, teacher, "select", calibration=IMAGES, repair=repair, ridge=0.01
        )
        gaps.append(gap(student, teacher))
    convolutions = sum(tensor.dim() == 4 for tensor in state(student).values())
    assert len(report.repaired) == convolutions + 1
    assert all(layer.after <= layer.before + 1e-9 for layer in report.repaired)
    assert gaps[1] < 0.5 * gaps[0]


def test_a_repaired_norm_has_the_statistics_of_what_it_is_given() -> None:
    teacher, student = made("cnn-large", 1), made("cnn-small", 2)
    size = _row_norms(teacher, student)
    begin_convolutions(student, teacher, "select", calibration=IMAGES, repair=True)
    first = student.module.get_submodule("stage1.0.0")
    norm = student.module.get_submodule("stage1.0.1")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        given = torch.cat([first(batch) for batch in IMAGES])
    torch.testing.assert_close(norm.running_mean, given.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, given.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    # Kernels stay as long as they were taken: how fast they learn depends on it.
    torch.testing.assert_close(state(student)["stage1.0.0.weight"].flatten(1).norm(dim=1), size)


def _row_norms(teacher: TappedModel, student: TappedModel) -> Tensor:
    begin_convolutions(student, teacher, "select")
    return state(student)["stage1.0.0.weight"].flatten(1).norm(dim=1)


def test_convolutions_are_not_fitted_without_images() -> None:
    with pytest.raises(ModelError, match="none were given"):
        begin(made("resnet8", 1), made("resnet8", 2), Plan("select", repair=True))
