from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from preceptor.errors import ModelError, NeedsError, RecipeError
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.teachers.ema import EMA
from preceptor.teachers.ensemble import Ensemble, mixture
from preceptor.teachers.live import Live
from preceptor.teachers.past_predictions import PastPredictions
from preceptor.teachers.peers import Peers
from preceptor.teachers.weighting import confidence
from preceptor.types import Batch, Dense, Mixture, Needs, Signal
from tests.teachers.small import CLASSES, batch_of, cnn


class Fixed(Teacher):
    """Probabilities that exist at one temperature alone."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"probabilities"}), temperatures=frozenset({self.temperature}))

    def signal(self, batch: Batch) -> Signal:
        logits = torch.arange(CLASSES * 1.0).expand(len(batch), CLASSES)
        return Signal(Dense(logits, self.temperature))


def three() -> list[Live]:
    return [Live(cnn(seed)) for seed in range(3)]


def raw(batch: Batch) -> np.ndarray:
    return np.stack([teacher.signal(batch).logits.double().numpy() for teacher in three()])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_mean_of_probabilities_is_exact_at_any_temperature(temperature: float) -> None:
    batch = batch_of([1, 2, 3])
    found = Ensemble(three()).signal(batch).whole.log_probs(temperature)
    expected = softmax(raw(batch) / temperature, axis=-1).mean(axis=0)
    assert np.allclose(found.exp().numpy(), expected, atol=1e-6)


def test_fixed_weights_weigh_the_probabilities() -> None:
    batch, weights = batch_of([1, 2, 3]), np.array([0.5, 0.3, 0.2])
    teacher = Ensemble(three(), weights=(0.5, 0.3, 0.2))
    z = raw(batch) / 2
    logs = log_softmax(z, axis=-1)
    expected = np.log((weights[:, None, None] * np.exp(logs)).sum(axis=0))
    found = teacher.signal(batch).whole.log_probs(2.0)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_the_mean_of_logits_is_raw_logits() -> None:
    batch = batch_of([1, 2])
    teacher = Ensemble(three(), combine="logits", weights=(0.5, 0.3, 0.2))
    expected = np.tensordot([0.5, 0.3, 0.2], raw(batch), axes=1)
    assert np.allclose(teacher.signal(batch).logits.numpy(), expected, atol=1e-5)
    assert teacher.offers().kinds == {"logits", "probabilities"}


def test_the_mean_of_probabilities_holds_no_raw_logits() -> None:
    teacher = Ensemble(three())
    assert teacher.offers().kinds == {"probabilities"}
    with pytest.raises(NeedsError, match="raw logits"):
        _ = teacher.signal(batch_of([1])).logits


def test_a_weight_of_zero_leaves_a_member_out() -> None:
    batch = batch_of([1, 2])
    found = Ensemble(three(), weights=(0.0, 1.0, 0.0)).signal(batch).whole.log_probs(3.0)
    expected = three()[1].signal(batch).whole.log_probs(3.0)
    assert torch.allclose(found, expected, atol=1e-6)


def test_weights_by_confidence_are_read_at_temperature_one() -> None:
    batch = batch_of([1, 2, 3])
    each = torch.stack([t.signal(batch).whole.log_probs(1.0) for t in three()])
    distribution = Ensemble(three(), weights="confidence").signal(batch).distribution
    assert isinstance(distribution, Mixture)
    assert torch.allclose(distribution.weights, confidence(each))
    soft = torch.stack([t.signal(batch).whole.log_probs(4.0).exp() for t in three()])
    expected = (confidence(each).unsqueeze(-1) * soft).sum(dim=0)
    assert torch.allclose(distribution.log_probs(4.0).exp(), expected, atol=1e-6)


def test_weights_by_agreement_favour_who_finds_the_label_likelier() -> None:
    batch = batch_of([0, 1, 2])
    distribution = Ensemble(three(), weights="agreement").signal(batch).distribution
    assert isinstance(distribution, Mixture)
    each = torch.stack([t.signal(batch).whole.log_probs(1.0) for t in three()])
    likelihood = each[:, torch.arange(3), batch.labels]
    assert torch.equal(distribution.weights.argsort(dim=0), likelihood.argsort(dim=0))
    assert torch.allclose(distribution.weights.sum(dim=0), torch.ones(3))


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_a_hidden_label_is_not_read(combine: Any) -> None:
    plain = batch_of([0, 1, 2])
    hidden = Batch(plain.inputs, labels=plain.labels, labelled=torch.tensor([False, False, True]))
    bare = Batch(plain.inputs)
    teacher = Ensemble(three(), combine=combine, weights="agreement")
    even = Ensemble(three(), combine=combine).signal(plain).whole.log_probs(1.0)
    found = teacher.signal(hidden).whole.log_probs(1.0)
    assert torch.allclose(found[:2], even[:2])
    assert not torch.allclose(found[2], even[2])
    assert torch.allclose(teacher.signal(bare).whole.log_probs(1.0), even)


def test_an_ensemble_of_ensembles_is_one_ensemble() -> None:
    batch, (a, b, c) = batch_of([1, 2]), three()
    nested = Ensemble([Ensemble([a, b], weights=(0.25, 0.75)), c], weights=(0.4, 0.6))
    flat = Ensemble([a, b, c], weights=(0.1, 0.3, 0.6))
    found, expected = nested.signal(batch).whole, flat.signal(batch).whole
    assert torch.allclose(found.log_probs(4.0), expected.log_probs(4.0), atol=1e-6)


def test_a_mixture_of_a_mixture_opens_it() -> None:
    dense = [Dense(torch.randn(2, 3)) for _ in range(3)]
    inner = mixture(dense[:2], torch.tensor([[0.5, 0.1], [0.5, 0.9]]))
    outer = mixture([inner, dense[2]], torch.tensor([[0.8, 0.8], [0.2, 0.2]]))
    assert torch.allclose(outer.weights, torch.tensor([[0.4, 0.08], [0.4, 0.72], [0.2, 0.2]]))
    assert len(outer.members) == 3


def test_members_that_exist_at_one_temperature_bind_the_whole() -> None:
    teacher = Ensemble([*three(), Fixed(2.0)])
    assert teacher.offers().temperatures == {2.0}
    teacher.signal(batch_of([1])).whole.log_probs(2.0)
    with pytest.raises(NeedsError, match="2 alone"):
        teacher.signal(batch_of([1])).whole.log_probs(4.0)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Ensemble([]), "Name at least one teacher"),
        (lambda: Ensemble(three(), weights=(0.5, 0.5)), "2 members|3 members"),
        (lambda: Ensemble(three(), weights=(0.5, 0.5, 0.5)), "add up to 1"),
        (lambda: Ensemble(three(), weights=(1.5, -0.5, 0.0)), "none below 0"),
    ],
)
def test_weights_that_are_no_mean_are_refused(build: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Ensemble([Peers(), Live(cnn())], "logits"), "Peers.*gives no logits"),
        (lambda: Ensemble([Fixed(1.0), Fixed(2.0)]), "1, 2 alone"),
        (lambda: Ensemble([Fixed(2.0)], weights="confidence"), "read there"),
    ],
)
def test_members_that_cannot_be_averaged_are_refused(build: Any, words: str) -> None:
    with pytest.raises(NeedsError, match=words):
        build()


def test_members_with_other_classes_are_refused() -> None:
    short = cnn()
    short.module.add_module("cut", torch.nn.Linear(CLASSES, 2))
    teacher = Ensemble([Live(cnn()), Live(TappedModel(short.module))])
    with pytest.raises(ModelError, match="same classes"):
        teacher.signal(batch_of([1]))


def test_what_its_members_learned_comes_back_with_its_state() -> None:
    def build() -> Ensemble:
        return Ensemble([EMA(cnn(1)), Live(cnn(2)), PastPredictions(9, CLASSES), EMA(cnn(1))])

    teacher, student, batch = build(), cnn(1), batch_of([1, 2])
    with torch.no_grad():
        student.module.get_submodule("fc").get_parameter("weight").mul_(-1)
    teacher.learn(student, [(batch, student(batch.inputs).detached())])
    again = build()
    again.load_state(teacher.state())
    found = again.signal(batch).whole.log_probs(4.0)
    assert torch.equal(found, teacher.signal(batch).whole.log_probs(4.0))
    fresh = build().signal(batch).whole.log_probs(4.0)
    assert not torch.allclose(found, fresh)
