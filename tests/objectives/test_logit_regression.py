import numpy as np
import pytest
import torch
from torch.nn import functional as F

from preceptor.errors import NeedsError
from preceptor.objectives.logit_regression import LogitRegression
from preceptor.types import Dense, Mixture
from tests.objectives.random_logits import loss_on, pair, terms_of


def test_it_is_the_mean_square_over_classes() -> None:
    t, s = pair(6, 7)
    expected = torch.from_numpy(np.square(s.numpy() - t.numpy()).mean(-1))
    torch.testing.assert_close(
        terms_of(LogitRegression(), t, s)["logit_regression"].values, expected
    )
    loss = loss_on(LogitRegression(), student_logits=s, teacher_logits=t)
    torch.testing.assert_close(loss, F.mse_loss(s, t))


def test_centred_it_is_the_variance_of_the_difference_and_knows_no_constant() -> None:
    t, s = pair(6, 7)
    expected = torch.from_numpy(np.var(s.numpy() - t.numpy(), axis=-1))
    for shift in (0.0, 25.0):
        values = terms_of(LogitRegression(centred=True), t + shift, s)["logit_regression"].values
        torch.testing.assert_close(values, expected)


def test_probabilities_do_not_suffice() -> None:
    t, s = pair(6, 7)
    mixture = Mixture((Dense(t), Dense(t)), torch.full((2, 6), 0.5))
    for teacher in (mixture, Dense(t, temperature=4.0)):
        with pytest.raises(NeedsError, match="raw logits"):
            terms_of(LogitRegression(), teacher, s)
