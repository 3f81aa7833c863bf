import numpy as np
import pytest
import statsmodels.api as sm

from preceptor.errors import DataError
from preceptor.ops.clusters import clustered_error, numbered


def test_the_clustered_error_is_statsmodels():
    generator = np.random.default_rng(0)
    passage = generator.integers(0, 12, 80)
    scores = generator.random(12)[passage] + generator.random(80)
    fit = sm.OLS(scores, np.ones(80)).fit(
        cov_type="cluster", cov_kwds={"groups": passage, "use_correction": False}
    )
    assert clustered_error(scores, passage) == pytest.approx(float(fit.bse[0]))


def test_items_alone_have_the_usual_error_and_repeats_add_nothing():
    scores = np.random.default_rng(0).random(50)
    assert clustered_error(scores, np.arange(50)) == pytest.approx(scores.std() / np.sqrt(50))
    twice = np.repeat(scores, 2), np.repeat(np.arange(50), 2)
    assert clustered_error(*twice) == pytest.approx(scores.std() / np.sqrt(50))


def test_clusters_are_named_as_one_likes_and_one_score_has_no_spread():
    assert numbered(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="more items"):
        clustered_error(np.ones(1), np.ones(1))
