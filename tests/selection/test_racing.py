from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from preceptor.errors import DataError, NeedsError, RecipeError
from preceptor.selection.features import Features
from preceptor.selection.means import MeanLoss
from preceptor.selection.racing import Ask, Race, race
from preceptor.selection.ranking import rank
from preceptor.selection.store import FeatureStore
from tests.selection.random_features import isotropic, probe

PROMPTS = np.arange(128)
PLAN = Race(first=32)


def field(seed: int, *sizes: float, dimension: int = 32) -> dict[str, Features]:
    """Candidates whose gradients have these sizes, and share what is hard about a prompt."""
    spread = np.exp(0.3 * np.random.default_rng(seed).normal(size=128))
    return {
        f"{number}": isotropic(
            128, 3, dimension, alike=0.4, spread=size * spread, seed=100 * seed + number
        )
        for number, size in enumerate(sizes)
    }


def asking(given: Mapping[str, Features], asked: list[tuple[str, int]]) -> Ask:
    def ask(name: str, prompts: np.ndarray) -> Features:
        asked.append((name, len(prompts)))
        return given[name].of(prompts)

    return ask


def test_clear_losers_are_dropped_early_and_the_rest_is_ranked_on_all_prompts() -> None:
    given, asked = field(0, 1.0, 1.01, 3.0, 1.3), []
    found = race(list(given), PROMPTS, asking(given, asked), plan=PLAN)
    assert [(d.name, d.prompts) for d in found.dropped][-1] == ("2", 32)
    assert found.order[2:] == ("3", "2")
    left = {name: given[name] for name in found.ranking.names}
    assert found.ranking == rank(left)
    assert found.asked == sum(size for _, size in asked) < 0.8 * found.without_racing
    assert found.without_racing == 4 * 128


def test_no_prompt_is_asked_about_twice() -> None:
    given, asked = field(0, 1.0, 1.01), []
    race(list(given), PROMPTS, asking(given, asked), plan=PLAN)
    assert asked == [(name, size) for size in (32, 32, 64) for name in ("0", "1")]


def test_a_race_with_one_left_stops_looking() -> None:
    given, asked = field(0, 1.0, 4.0, 5.0), []
    found = race(list(given), PROMPTS, asking(given, asked), plan=PLAN)
    assert found.ranking.names == ("0",)
    assert [d.name for d in found.dropped] == ["1", "2"]
    assert {d.behind for d in found.dropped} == {"0"}
    assert asked == [("0", 32), ("1", 32), ("2", 32), ("0", 96)]


def test_the_best_is_dropped_in_at_most_one_race_of_twenty() -> None:
    # All are equal, so that whoever is dropped might have been the best: the hardest case.
    dropped = 0
    for seed in range(20):
        given = field(seed, 1.0, 1.0, 1.0, dimension=8)
        found = race(list(given), PROMPTS, asking(given, []), plan=PLAN, beside=())
        dropped += bool(found.dropped)
    # Of 20 races with a chance of 0.05 each, 5 or more drop one in 3 of 1000.
    assert dropped <= 4


def test_a_better_candidate_survives_and_racing_saves_half() -> None:
    asked = []
    for seed in range(8):
        given = field(seed, 1.0, 1.4, 1.4, 1.4, 1.4, dimension=16)
        found = race(list(given), PROMPTS, asking(given, []), plan=PLAN, beside=())
        assert found.order[0] == "0"
        asked.append(found.asked / found.without_racing)
    assert np.mean(asked) < 0.55


def test_any_score_races_on_its_better_side() -> None:
    losses = [np.full(384, loss, np.float32) for loss in (2.0, 1.0)]
    noise = np.random.default_rng(0).normal(size=(2, 384)).astype(np.float32) / 10
    given = {str(i): isotropic(128, 3, 16, losses=loss + noise[i]) for i, loss in enumerate(losses)}
    found = race(["0", "1"], PROMPTS, asking(given, []), MeanLoss(), plan=PLAN)
    assert found.order == ("1", "0")
    assert found.dropped[0].name == "0"


def test_a_race_goes_on_from_the_stores_of_its_candidates(tmp_path: Path) -> None:
    given = field(0, 1.0, 1.3, 3.0)
    asked: list[tuple[str, int]] = []

    def stored(stop_after: int) -> Ask:
        def ask(name: str, prompts: np.ndarray) -> Features:
            def extract(missing: np.ndarray) -> Features:
                asked.append((name, len(missing)))
                if len(asked) > stop_after:
                    raise KeyboardInterrupt
                return given[name].of(missing)

            return FeatureStore(tmp_path / name, probe(32), name, extract, piece=32)(prompts)

        return ask

    with pytest.raises(KeyboardInterrupt):
        race(list(given), PROMPTS, stored(4), plan=PLAN)
    first = list(asked)
    asked.clear()
    found = race(list(given), PROMPTS, stored(99), plan=PLAN)
    assert found == race(list(given), PROMPTS, asking(given, []), plan=PLAN)
    assert asked[0] == first[-1]
    assert sum(size for _, size in [*first[:-1], *asked]) == found.asked


def test_looks_double_up_to_all_prompts() -> None:
    assert Race(first=64).looks(512) == (64, 128, 256, 512)
    assert Race(first=64).looks(64) == (64,)
    assert Race(first=10, growth=3).looks(100) == (10, 30, 90, 100)
    with pytest.raises(RecipeError, match="growth must be >= 2"):
        Race(growth=1)


def test_what_comes_twice_or_cannot_be_compared_is_refused() -> None:
    given = field(0, 1.0, 1.0)
    with pytest.raises(DataError, match="3 candidates, of them 2 different"):
        race(["0", "1", "0"], PROMPTS, asking(given, []))
    with pytest.raises(DataError, match="2 prompts, of them 1 different"):
        race(["0", "1"], np.array([3, 3]), asking(given, []))
    with pytest.raises(DataError, match="0 candidates"):
        race([], PROMPTS, asking(given, []))
    narrow = {"0": given["0"], "1": given["1"].narrowed(16)}
    with pytest.raises(NeedsError, match="1 has dimension 16"):
        race(["0", "1"], PROMPTS, asking(narrow, []), plan=PLAN)
