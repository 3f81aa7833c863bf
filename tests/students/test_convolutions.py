from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from preceptor.errors import ModelError
from preceptor.models.load import load, load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.students.bases import evenly
from preceptor.students.convolutions import begin_convolutions
from preceptor.students.networks import network
from preceptor.students.start import Plan, begin
from tests.students.models import PIXELS

ZOO = ("cnn-deep", "vgg8", "resnet8", "wrn-16-1")
PAIRS = (
    *(("cnn-large", "cnn-small"), ("vgg13", "vgg8"), ("resnet20", "resnet8")),
    *(("resnet8x4", "resnet8"), ("wrn-16-2", "wrn-16-1")),
)


def made(name: str, seed: int) -> TappedModel:
    """In eval mode, with norms and statistics of its own."""
    torch.manual_seed(seed)
    model = load_model({"zoo": name, "classes": 3, "channels": 1, "size": 8}).eval()
    for part in model.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                assert tensor is not None
                tensor.data.add_(0.2 * torch.randn(tensor.shape))
    return model


def state(model: TappedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def logits(model: TappedModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(PIXELS).logits


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("basis", ["select", "prune"])
def test_a_network_of_its_teachers_size_is_its_teacher(name: str, basis: Any) -> None:
    teacher, student = made(name, 1), made(name, 2)
    report = begin_convolutions(student, teacher, basis)
    own, theirs = state(student), state(teacher)
    assert all(torch.equal(own[key], theirs[key]) for key in theirs)
    assert set(report.count()) == {"copied"}
    assert {origin.name for origin in report.origins} == set(own)


@pytest.mark.parametrize("name", ZOO)
def test_permuting_every_axis_changes_nothing(name: str) -> None:
    model = made(name, 1)
    expected, found = logits(model), network(model.module)
    generator = torch.Generator().manual_seed(0)
    orders: dict[str, Tensor] = {}
    moved = 0
    for carried in found.tensors:
        for dim, axis in enumerate(map(found.axis, carried.axes)):
            if axis in ("pixels", "classes"):
                continue
            if axis not in orders:
                orders[axis] = torch.randperm(found.lengths[axis], generator=generator)
            carried.tensor.copy_(carried.tensor.index_select(dim, orders[axis]))
            moved += 1
    assert moved > 8
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("big", "small"), PAIRS)
def test_a_smaller_network_of_the_family_is_filled_and_saved_and_read_again(
    big: str, small: str, tmp_path: Path
) -> None:
    student = made(small, 2)
    before = state(student)
    report = begin_convolutions(student, made(big, 1), "select")
    after = state(student)
    assert "random" not in report.count()
    weights = [key for key in after if key.endswith("weight")]
    assert not any(torch.equal(after[key], before[key]) for key in weights)
    save_model(student, tmp_path)
    assert torch.equal(logits(load(tmp_path)), logits(student))


def test_a_selected_convolution_is_index_arithmetic() -> None:
    teacher, student = made("cnn-large", 1), made("cnn-small", 2)
    begin_convolutions(student, teacher, "select")
    own, theirs = state(student), state(teacher)
    first, second = evenly(32, 8), evenly(64, 16)
    assert torch.equal(own["stage1.0.0.weight"], theirs["stage1.0.0.weight"][first])
    assert torch.equal(own["stage1.0.1.running_var"], theirs["stage1.0.1.running_var"][first])
    expected = theirs["stage2.0.0.weight"][second][:, first]
    assert torch.equal(own["stage2.0.0.weight"], expected)
    assert torch.equal(own["head.weight"], theirs["head.weight"][:, evenly(128, 16)])


def test_a_residual_joins_the_axes_of_all_of_a_stages_blocks() -> None:
    found = network(made("resnet20", 1).module)
    last = [f"stage2.{number}.body.3" for number in range(3)]
    assert len({found.axis(name) for name in last}) == 1
    assert found.axis("stage2.0.body.0") != found.axis(last[0])
    assert found.axis("stem.0") == found.axis("stage1.2.body.3")


def test_channels_that_are_always_zero_are_pruned_without_a_trace() -> None:
    teacher, student = _with_dead_channels(), made("cnn-small", 2)
    begin_convolutions(student, teacher, "prune")
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-4, atol=1e-5)


def _with_dead_channels() -> TappedModel:
    """Channels of `cnn-small` and as many dead ones, in a drawn order."""
    from preceptor.models.zoo.plain import cnn

    torch.manual_seed(5)
    model = TappedModel(cnn(3, 1, widths=(16, 32, 32), per_stage=1)).eval()
    for part in model.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            dead = torch.randperm(len(part.weight))[::2]
            part.weight.data[dead] = 0.0
            part.bias.data[dead] = 0.0
    return model


def test_images_give_the_norms_statistics_of_the_channels_that_are_left() -> None:
    teacher, student = made("cnn-large", 1), made("cnn-small", 2)
    images = [torch.rand(64, 1, 8, 8) for _ in range(3)]
    begin_convolutions(student, teacher, "select", calibration=images)
    first: Any = student.module.get_submodule("stage1.0")
    with torch.no_grad():
        means = torch.stack([first[0](batch).mean((0, 2, 3)) for batch in images])
    torch.testing.assert_close(first[1].running_mean, means.mean(0), rtol=1e-4, atol=1e-5)
    assert first[1].momentum == 0.1
    assert not student.training


@pytest.mark.parametrize("name", ["mobilenetv2", "shufflenetv2"])
def test_channels_that_cannot_be_followed_are_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match="which of them belong together"):
        network(load_model({"zoo": name, "classes": 3}).module)


def test_networks_that_do_not_fit_are_refused() -> None:
    small, large = made("cnn-small", 1), made("cnn-large", 2)
    with pytest.raises(ModelError, match="units in 'stage1', its teacher 1"):
        begin_convolutions(large, small, "select")
    with pytest.raises(ModelError, match="nowhere wider"):
        begin_convolutions(made("resnet8x4", 1), made("resnet8", 1), "select")
    with pytest.raises(ModelError, match="teacher's family"):
        begin_convolutions(small, made("resnet8", 1), "select")


def test_other_classes_stay_random() -> None:
    student = load_model({"zoo": "cnn-small", "classes": 5, "channels": 1, "size": 8})
    report = begin_convolutions(student, made("cnn-large", 1), "select")
    assert report.count()["random"] == 2
    assert "5 classes, the teacher has 3" in report.warnings[0]


def test_a_plan_for_any_model_reaches_convolutional_ones() -> None:
    teacher, student = made("resnet20", 1), made("resnet8", 2)
    report = begin(student, teacher, Plan("select"))
    assert report.basis == "select"
    for plan in (Plan("guide"), Plan("project"), Plan("random")):
        with pytest.raises(ModelError, match="each channel on its own"):
            begin(student, teacher, plan)
