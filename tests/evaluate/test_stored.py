import dataclasses

import numpy as np
import pytest

from preceptor.errors import StorageError
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.results import TrainPart
from preceptor.evaluate.stored import FILE, Stored, load_results, save_results


def test_stored_results_give_the_same_report(result, tmp_path):
    one = dataclasses.replace(
        result.arms[0].seeds[0], train=TrainPart(np.arange(3), items={"nll": np.ones(3)})
    )
    arms = (dataclasses.replace(result.arms[0], seeds=(one, *result.arms[0].seeds[1:])),)
    whole = dataclasses.replace(result, arms=(*arms, *result.arms[1:]), slices={"a": ("x",) * 120})
    save_results(Stored(whole, ("accuracy",)), tmp_path)
    found = load_results(tmp_path)
    assert found is not None
    assert found.parts == ("accuracy",)
    assert build_report(found.result) == build_report(whole)
    train = found.result.arms[0].seeds[0].train
    assert train is not None
    assert train.items["nll"].tolist() == [1.0] * 3


def test_an_array_that_all_arms_share_is_kept_once(result, tmp_path):
    save_results(Stored(result, ()), tmp_path)
    arrays = sum(
        one.logits.nbytes for arm in result.everybody for one in arm.seeds if one.logits is not None
    )
    assert (tmp_path / FILE).stat().st_size < 2.5 * arrays


def test_none_are_none_and_broken_ones_get_a_sentence(tmp_path):
    assert load_results(tmp_path) is None
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(StorageError, match="make it again"):
        load_results(tmp_path)
