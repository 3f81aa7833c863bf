import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from preceptor.distributions import Dense, Mixture, Sampled, TopK
from preceptor.errors import NeedsError
from preceptor.teachers.tokens.selection import drawn, largest


def logits(n: int, classes: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("classes", [7, 97, 4097, 32_768])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_largest_are_those_of_a_full_sort(classes: int, temperature: float) -> None:
    given = logits(6, classes)
    found = largest(Dense(given), 12, temperature)
    k = min(12, classes)
    exact = torch.log_softmax(given.double() / temperature, dim=-1)
    ids = exact.topk(k).indices.sort(dim=-1).values
    assert torch.equal(found.ids, ids)
    assert torch.allclose(found.log_p.double(), exact.gather(-1, ids), atol=1e-5)
    tail = exact.scatter(-1, ids, -torch.inf).logsumexp(dim=-1)
    assert torch.allclose(found.log_tail.double(), tail, atol=1e-5)


def test_a_tiny_tail_keeps_its_digits() -> None:
    given = torch.cat([torch.zeros(1, 4), torch.full((1, 100), -30.0)], dim=1)
    expected = torch.log_softmax(given.double(), dim=-1)[0, 4:].logsumexp(dim=0)
    assert largest(Dense(given), 4, 1.0).log_tail.item() == pytest.approx(expected.item(), abs=1e-5)


def test_ties_are_taken_once_each() -> None:
    found = largest(Dense(torch.zeros(2, 5000)), 50, 1.0)
    assert all(len(set(row)) == 50 for row in found.ids.tolist())
    assert torch.allclose(found.log_tail.exp(), torch.tensor(0.99))


def test_classes_without_probability_are_not_taken() -> None:
    given = logits(3, 5000)
    given[:, 20:] = -torch.inf
    found = largest(Dense(given), 30, 1.0)
    assert (found.ids >= 0).sum(dim=-1).tolist() == [20, 20, 20]
    assert found.ids.max() < 20
    assert (found.log_tail == -torch.inf).all()
    assert torch.equal(found.log_p.isinf(), found.ids < 0)


def test_of_a_mixture_it_is_the_mixtures_largest() -> None:
    mixture = Mixture((Dense(logits(4, 97)), Dense(logits(4, 97, 1))), torch.full((2, 4), 0.5))
    found = largest(mixture, 97, 2.0)
    assert torch.allclose(found.log_p, mixture.log_probs(2.0), atol=1e-5)


def test_cutting_the_largest_is_as_if_fewer_had_been_asked_for() -> None:
    given = Dense(logits(5, 400))
    cut, asked = largest(largest(given, 40, 2.0), 7, 2.0), largest(given, 7, 2.0)
    assert torch.equal(cut.ids, asked.ids)
    assert torch.allclose(cut.log_p, asked.log_p)
    assert torch.allclose(cut.log_tail, asked.log_tail, atol=1e-5)


def test_more_or_other_than_is_given_is_refused() -> None:
    given = largest(Dense(logits(2, 97)), 10, 2.0)
    with pytest.raises(NeedsError, match="the 10 largest"):
        largest(given, 11, 2.0)
    with pytest.raises(NeedsError, match="temperature"):
        largest(given, 5, 1.0)
    rows = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(NeedsError, match="largest alone, or draws"):
        drawn(given, 10, 2.0, seed=0, rows=rows, offsets=rows)


def draws(given: torch.Tensor, n: int = 50, temperature: float = 1.0, seed: int = 0) -> Sampled:
    rows = torch.arange(len(given))
    return drawn(Dense(given), n, temperature, seed=seed, rows=rows, offsets=rows * 3)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_draws_come_as_often_as_they_should(temperature: float) -> None:
    given = logits(1, 600, scale=1.0)
    found = draws(given, 60_000, temperature)
    p = torch.softmax(given[0].double() / temperature, dim=-1).numpy()
    counts = np.zeros(600)
    there = found.ids[0] >= 0
    counts[found.ids[0][there]] = found.counts[0][there]
    assert counts.sum() == 60_000
    assert chisquare(counts, p * 60_000).pvalue > 1e-3


def test_draws_depend_on_the_place_in_the_text_and_not_on_the_slice() -> None:
    given, rows, offsets = logits(8, 300), torch.arange(8) // 4, torch.arange(8) % 4
    whole = drawn(Dense(given), 20, 1.0, seed=3, rows=rows, offsets=offsets)
    for k in range(8):
        part = slice(k, k + 1)
        one = drawn(Dense(given[part]), 20, 1.0, seed=3, rows=rows[part], offsets=offsets[part])
        width = one.ids.shape[1]
        assert torch.equal(one.ids[0], whole.ids[k, :width])
        assert torch.equal(one.counts[0], whole.counts[k, :width])
    other = drawn(Dense(given), 20, 1.0, seed=4, rows=rows, offsets=offsets)
    assert not torch.equal(other.ids[:, :5], whole.ids[:, :5])


def test_draws_are_different_ids_that_ascend_and_the_entropy_is_exact() -> None:
    given = logits(5, 300)
    found = draws(given)
    for ids, counts in zip(found.ids.tolist(), found.counts.tolist(), strict=True):
        there = [i for i in ids if i >= 0]
        assert there == sorted(set(there))
        assert sum(counts) == 50
        assert all((count > 0) == (id_ >= 0) for id_, count in zip(ids, counts, strict=True))
    log_p = torch.log_softmax(given.double(), dim=-1)
    assert torch.allclose(found.entropy.double(), -(log_p.exp() * log_p).sum(-1), atol=1e-4)


def test_a_certain_class_is_drawn_always() -> None:
    given = torch.full((2, 1000), -torch.inf)
    given[0, 999], given[1, 0] = 0.0, 5.0
    found = draws(given)
    assert found.ids.tolist() == [[999], [0]]
    assert found.counts.tolist() == [[50], [50]]
    assert found.entropy.tolist() == [0.0, 0.0]
    assert isinstance(largest(Dense(given), 3, 1.0), TopK)
