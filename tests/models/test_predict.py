from itertools import pairwise

import numpy as np
import pytest
import torch

from preceptor.errors import DataError
from preceptor.models import zoo
from preceptor.models.predict import predict
from preceptor.models.tapped import TappedModel
from preceptor.types import Batch


def batches(sizes: tuple[int, ...] = (3, 1)) -> list[Batch]:
    pixels = torch.rand(sum(sizes), 1, 8, 8)
    starts = np.cumsum((0, *sizes))
    return [
        Batch(
            pixels[a:b],
            labels=torch.arange(int(a), int(b)),
            ids=10 + torch.arange(int(a), int(b)),
        )
        for a, b in pairwise(starts)
    ]


def test_rows_come_in_order_with_their_labels_and_ids() -> None:
    model = TappedModel(zoo.create("cnn-small", 5, 1, 8)).eval()
    found = predict(model, batches())
    assert found.logits.shape == (4, 5)
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert found.ids.tolist() == [10, 11, 12, 13]
    assert len(found) == 4
    whole = predict(model, batches((4,)))
    assert found.logits.dtype == np.float32
    assert whole.logits.shape == found.logits.shape


def test_a_pass_moves_no_buffer_and_keeps_every_mode() -> None:
    model = TappedModel(zoo.create("cnn-small", 5, 1, 8)).train()
    norm = model.module.get_submodule("stage1.0.1").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, batches())
    assert model.training
    assert not norm.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_any_function_of_a_batch_predicts() -> None:
    found = predict(lambda batch: batch.inputs.flatten(1)[:, :2].double(), batches())
    assert found.logits.shape == (4, 2)
    assert found.logits.dtype == np.float32


def test_examples_without_label_or_id_are_marked_and_numbered() -> None:
    plain = [Batch(torch.rand(2, 1, 8, 8)), Batch(torch.rand(1, 1, 8, 8))]
    found = predict(lambda batch: batch.inputs.flatten(1), plain)
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.ids.tolist() == [0, 1, 2]


def test_no_batch_is_a_sentence() -> None:
    with pytest.raises(DataError, match="nothing to predict"):
        predict(lambda batch: batch.inputs, [])
