import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from preceptor.ops.relations import angles, distances, similarities, unit


def rows(seed: int = 0, count: int = 6, width: int = 4) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_distances_are_scipys_over_their_positive_mean():
    x = rows()
    expected = cdist(x.numpy(), x.numpy())
    expected = expected / expected[expected > 0].mean()
    np.testing.assert_allclose(distances(x).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_distances_of_near_rows_far_from_the_origin_keep_their_digits():
    x = torch.tensor([[1000.0, 0.0], [1000.0, 0.5], [1000.0, 1.5]])
    torch.testing.assert_close(distances(x)[0], torch.tensor([0.0, 0.5, 1.5]))


def test_angles_are_the_cosines_of_plain_loops():
    x = rows().numpy()
    expected = np.zeros((6, 6, 6))
    for i in range(6):
        for j in range(6):
            for k in range(6):
                a, b = x[j] - x[i], x[k] - x[i]
                lengths = np.linalg.norm(a) * np.linalg.norm(b)
                expected[i, j, k] = a @ b / lengths if lengths > 0 else 0
    found = angles(rows(), rows()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_angles_of_some_anchors_are_those_of_all():
    x = rows()
    torch.testing.assert_close(angles(x[2:4], x), angles(x, x)[2:4])


def test_similarities_have_rows_of_euclidean_length_one():
    found = similarities(rows())
    expected = rows() @ rows().T
    expected = expected / expected.square().sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(similarities(rows() * 1e-12), expected)


@pytest.mark.parametrize("relation", [distances, lambda x: angles(x, x), similarities, unit])
@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_rows_that_coincide_give_finite_values_and_gradients(relation, scale, count):
    x = torch.full((count, 4), scale, requires_grad=True)
    found = relation(x)
    found.sum().backward()
    assert found.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_one_pair_that_coincides_among_others_leaves_gradients_of_ordinary_size():
    x = rows()
    x[1] = x[0]
    x.requires_grad_()
    (distances(x).square().sum() + angles(x, x).square().sum()).backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 1e3


@pytest.mark.parametrize("relation", [distances, similarities, unit])
def test_half_precision_is_computed_in_float32(relation):
    x = rows().bfloat16()
    assert relation(x).dtype == torch.float32
    torch.testing.assert_close(relation(x), relation(x.float()))
