"""Layers that see alike."""

import numpy as np
import pytest
import torch
from torch import nn

from preceptor.models.alike import in_order, similarities
from preceptor.models.tapped import TappedModel
from preceptor.ops.similarity import linear_cka


class Blocks(nn.Module):
    """Blocks whose states are random, but for those of the same seed in another model."""

    def __init__(self, seeds: list[int], width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Identity() for _ in seeds)
        self.seeds, self.width = seeds, width

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        for block, seed in zip(self.blocks, self.seeds, strict=True):
            draw = torch.Generator().manual_seed(seed)
            state = torch.randn(*input_ids.shape, 6, generator=draw)
            padding = attention_mask[..., None] == 0
            block(state.repeat(1, 1, self.width // 6).masked_fill(padding, 1e6))
        return torch.zeros(len(input_ids), 3)


INPUTS = {"input_ids": torch.zeros(8, 9, dtype=torch.int64), "attention_mask": torch.ones(8, 9)}


def test_the_alignment_is_that_of_real_tokens_alone() -> None:
    mask = INPUTS["attention_mask"].clone()
    mask[2:, 6:] = 0
    inputs = {**INPUTS, "attention_mask": mask.long()}
    student, teacher = TappedModel(Blocks([1, 2], 6)), TappedModel(Blocks([3, 2, 1], 12))
    names = ["blocks.0", "blocks.1", "blocks.2"]
    found = similarities(student, teacher, (names[:2], names), inputs)
    assert found[0, 2] == pytest.approx(1, abs=1e-6)
    assert found[1, 1] == pytest.approx(1, abs=1e-6)
    draws = [torch.randn(8, 9, 6, generator=torch.Generator().manual_seed(s)) for s in (1, 3)]
    expected = linear_cka(*(draw[mask.bool()] for draw in draws)).item()
    assert found[0, 0] == pytest.approx(max(expected, 0), abs=1e-6)


def test_pairs_keep_their_order_and_add_up_to_the_most() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        alike = generator.random((3, 5))
        best, most = in_order(alike, 2), 0.0
        for i in range(3):
            for k in range(i + 1, 3):
                for j in range(5):
                    for m in range(j + 1, 5):
                        most = max(most, alike[i, j] + alike[k, m])
        assert sum(alike[at] for at in best) == pytest.approx(most)
        assert best[0][0] < best[1][0]
        assert best[0][1] < best[1][1]


def test_nothing_alike_still_gives_as_many_pairs() -> None:
    assert len(in_order(np.zeros((3, 4)), 3)) == 3
