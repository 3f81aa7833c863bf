from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from preceptor.selection.cautions import (
    cautions_about,
    copies,
    effective_rows,
    within_prompt_similarity,
)
from preceptor.selection.features import Features
from tests.selection.random_features import isotropic, ragged


def plain(**told: Any) -> Features:
    return isotropic(60, 3, 8, alike=0.3, **told)


def said(features: Features, *others: Features) -> str:
    named = {"big": features, **{f"other {i}": other for i, other in enumerate(others)}}
    return " ".join(cautions_about(named))


def test_of_plain_text_nothing_is_said() -> None:
    assert said(plain(), plain()) == ""


def test_copies_of_an_answer_are_told_with_their_share() -> None:
    texts = np.arange(180)
    texts[1::3] = texts[::3]
    found = said(plain(texts=texts))
    assert "big: 33 % of its responses repeat another response to the same prompt" in found
    assert "another prompt;" not in found


def test_one_text_for_many_prompts_is_told_with_its_share() -> None:
    texts = np.arange(180)
    texts[::9] = 5
    found = said(plain(texts=texts))
    assert "big: 12 % of its responses have the text of an answer to another prompt" in found
    assert copies(plain(texts=texts)) == pytest.approx(21 / 180)


def test_repetitive_text_is_told_with_its_share() -> None:
    repetitions = np.where(np.arange(180) % 10 == 0, 0.8, 0.2).astype(np.float32)
    found = said(plain(repetitions=repetitions))
    assert "big: 10 % of its responses are repetitive" in found
    assert "GRACE" not in found


@pytest.mark.parametrize(("size", "told"), [(0.5, "smaller"), (2.0, "larger")])
def test_of_terse_and_repetitive_text_the_size_of_its_gradients_is_told_as_it_is(
    size: float, told: str
) -> None:
    marks: dict[str, Any] = {"repetitions": np.ones(180, np.float32), "lengths": np.full(180, 12)}
    odd, plainer = plain(**marks), plain()
    found = cautions_about({"odd": replace(odd, sketches=size * odd.sketches), "plain": plainer})
    does = {"smaller": "which lowers GRACE", "larger": "which raises GRACE"}[told]
    assert len(found) == 2
    assert all(f"its gradients are {told} than the others'" in each for each in found)
    assert all(does in each for each in found)


def test_a_terse_teacher_is_told_beside_the_others() -> None:
    terse = plain(lengths=np.full(180, 12))
    found = said(terse, plain(), plain())
    assert found.startswith("big is terse: 12 tokens a response, where the middle candidate")
    assert said(terse) == ""


def test_one_response_a_prompt_is_told_but_of_images() -> None:
    assert "big has one response a prompt" in said(isotropic(200, 1, 8))
    assert said(isotropic(200, 1, 8, lengths=np.ones(200, np.int64))) == ""


def test_candidates_with_more_responses_than_others_are_told() -> None:
    found = said(plain(), plain().with_responses(2))
    assert found.startswith("big has 180 responses and other 0 120 to the same prompts")
    assert said(plain().with_responses(2), plain().with_responses(2)) == ""


def test_too_few_prompts_for_the_dimension_are_told_with_what_would_do() -> None:
    crowded = isotropic(50, 4, 64, alike=0.6)
    found = said(crowded)
    assert "big: 64 dimensions for " in found
    assert "50 prompts, 200 responses, similarity within a prompt 0.6" in found
    assert "are near the singular regime" in found
    assert "leave directions in which no row lies" in said(isotropic(20, 4, 100))
    fitting = int(found.split("narrow the sketches to ")[1].split()[0])
    assert "dimensions" not in said(crowded.narrowed(fitting - 3))
    enough = int(found.split("Give ")[1].split()[0])
    assert "dimensions" not in said(isotropic(round(1.1 * enough), 4, 64, alike=0.6))


def test_a_mean_made_by_a_few_large_gradients_is_told() -> None:
    features = isotropic(120, 3, 32, common=0.3)
    assert said(features) == ""
    sketches = features.sketches.copy()
    sketches[::10] = 30 * np.eye(32, dtype=np.float32)[0] + sketches[::10]
    found = said(replace(features, sketches=sketches))
    assert "the bias part of its GRACE is 2." in found


@pytest.mark.parametrize("alike", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("common", [0.0, 0.1])
def test_similarity_is_the_correlation_within_a_prompt_beyond_what_all_share(
    alike: float, common: float
) -> None:
    features = isotropic(400, 4, 64, alike=alike, common=common)
    assert within_prompt_similarity(features) == pytest.approx(alike, abs=0.03)
    expected = 0.9 * 1600 / (1 + 3 * alike)
    assert effective_rows(features) == pytest.approx(expected, rel=0.08)


def test_similarity_is_the_mean_cosine_by_pairs() -> None:
    features = ragged(12, 5)
    u = features.sketches / np.linalg.norm(features.sketches, axis=1, keepdims=True)
    cosines = u.astype(np.float64) @ u.T
    same = features.prompts[:, None] == features.prompts[None]
    apart = cosines[~same].mean()
    within = cosines[same & ~np.eye(len(u), dtype=bool)].mean()
    expected = np.clip((within - apart) / (1 - apart), 0, 1)
    assert within_prompt_similarity(features) == pytest.approx(expected, abs=1e-6)
    alone = features.of(features.every_prompt)
    alone = replace(alone, prompts=np.arange(len(alone)))
    assert within_prompt_similarity(alone) == 0
