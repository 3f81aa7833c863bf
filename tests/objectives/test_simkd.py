import json

import pytest
import torch
from torch.nn import functional as F

from preceptor.errors import ModelError, RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.objectives.simkd import Exit, Reused, SimKD
from preceptor.types import Batch, Context, Head, Outputs, Signal, Terms

OBJECTIVE = SimKD(layers=(("s", "t"),))


def maps(seed: int, channels: int, size: int, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)


def head(width: int = 6, classes: int = 3) -> Head:
    generator = torch.Generator().manual_seed(7)
    return Head(
        torch.randn(classes, width, generator=generator), torch.randn(classes, generator=generator)
    )


def signal(teacher: torch.Tensor, classifier: Head | None = None) -> Signal:
    return Signal(taps={"t": teacher}, head=classifier or head())


def built(student: torch.Tensor, teacher: torch.Tensor) -> Reused:
    torch.manual_seed(0)
    return OBJECTIVE.auxiliary(
        Context(
            student=Outputs(student.mean(dim=(2, 3)), {"s": student}),
            teacher=signal(teacher),
            num_classes=3,
            num_examples=4,
            labels=torch.arange(4) % 3,
        )
    )


def terms(
    student: torch.Tensor, teacher: torch.Tensor, aux: Reused, mask: torch.Tensor | None = None
) -> Terms:
    outputs = Outputs(student.mean(dim=(2, 3)), {"s": student})
    return OBJECTIVE.terms(outputs, signal(teacher), Batch(student, mask=mask), aux)


def test_the_loss_is_the_mean_square_to_three_convolutions_written_out():
    student, teacher = maps(0, 4, 4), maps(1, 6, 2)
    aux = built(student, teacher)
    x = F.avg_pool2d(student, 2)
    for layer, padding in ((0, 0), (3, 1), (6, 0)):
        weight = aux.exit.projector.get_parameter(f"{layer}.weight")
        x = F.conv2d(x, weight, padding=padding)
        mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
        x = ((x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()).clamp_min(0)
    expected = ((x - teacher) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(terms(student, teacher, aux)["simkd"].values, expected)
    assert aux.exit.projector.get_parameter("0.weight").shape == (3, 4, 1, 1)


def test_a_larger_teacher_map_is_averaged_down_to_the_students():
    student, teacher = maps(0, 4, 2), maps(1, 6, 4)
    aux = built(student, teacher).eval()
    expected = (aux.exit.projected(student) - F.avg_pool2d(teacher, 2)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(terms(student, teacher, aux)["simkd"].values, expected)


def test_the_teachers_own_map_through_the_exit_gives_the_teachers_logits():
    teacher, classifier = maps(1, 6, 2), head()
    aux = built(maps(0, 4, 2), teacher)
    assert classifier.bias is not None
    logits = teacher.mean(dim=(2, 3)) @ classifier.weight.T + classifier.bias
    torch.testing.assert_close(aux.exit.classified(teacher), logits)


def test_the_teachers_classifier_is_saved_and_never_trained():
    aux = built(maps(0, 4, 2), maps(1, 6, 2))
    assert {"exit.classifier.weight", "exit.classifier.bias"} <= aux.state_dict().keys()
    assert all("projector" in name for name, _ in aux.named_parameters())


class Trunk(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.s = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.fc = torch.nn.Linear(4, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.fc(self.s(pixels).mean(dim=(2, 3)))


def test_the_graft_is_made_again_from_its_words_and_its_weights():
    student, pixels = TappedModel(Trunk(), head="fc"), maps(2, 1, 4)
    features = student.reading(frozenset({"s"}))(pixels).tap("s")
    aux = built(features, maps(1, 6, 2)).eval()
    grafted = aux.graft(student)
    assert isinstance(grafted, TappedModel)
    torch.testing.assert_close(grafted(pixels).logits, aux.exit(features))
    torch.testing.assert_close(grafted.head().weight, head().weight)
    spec = json.loads(json.dumps(grafted.spec["graft"]))
    assert spec["class"] == "preceptor.objectives.simkd:Exit"
    again = Exit(**spec["arguments"]).eval()
    again.load_state_dict(aux.exit.state_dict())
    torch.testing.assert_close(again(features), aux.exit(features), rtol=0, atol=0)


def test_a_masked_example_enters_no_statistic_even_as_nan():
    student, teacher = maps(0, 4, 2), maps(1, 6, 2)
    aux = built(student, teacher)
    spoilt = torch.cat((student, torch.full((1, 4, 2, 2), torch.nan)))
    mask = torch.tensor([True] * 4 + [False])
    found = terms(spoilt, torch.cat((teacher, teacher[:1])), aux, mask)["simkd"].values
    expected = terms(student, teacher, aux)["simkd"].values
    torch.testing.assert_close(found, torch.cat((expected, torch.zeros(1))))
    found.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in aux.parameters())


def test_one_example_of_one_place_is_finite_while_training():
    student, teacher = maps(0, 4, 1, count=1), maps(1, 6, 1, count=1)
    found = terms(student, teacher, built(student, teacher).train())["simkd"].values
    assert found.isfinite().all()


def test_a_classifier_that_does_not_read_the_map_is_refused():
    with pytest.raises(ModelError, match="5 channels, its classifier reads 6"):
        built(maps(0, 4, 2), maps(1, 5, 2))
    with pytest.raises(ModelError, match="no map"):
        built(maps(0, 4, 2), torch.randn(4, 6))


def test_two_pairs_are_refused():
    both = SimKD(layers=(("s", "t"), ("s", "t")))
    with pytest.raises(RecipeError, match="2 pairs"):
        both.terms(
            Outputs(torch.zeros(1, 3)),
            Signal(),
            Batch(torch.zeros(1)),
            built(maps(0, 4, 2), maps(1, 6, 2)),
        )
