import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from preceptor.ops.linearised import linearised


def test_the_mean_is_the_measure_and_the_spread_is_the_bootstraps():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 150)
    second = np.where(generator.random(150) < 0.7, first, 1 - first)
    a, b = torch.from_numpy(first).double(), torch.from_numpy(second).double()

    def kappa(w):
        w = w / w.sum()
        seen = w @ (a == b).double()
        chance = (w @ a) * (w @ b) + (1 - w @ a) * (1 - w @ b)
        return (seen - chance) / (1 - chance)

    column = linearised(kappa, 150)
    assert column.mean() == pytest.approx(cohen_kappa_score(first, second))
    drawn = [
        cohen_kappa_score(first[rows], second[rows])
        for rows in generator.integers(0, 150, (600, 150))
    ]
    assert column.std() / np.sqrt(150) == pytest.approx(np.std(drawn), rel=0.1)


def test_a_measure_that_is_none_stays_none():
    assert np.isnan(linearised(lambda w: (w * 0).sum() / (w * 0).sum(), 4)).all()
