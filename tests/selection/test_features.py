from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preceptor.errors import DataError, NeedsError, NonFiniteError, RecipeError, StorageError
from preceptor.selection.features import Features, joined
from preceptor.selection.texts import repetition, text_hash
from tests.selection.random_features import isotropic, probe, ragged

COLUMNS = ("sketches", "prompts", "lengths", "losses", "rank_sums", "texts", "repetitions")


def same(first: Features, second: Features) -> bool:
    equal = all(np.array_equal(getattr(first, c), getattr(second, c)) for c in COLUMNS)
    return equal and first.probe == second.probe


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    features = ragged(9, 6)
    features = replace(features, probe=probe(6, seed=4, details={"precision": "bf16", "inner": 32}))
    features.save(tmp_path / "deep" / "features.safetensors")
    assert same(Features.load(tmp_path / "deep" / "features.safetensors"), features)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["features.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a tensor in sight", None])
def test_a_file_of_something_else_gets_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "features.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match="Take them again"):
        Features.load(path)


def test_a_subset_has_all_rows_of_its_prompts_and_no_others() -> None:
    features = ragged(9, 4)
    some = features.of(np.array([3, 24, 59]))
    assert set(some.prompts.tolist()) == {3, 24, 59}
    assert len(some) == np.isin(features.prompts, [3, 24, 59]).sum()
    with pytest.raises(NeedsError, match=r"\[4\]"):
        features.of(np.array([3, 4]))


def test_the_first_responses_to_each_prompt_are_kept() -> None:
    features = ragged(9, 4)
    for most in (1, 2, 4):
        kept = features.with_responses(most)
        for prompt in features.every_prompt:
            rows = np.flatnonzero(features.prompts == prompt)[:most]
            found = kept.sketches[kept.prompts == prompt]
            np.testing.assert_array_equal(found, features.sketches[rows])
    assert same(features.with_responses(9), features)
    with pytest.raises(DataError, match="Keep one at least"):
        features.with_responses(0)


def test_how_prompts_were_cut_into_pieces_does_not_show() -> None:
    features = ragged(9, 4)
    every = features.every_prompt
    whole = joined([features])
    assert same(
        joined([features.of(every[6:]), features.of(every[:2]), features.of(every[2:6])]), whole
    )
    assert np.array_equal(whole.prompts, np.sort(features.prompts))


def test_pieces_of_different_passes_are_not_joined() -> None:
    features = ragged(9, 4)
    other = replace(features, probe=probe(4, seed=1))
    with pytest.raises(NeedsError, match="piece 1 has seed 1"):
        joined([features, other])


@pytest.mark.parametrize(
    ("name", "value"),
    [("student", "b"), ("data", "b"), ("kind", "head"), ("seed", 3), ("details", {"inner": 8})],
)
def test_candidates_of_different_passes_are_not_compared(name: str, value: object) -> None:
    features = ragged(9, 4)
    other = replace(features, probe=replace(features.probe, **{name: value}))
    with pytest.raises(NeedsError, match=f"big has {name}"):
        features.expect_comparable(other, "big")
    features.expect_comparable(features, "big")


def test_candidates_that_answer_other_prompts_are_not_compared() -> None:
    features = ragged(9, 4)
    with pytest.raises(NeedsError, match="big answers 7 prompts"):
        features.expect_comparable(features.of(features.every_prompt[:7]), "big")


def test_columns_that_do_not_fit_get_a_sentence() -> None:
    features = ragged(9, 4)
    with pytest.raises(DataError, match="dimension is 5"):
        replace(features, probe=probe(5))
    with pytest.raises(DataError, match="at least one response"):
        features.of(np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no tokens"):
        replace(features, lengths=np.zeros_like(features.lengths))
    with pytest.raises(RecipeError, match="dimension must be >= 1"):
        probe(0)


@pytest.mark.parametrize("name", ["sketches", "losses", "rank_sums", "repetitions"])
def test_a_number_that_is_none_names_its_prompt(name: str) -> None:
    features = ragged(9, 4)
    broken = getattr(features, name).copy()
    broken.reshape(len(features), -1)[5, -1] = np.nan
    with pytest.raises(NonFiniteError, match=f"{name} .* prompt {features.prompts[5]}:"):
        replace(features, **{name: broken})


def test_narrowed_sketches_keep_inner_products_on_average() -> None:
    features = isotropic(40, 2, 96, alike=0.6)
    exact = features.sketches.astype(float) @ features.sketches.T
    drawn = []
    for seed in range(200):
        narrow = replace(features, probe=probe(96, seed=seed)).narrowed(20)
        assert narrow.probe == probe(20, seed=seed)
        drawn.append(narrow.sketches.astype(float) @ narrow.sketches.T)
    error = np.mean(drawn, axis=0) - exact
    # Of one sketch the standard deviation is about sqrt(2 / 20), of the mean of 200 about 0.02.
    assert np.abs(error).max() < 0.12
    assert np.abs(error.mean()) < 0.005
    assert np.trace(np.mean(drawn, axis=0)) == pytest.approx(np.trace(exact), rel=0.01)


def test_narrowing_is_the_same_for_every_candidate_and_does_not_widen() -> None:
    features = ragged(9, 8)
    some = features.of(features.every_prompt[:4])
    narrow = features.narrowed(3).of(some.every_prompt)
    assert same(some.narrowed(3), narrow)
    assert features.narrowed(8) is features
    with pytest.raises(DataError, match="narrowed to 9"):
        features.narrowed(9)


def test_equal_texts_have_equal_marks_on_every_machine() -> None:
    assert text_hash("four") == 5630104133424213860
    assert text_hash([1, 2, 3]) != text_hash([3, 2, 1])
    assert -(2**63) <= text_hash("any text") < 2**63


def test_repetition_is_the_share_of_ngrams_seen_before() -> None:
    assert repetition([1] * 10) == pytest.approx(6 / 7)
    assert repetition(list(range(50))) == 0.0
    assert repetition([1, 2]) == 0.0
    assert repetition([1, 2, 1, 2, 1, 2], ngram=2) == pytest.approx(3 / 5)
