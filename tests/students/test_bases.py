import numpy as np
import pytest
import torch
from torch import Tensor

from preceptor.errors import DataError
from preceptor.students.bases import (
    Basis,
    centred_moment,
    embedding_moment,
    evenly,
    most,
    principal,
    pruned,
    random_basis,
    selected,
    turned,
)
from preceptor.students.weights import ModuleWeights
from tests.students.models import model, seen


def matrix(basis: Basis) -> Tensor:
    assert basis.matrix is not None
    return basis.matrix


def table() -> tuple[ModuleWeights, Tensor]:
    teacher = model("llama", 3)
    weights = ModuleWeights(teacher)
    return weights, weights.read("model.embed_tokens.weight").double()


def test_the_embeddings_basis_is_that_of_their_singular_vectors() -> None:
    weights, rows = table()
    moment = embedding_moment(weights, seen(model("llama", 3)))
    basis = principal("guide", moment, 6, centred=False)
    _, values, vectors = np.linalg.svd(rows.numpy())
    expected = torch.from_numpy(vectors[:6].T.copy())
    # A direction's sign is free.
    cosines = (matrix(basis).T @ expected).abs()
    torch.testing.assert_close(cosines, torch.eye(6).double(), rtol=0, atol=1e-5)
    share = (values[:6] ** 2).sum() / (values**2).sum()
    assert basis.explained(moment) == pytest.approx(share, abs=1e-6)


def test_frequencies_weigh_rows_and_the_mean_is_not_taken_away() -> None:
    weights, rows = table()
    often = torch.rand(61)
    moment = embedding_moment(weights, seen(model("llama", 3)), often)
    expected = (rows * often[:, None].double()).T @ rows
    torch.testing.assert_close(moment, expected, rtol=1e-5, atol=1e-5)
    never = torch.zeros(61)
    never[5] = 1.0
    one = principal(
        "g", embedding_moment(weights, seen(model("llama", 3)), never), 1, centred=False
    )
    cosine = torch.cosine_similarity(matrix(one)[:, 0], rows[5], dim=0)
    assert cosine.abs().item() == pytest.approx(1.0, abs=1e-6)


def test_frequencies_of_another_vocabulary_are_refused() -> None:
    weights, _ = table()
    with pytest.raises(DataError, match="60 frequencies"):
        embedding_moment(weights, seen(model("llama", 3)), torch.ones(60))
    with pytest.raises(DataError, match="each occurs no less than never"):
        embedding_moment(weights, seen(model("llama", 3)), -torch.ones(61))


@pytest.mark.parametrize("centred", [False, True])
def test_dense_bases_are_orthonormal_and_centred_ones_map_onto_mean_zero(centred: bool) -> None:
    drawn = torch.randn(40, 12, dtype=torch.float64)
    bases = [
        principal("p", drawn.T @ drawn, 7, centred=centred),
        random_basis(12, 7, seed=1, centred=centred),
    ]
    for basis in bases:
        kept = matrix(basis)
        assert kept.shape == (12, 7)
        values = torch.linalg.svdvals(kept)
        expected = torch.ones(7).double()
        if centred:
            # One of the directions is what the student's own norms take away.
            expected[-1] = 0.0
            torch.testing.assert_close(kept.sum(1), torch.zeros(12).double())
            torch.testing.assert_close(kept.sum(0), torch.zeros(7).double())
        torch.testing.assert_close(values, expected)
        assert basis.gain == pytest.approx((12 / 7) ** 0.5)


def test_a_centred_basis_of_full_size_loses_nothing_of_a_centred_stream() -> None:
    drawn = torch.randn(40, 12, dtype=torch.float64)
    stream = drawn - drawn.mean(1, keepdim=True)
    basis = principal("p", drawn.T @ drawn, 12, centred=True)
    moment = centred_moment(drawn.T @ drawn)
    torch.testing.assert_close(moment, stream.T @ stream)
    assert basis.explained(moment) == pytest.approx(1.0)
    torch.testing.assert_close(basis.of(stream, 1).norm(dim=1), stream.norm(dim=1))
    full = turned("t", torch.eye(11, dtype=torch.float64), centred=True)
    torch.testing.assert_close(full.of(stream, 1).norm(dim=1), stream.norm(dim=1))


@pytest.mark.parametrize("rows", [3, 7])
def test_a_centred_basis_is_perpendicular_to_the_mean_where_a_table_has_few_rows(rows: int) -> None:
    drawn = torch.randn(rows, 12, dtype=torch.float64)
    for kept in (12, 9):
        basis = principal("guide", drawn.T @ drawn, kept, centred=True)
        assert basis.matrix is not None
        assert basis.matrix.sum(0).abs().max() < 1e-12
        stream = torch.randn(5, 12, dtype=torch.float64)
        if kept == 12:
            centred = stream - stream.mean(1, keepdim=True)
            torch.testing.assert_close(basis.of(centred, 1).norm(dim=1), centred.norm(dim=1))


def test_no_basis_keeps_more_energy_than_the_principal_one() -> None:
    drawn = torch.randn(60, 12, dtype=torch.float64) * torch.arange(1, 13)
    moment = drawn.T @ drawn
    best = principal("p", moment, 4, centred=False).explained(moment)
    for seed in range(20):
        assert random_basis(12, 4, seed=seed, centred=False).explained(moment) <= best
    assert pruned(moment.diagonal(), 4).explained(moment) <= best


def test_channels_are_evenly_spaced_or_the_most_important() -> None:
    # The published rule: a whole step where there is one, else rounded points with both ends.
    assert evenly(12, 4).tolist() == [0, 3, 6, 9]
    assert evenly(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly(7, 3).tolist() == [0, 3, 6]
    assert evenly(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert most(torch.tensor([0.1, 5.0, 3.0, 5.0]), 2).tolist() == [1, 3]
    channels = selected(seen(model("llama")), 4).channels
    assert channels is not None
    assert channels.tolist() == [0, 4, 8, 12]


def test_a_basis_acts_on_any_dimension() -> None:
    basis = random_basis(6, 3, seed=0, centred=False)
    tensor = torch.randn(2, 6, 4)
    expected = torch.einsum("adb,dk->akb", tensor, matrix(basis).float())
    torch.testing.assert_close(basis.of(tensor, 1), expected)
    chosen = Basis("select", 6, channels=torch.tensor([4, 1]))
    assert torch.equal(chosen.of(tensor, 1), tensor[:, [4, 1]])
