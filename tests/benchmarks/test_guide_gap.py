"""What `benchmarks/guide_reproduction.py` computes of losses, by hand and by what must hold."""

import numpy as np
import pytest

from benchmarks.guide_gap import advantage, interaction, reached, reduction, speed_up

SEEDS, ITEMS = 5, 40


def losses(mean: float, seed: int, seeds: int = SEEDS) -> np.ndarray:
    """Of seeds and items, all items as hard for every arm."""
    drawn = np.random.default_rng(seed)
    hard = np.random.default_rng(0).normal(0, 0.5, ITEMS)
    return mean + hard + drawn.normal(0, 0.02, (seeds, 1)) + drawn.normal(0, 0.02, (seeds, ITEMS))


def test_reduction_is_the_share_of_the_lead_by_hand() -> None:
    baseline, teacher = losses(5.0, 1), losses(3.0, 2, seeds=1)
    arm = losses(4.5, 3)
    found = reduction(arm, baseline, teacher)
    assert not isinstance(found, str)
    by_hand = (baseline.mean() - arm.mean()) / (baseline.mean() - teacher.mean())
    assert found.estimate == pytest.approx(by_hand, abs=1e-12)
    assert found.low < 0.25 < found.high
    assert found.high - found.low < 0.1


def test_baseline_reduces_nothing_and_teacher_everything() -> None:
    baseline, teacher = losses(5.0, 1), losses(3.0, 2, seeds=1)
    assert reduction(baseline, baseline, teacher) == (0.0, 0.0, 0.0)
    whole = np.broadcast_to(teacher, baseline.shape)
    assert reduction(whole, baseline, teacher) == pytest.approx((1.0, 1.0, 1.0))


def test_reduction_does_not_change_with_the_unit() -> None:
    arms = losses(4.0, 3), losses(5.0, 1), losses(3.0, 2, seeds=1)
    bits = tuple(each / np.log(2) for each in arms)
    assert reduction(*arms) == pytest.approx(reduction(*bits))


def test_reduction_is_refused_where_the_lead_may_be_nothing() -> None:
    baseline = losses(5.0, 1)
    level = baseline.mean(axis=0, keepdims=True)
    far = level + np.random.default_rng(4).normal(0, 1.0, level.shape)
    told = reduction(losses(4.5, 3), baseline, far)
    assert isinstance(told, str)
    worse = reduction(losses(4.5, 3), baseline, level + 1)
    assert isinstance(worse, str)
    assert "no lead" in worse


def test_interaction_is_nothing_where_gains_add_up() -> None:
    baseline = losses(5.0, 1)
    assert interaction(baseline, baseline - 0.5, baseline - 0.25, baseline - 0.75) == pytest.approx(
        (0.0, 0.0, 0.0), abs=1e-12
    )


def test_interaction_is_below_nothing_where_both_gain_less_than_their_sum() -> None:
    baseline, both = losses(5.0, 1), losses(4.4, 4)
    found = interaction(baseline, losses(4.5, 2), losses(4.6, 3), both)
    assert found.estimate == pytest.approx(-0.3, abs=0.05)
    assert found.high < 0


def test_advantage_is_how_far_a_loss_lies_below() -> None:
    found = advantage(losses(4.0, 1), losses(4.5, 2))
    assert found.estimate == pytest.approx(0.5, abs=0.05)
    assert found.low > 0


def test_a_curve_is_read_between_its_points() -> None:
    curve = [(0, 4.0), (10, 2.0), (20, 1.0)]
    assert reached(curve, 1.5) == pytest.approx(15.0)
    assert reached(curve, 4.5) == 0.0
    assert reached(curve, 0.5) is None


def test_speed_up_is_one_of_a_curve_over_itself_and_two_where_it_falls_twice_as_fast() -> None:
    slow = [(0, 4.0), (100, 2.0), (200, 1.0)]
    fast = [(0, 4.0), (50, 2.0), (100, 1.0), (200, 0.9)]
    assert speed_up(slow, slow) == pytest.approx(1.0)
    assert speed_up(fast, slow) == pytest.approx(2.0)
    assert speed_up(slow, fast) is None
