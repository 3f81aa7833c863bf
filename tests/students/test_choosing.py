from dataclasses import replace

import pytest
import torch

from preceptor.errors import ModelError
from preceptor.students.architecture import Sizes
from preceptor.students.axes import FUSED
from preceptor.students.choosing import Importance, chosen, depth_map

BIG = Sizes(stream=16, blocks=6, heads=8, groups=4, size=4, neurons=12, scaling=0.5)
SMALL = replace(BIG, stream=8, blocks=3, heads=4, groups=2, neurons=4)


def test_heads_are_chosen_inside_the_groups_whose_keys_they_had() -> None:
    kept = chosen(BIG, SMALL, 1).kept
    # Groups 0 and 2 of four; each keeps both of its two heads: 0, 1 and 4, 5.
    assert kept["groups"].tolist() == [*range(0, 4), *range(8, 12)]
    assert kept["heads"].tolist() == [*range(0, 8), *range(16, 24)]
    assert kept["neurons"].tolist() == [0, 3, 6, 9]
    fused = [*kept["heads"], *(32 + kept["groups"]), *(48 + kept["groups"])]
    assert kept[FUSED].tolist() == fused


def test_fewer_heads_share_the_same_keys() -> None:
    kept = chosen(BIG, replace(SMALL, heads=2), 0).kept
    assert kept["heads"].tolist() == [*range(0, 4), *range(16, 20)]
    assert kept["groups"].tolist() == [*range(0, 4), *range(8, 12)]


def test_a_head_that_shrinks_keeps_every_second_index() -> None:
    kept = chosen(BIG, replace(SMALL, size=2), 0, rotary=True).kept
    assert kept["size"].tolist() == [0, 2]
    assert kept["groups"].tolist() == [0, 2, 8, 10]


def test_rotary_heads_shrink_by_whole_factors_alone() -> None:
    with pytest.raises(ModelError, match="own frequency"):
        chosen(BIG, replace(SMALL, size=3), 0, rotary=True)
    assert chosen(BIG, replace(SMALL, size=3), 0).kept["size"].tolist() == [0, 2, 3]


def test_importance_chooses_groups_then_heads_then_neurons() -> None:
    heads = torch.tensor([0.0, 1.0, 9.0, 2.0, 0.0, 0.0, 3.0, 4.0])
    neurons = torch.arange(12.0)
    kept = chosen(BIG, replace(SMALL, heads=2), 0, Importance(heads, neurons)).kept
    # Groups 1 (11) and 3 (7); head 2 of the one, 7 of the other.
    assert kept["groups"].tolist() == [*range(4, 8), *range(12, 16)]
    assert kept["heads"].tolist() == [*range(8, 12), *range(28, 32)]
    assert kept["neurons"].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("axis", ["stream", "blocks", "heads", "groups", "size", "neurons"])
def test_a_student_that_is_larger_anywhere_is_refused_by_the_axis_name(axis: str) -> None:
    larger = replace(BIG, **{axis: 2 * getattr(BIG, axis)})
    with pytest.raises(ModelError, match=f"axis '{axis}'"):
        chosen(BIG, larger, 0)


def test_heads_that_did_not_share_keys_cannot_come_to_share_them() -> None:
    with pytest.raises(
        ModelError, match="heads to a key-value group: the student has 4, its teacher 2"
    ):
        chosen(BIG, replace(BIG, groups=2), 0)


def test_depth_maps() -> None:
    assert depth_map("even", 6, 4) == (0, 2, 3, 5)
    assert depth_map("even", 12, 2) == (0, 11)
    assert depth_map("even", 6, 1) == (0,)
    assert depth_map("first", 6, 3) == (0, 1, 2)
    influence = (0.9, 0.1, 0.4, 0.05, 0.3, 0.8)
    assert depth_map("influence", 6, 4, influence) == (0, 2, 4, 5)
    for kept in range(1, 13):
        found = depth_map("even", 12, kept)
        assert len(set(found)) == kept
        assert list(found) == sorted(found)
    with pytest.raises(ModelError, match="influence is measured"):
        depth_map("influence", 6, 4)
