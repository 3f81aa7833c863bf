from typing import Literal

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from torch import Tensor

from preceptor.errors import ModelError
from preceptor.objectives.embedding_distillation import EmbeddingDistillation
from tests.objectives.feature_taps import PAIR, context, outputs, plain_batch, random_tensor, signal


def value(
    ours: Tensor, theirs: Tensor, form: Literal["mse", "cosine"] = "mse", mask: Tensor | None = None
) -> Tensor:
    objective = EmbeddingDistillation(PAIR, form)
    torch.manual_seed(0)
    aux = objective.auxiliary(context({"s": ours}, {"t": theirs}))
    batch = plain_batch(len(ours), mask)
    terms = objective.terms(outputs({"s": ours}), signal({"t": theirs}), batch, aux)
    assert terms["embedding_distillation"].per == "example"
    return terms["embedding_distillation"].values.detach()


def test_mse_is_torchs_own_after_the_linear_map() -> None:
    ours, theirs = random_tensor(3, 4), random_tensor(3, 6, seed=1)
    torch.manual_seed(0)
    mapped = torch.nn.Linear(4, 6, bias=False)(ours).detach()
    expected = torch.nn.functional.mse_loss(mapped, theirs)
    torch.testing.assert_close(value(ours, theirs).mean(), expected)


def test_cosine_is_scipys_and_of_unit_vectors_half_the_squared_distance() -> None:
    ours, theirs = random_tensor(3, 4), random_tensor(3, 4, seed=1)
    expected = [cosine(a, b) for a, b in zip(ours.numpy(), theirs.numpy(), strict=True)]
    np.testing.assert_allclose(value(ours, theirs, "cosine").numpy(), expected, rtol=1e-5)
    one, other = (torch.nn.functional.normalize(each, dim=-1) for each in (ours, theirs))
    torch.testing.assert_close(value(one, other) * 4 / 2, value(one, other, "cosine"))


@pytest.mark.parametrize("form", ["mse", "cosine"])
def test_the_teachers_own_embedding_is_at_no_distance(form: Literal["mse", "cosine"]) -> None:
    ours = random_tensor(3, 4)
    torch.testing.assert_close(value(ours, ours, form), torch.zeros(3), atol=1e-6, rtol=0)


def test_tokens_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="one vector an example"):
        value(random_tensor(3, 2, 4), random_tensor(3, 2, 4))
