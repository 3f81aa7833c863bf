import gc

import pytest
import torch
from torch import nn

from preceptor.errors import ModelError
from preceptor.models.taps import expand, find_module, parsed, reading, unmoved_taps
from tests.models.hand_made import Checkpointed, InPlace, Several


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_a_tap_is_what_the_module_returned() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.randn(2, 3)
    with reading(model, frozenset({"0", "1:input", ""})) as taps:
        answer = model(x)
    assert torch.equal(taps["0"], model[0](x))
    assert torch.equal(taps["1:input"], taps["0"])
    assert torch.equal(taps[""], answer)


def test_items_are_read_by_number_and_by_name() -> None:
    model, x = Several(), torch.randn(2, 4)
    wanted = {"pair", "pair:output[1]", "pair:input", "pair:input[scale]", "named:output[hidden]"}
    with reading(model, frozenset({*wanted, "named", "named:output[2]"})) as taps:
        answer = model(x)
    assert torch.equal(taps["pair:output[1]"], 3 * taps["pair"])
    assert torch.equal(taps["pair:input"], taps["pair"])
    assert taps["pair:input[scale]"] == 3
    assert torch.equal(taps["named"], answer["logits"])  # The first tensor; the loss is None.
    assert torch.equal(taps["named:output[hidden]"], 2 * answer["logits"])
    assert torch.equal(taps["named:output[2]"], taps["named:output[hidden]"])


def test_an_item_that_is_not_there_answers_with_those_that_are() -> None:
    model = Several()
    with (
        pytest.raises(ModelError, match="logits, hidden"),
        reading(model, frozenset({"named:output[loss]"})),
    ):
        model(torch.randn(2, 4))
    single = nn.Sequential(nn.Identity())
    with (
        pytest.raises(ModelError, match="there is one tensor"),
        reading(single, frozenset({"0:output[1]"})),
    ):
        single(torch.randn(2, 4))


def test_a_module_called_twice_shows_its_last_call() -> None:
    model, x = Several(), torch.randn(2, 4)
    with reading(model, frozenset({"shared"})) as taps:
        model(x)
    assert torch.equal(taps["shared"], model.shared(model.shared(x)))


def test_an_operation_in_place_does_not_write_over_a_tap() -> None:
    model, x = InPlace().eval(), torch.randn(2, 1, 4, 4)
    with reading(model, frozenset({"first", "norm", "relu:input"})) as taps:
        model(x)
    assert torch.equal(taps["first"], model.first(x))
    assert taps["first"].min() < 0
    assert torch.equal(taps["relu:input"], taps["first"])
    assert torch.equal(taps["norm"], model.norm(model.first(x).relu()))


def test_taps_that_nothing_writes_over_are_known_and_not_copied() -> None:
    model, x = InPlace().eval(), torch.randn(2, 1, 4, 4)
    taps = frozenset({"first", "norm", "relu", "head:input", "head"})
    unmoved = unmoved_taps(model, taps, lambda: model(x))
    assert unmoved == {"relu", "head:input", "head"}
    with reading(model, taps, unmoved=unmoved) as found:
        answer = model(x)
    assert found["head"] is answer


def test_a_tap_that_is_wrongly_called_unmoved_is_refused() -> None:
    model = InPlace()
    with (
        pytest.raises(ModelError, match="'first' was read without a copy"),
        reading(model, frozenset({"first"}), unmoved=frozenset({"first"})),
    ):
        model(torch.randn(2, 1, 4, 4))


def test_taps_in_inference_mode_are_copies() -> None:
    model = InPlace().eval()
    with (
        torch.inference_mode(),
        reading(model, frozenset({"first"}), unmoved=frozenset({"first"})) as t,
    ):
        model(torch.randn(2, 1, 4, 4))
    assert t["first"].min() < 0


def test_hooks_are_gone_after_an_error() -> None:
    model = InPlace()
    with pytest.raises(RuntimeError), reading(model, frozenset({"first", "head:input"})):
        model(torch.randn(2, 5, 4, 4))
    assert hooks(model) == 0
    with pytest.raises(ModelError), reading(model, frozenset({"first", "heat"})):
        pass
    assert hooks(model) == 0


def test_nothing_stays_alive_after_a_hundred_passes() -> None:
    model = InPlace()

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def step() -> None:
        with reading(model, frozenset({"first", "norm", "head:input"})) as taps:
            loss = model(torch.randn(2, 1, 4, 4)).sum()
        (loss + taps["first"].sum()).backward()

    step()
    before = tensors()
    for _ in range(100):
        step()
    assert tensors() == before
    assert hooks(model) == 0


def test_a_tap_under_checkpointing_has_its_gradient() -> None:
    model, x = Checkpointed(reentrant=False), torch.randn(2, 4)
    with reading(model, frozenset({"body.0"})) as taps:
        model(x)
    taps["body.0"].square().sum().backward()
    expected = 2 * model.body[0](x).T @ x
    (found,) = (p.grad for name, p in model.named_parameters() if name == "body.0.weight")
    assert found is not None
    assert torch.allclose(found, expected, atol=1e-5)


def test_reentrant_checkpointing_would_lose_the_gradient_and_is_refused() -> None:
    model, x = Checkpointed(reentrant=True), torch.randn(2, 4, requires_grad=True)
    with (
        pytest.raises(ModelError, match="use_reentrant=False"),
        reading(model, frozenset({"body.0"})),
    ):
        model(x)


def test_a_wrong_name_answers_with_the_nearest_three() -> None:
    with pytest.raises(ModelError, match="Nearest: norm, "):
        find_module(InPlace(), "norn")
    with pytest.raises(ModelError, match="Nearest: first, "):
        find_module(InPlace(), "firs.2:input")


def test_a_module_that_is_not_called_is_said() -> None:
    model = Several()
    with pytest.raises(ModelError, match="not called"), reading(model, frozenset({"unused"})):
        model(torch.randn(2, 4))


@pytest.mark.parametrize("name", ["a:out", "a:input[", "a:output[1]x", "a:b:c"])
def test_a_malformed_name_is_a_sentence(name: str) -> None:
    with pytest.raises(ModelError, match="colon"):
        parsed(name)


def test_a_star_stays_within_one_part_of_a_name() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU())), nn.ReLU())
    assert expand(model, "*") == ("0", "1")
    assert expand(model, "0.*") == ("0.0", "0.1")
    assert expand(model, "**.0:input") == ("0.0:input", "0.1.0:input")
    assert expand(model, "0.?.0") == ("0.1.0",)
    assert expand(model, "") == ("",)


def test_a_glob_that_names_nothing_answers_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="Nearest: first"):
        expand(InPlace(), "fist*")
