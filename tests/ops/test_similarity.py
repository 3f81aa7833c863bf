import itertools

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes as scipy_procrustes
from scipy.stats import entropy

from preceptor.errors import DataError
from preceptor.ops.similarity import agreement, effective_rank, linear_cka, procrustes


def features(seed: int, count: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64)


def test_agreement_is_one_where_the_first_choices_are_equal():
    teacher = torch.tensor([[[1.0, 2.0], [5.0, 2.0]]])
    student = torch.tensor([[[0.0, 9.0], [0.0, 2.0]]])
    assert agreement(teacher=teacher, student=student).tolist() == [[1.0, 0.0]]


def u_statistic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """HSIC as a mean over all ordered quadruples of distinct examples: its definition."""
    total, count = 0.0, 0
    for i, j, q, r in itertools.permutations(range(len(k)), 4):
        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
        count += 1
    return total / count


def test_alignment_is_the_mean_over_all_quadruples():
    x, y = features(0, 7, 3).numpy(), features(1, 7, 2).numpy()
    k, l = x @ x.T, y @ y.T  # noqa: E741
    expected = u_statistic(k, l) / np.sqrt(u_statistic(k, k) * u_statistic(l, l))
    found = linear_cka(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_alignment_does_not_change_with_rotation_scale_and_shift():
    x, y = features(0, 12, 5), features(1, 12, 4)
    turn = torch.linalg.qr(features(2, 5, 5)).Q
    torch.testing.assert_close(linear_cka(3 * x @ turn + 7, y), linear_cka(x, y))
    assert linear_cka(x, 3 * x @ turn + 7).item() == pytest.approx(1, abs=1e-6)


def test_unrelated_wide_features_of_few_examples_do_not_look_alike():
    found = [linear_cka(features(s, 12, 500), features(s + 99, 12, 500)) for s in range(20)]
    assert abs(torch.stack(found).mean().item()) < 0.05


def test_features_that_do_not_vary_have_no_alignment():
    assert linear_cka(torch.ones(6, 2), features(0, 6, 2)).isnan()


def test_three_examples_are_refused_in_words():
    with pytest.raises(DataError, match="at least four"):
        linear_cka(features(0, 3, 2), features(0, 3, 2))


def test_procrustes_is_scipys_and_one_for_what_is_only_turned():
    x, y = features(0, 30, 4), features(1, 30, 4)
    # scipy's disparity of standardised matrices is 1 - (the nuclear norm)^2.
    expected = np.sqrt(1 - scipy_procrustes(x.numpy(), y.numpy())[2])
    assert procrustes(x, y).item() == pytest.approx(expected, abs=1e-6)
    turn = torch.linalg.qr(features(2, 4, 4)).Q
    assert procrustes(x, 2 * x @ turn - 3).item() == pytest.approx(1, abs=1e-6)
    assert procrustes(torch.ones(6, 2), features(0, 6, 2)).isnan()


def test_the_effective_rank_counts_directions_that_are_used_alike():
    axes = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(axes).item() == pytest.approx(5, abs=1e-5)
    line = features(0, 40, 1) @ features(1, 1, 6)
    assert effective_rank(line).item() == pytest.approx(1, abs=1e-4)
    shares = np.linalg.svd(axes.numpy() * [1, 1, 1, 1, 0.1], compute_uv=False)
    shares = shares / shares.sum()
    scaled = axes * torch.tensor([1, 1, 1, 1, 0.1])
    assert effective_rank(scaled).item() == pytest.approx(np.exp(entropy(shares)), abs=1e-5)
