import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from preceptor.errors import ModelError
from preceptor.objectives.reviewkd import Fusion, ReviewKD
from preceptor.ops.maps import pyramid_distance
from tests.objectives.feature_taps import context, outputs, plain_batch, random_tensor, signal

LAYERS = (("s1", "t1"), ("s2", "t2"))


def taps(seed: int, prefix: str, channels: tuple[int, int], batch: int = 3) -> dict[str, Tensor]:
    return {
        f"{prefix}1": random_tensor(batch, channels[0], 8, 8, seed=seed),
        f"{prefix}2": random_tensor(batch, channels[1], 4, 4, seed=seed + 1),
    }


def built(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[ReviewKD, nn.ModuleList]:
    torch.manual_seed(0)
    objective = ReviewKD(LAYERS)
    return objective, objective.auxiliary(context(ours, theirs))


def batch_norm(x: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def test_the_value_equals_the_papers_equations_written_out() -> None:
    ours, theirs = taps(0, "s", (2, 4)), taps(5, "t", (3, 5))
    objective, aux = built(ours, theirs)
    weights = [p.detach() for p in aux.parameters() if p.ndim == 4]
    bottom_in, bottom_out, middle_in, middle_out, middle_share, top_in, top_out, top_share = weights
    biases = [p.detach() for name, p in aux.named_parameters() if name.endswith("attend.0.bias")]

    deep = batch_norm(F.conv2d(ours["s2"].mean((2, 3), keepdim=True), bottom_in))
    answers = [batch_norm(F.conv2d(deep, bottom_out, padding=1))]
    steps = (
        (ours["s2"], middle_in, middle_out, middle_share, biases[0]),
        (ours["s1"], top_in, top_out, top_share, biases[1]),
    )
    for features, enter, leave, share, offset in steps:
        own = batch_norm(F.conv2d(features, enter))
        side = own.shape[-1]
        factor = side // deep.shape[-1]
        wide = deep.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        z = torch.sigmoid(F.conv2d(torch.cat([own, wide], 1), share, offset))
        deep = own * z[:, 0:1] + wide * z[:, 1:2]
        answers.append(batch_norm(F.conv2d(deep, leave, padding=1)))
    targets = [theirs["t2"].mean((2, 3), keepdim=True), theirs["t2"], theirs["t1"]]
    expected = sum(pyramid_distance(a, t) for a, t in zip(answers, targets, strict=True))

    found = objective.terms(outputs(ours), signal(theirs), plain_batch(3), aux)["reviewkd"]
    assert found.per == "example"
    torch.testing.assert_close(found.values.detach(), expected)


def test_the_fused_maps_are_as_wide_as_the_deepest_student_map_up_to_a_limit() -> None:
    ours, theirs = taps(0, "s", (2, 4)), taps(5, "t", (3, 5))
    for width, expected in ((512, 4), (3, 3)):
        aux = ReviewKD(LAYERS, width=width).auxiliary(context(ours, theirs))
        widths = {f.enter[0].out_channels for f in aux if isinstance(f, Fusion)}  # pyright: ignore
        assert widths == {expected}


def test_a_vector_can_stand_as_the_deepest_level() -> None:
    ours, theirs = taps(0, "s", (2, 4)), taps(5, "t", (3, 5))
    layers = (*LAYERS, ("pooled", "embedding"))
    ours["pooled"], theirs["embedding"] = ours["s2"].mean((2, 3)), theirs["t2"].mean((2, 3))
    torch.manual_seed(0)
    objective = ReviewKD(layers)
    aux = objective.auxiliary(context(ours, theirs))
    named = objective.terms(outputs(ours), signal(theirs), plain_batch(3), aux)["reviewkd"]
    plain, modules = built(ours, theirs)
    added = plain.terms(outputs(ours), signal(theirs), plain_batch(3), modules)["reviewkd"]
    torch.testing.assert_close(named.values, added.values)


def test_the_student_may_be_larger_or_smaller_than_the_teacher() -> None:
    ours = taps(0, "s", (2, 4))
    theirs = {"t1": random_tensor(3, 3, 6, 6), "t2": random_tensor(3, 5, 6, 6)}
    objective, aux = built(ours, theirs)
    term = objective.terms(outputs(ours), signal(theirs), plain_batch(3), aux)["reviewkd"]
    assert term.values.isfinite().all()


def test_outside_training_two_halves_make_a_whole() -> None:
    ours, theirs = taps(0, "s", (2, 4), batch=4), taps(5, "t", (3, 5), batch=4)
    objective, aux = built(ours, theirs)
    aux.eval()

    def values(rows: slice) -> Tensor:
        student = outputs({name: tap[rows] for name, tap in ours.items()})
        teacher = signal({name: tap[rows] for name, tap in theirs.items()})
        size = len(student.logits)
        return objective.terms(student, teacher, plain_batch(size), aux)["reviewkd"].values

    halves = torch.cat([values(slice(0, 2)), values(slice(2, 4))])
    torch.testing.assert_close(halves, values(slice(0, 4)))


def test_one_example_is_finite_in_training_and_leaves_running_statistics_finite() -> None:
    ours, theirs = taps(0, "s", (2, 4), batch=1), taps(5, "t", (3, 5), batch=1)
    objective, aux = built(ours, theirs)
    term = objective.terms(outputs(ours), signal(theirs), plain_batch(1), aux.train())["reviewkd"]
    term.values.sum().backward()
    assert term.values.isfinite().all()
    assert all(value.isfinite().all() for value in aux.state_dict().values())


def test_layers_from_deep_to_shallow_are_refused_in_words() -> None:
    ours, theirs = taps(0, "s", (2, 4)), taps(5, "t", (3, 5))
    with pytest.raises(ModelError, match="from shallow to deep"):
        ReviewKD(LAYERS[::-1]).auxiliary(context(ours, theirs))
