"""A local task of lm-evaluation-harness beside the same numbers by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from preceptor.errors import ModelError, RecipeError
from preceptor.models.harness import run_task
from preceptor.models.load import load
from preceptor.models.tapped import TappedModel
from tests.models.encoders import encoder
from tests.servers.chat_model import write_chat_model

TASK = """\
task: sums
dataset_path: json
dataset_kwargs:
  data_files:
    test: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
PAIRS = [(1, 2), (3, 4), (5, 5), (2, 2), (9, 1), (7, 6)]
ROWS = [
    {"question": f"{a}+{b}=", "choices": [str(a + b), str(a + b + 1), "x"], "label": n % 3}
    for n, (a, b) in enumerate(PAIRS)
]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "sums.yaml").write_text(TASK)
    return tmp_path / "sums.yaml"


def by_hand(model: TappedModel, tokenizer, *, classes: int = 0) -> list[float]:
    """Right where the labelled choice has the largest log-probability after the question."""
    right = []
    for row in ROWS:
        scores = []
        for choice in row["choices"]:
            before = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
            whole = tokenizer(f"{row['question']} {choice}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model.module(torch.tensor([whole])).logits[0]
            log_p = logits[:, : classes or None].log_softmax(-1)
            each = [log_p[at - 1, whole[at]] for at in range(len(before), len(whole))]
            scores.append(float(sum(each)))
        right.append(float(int(np.argmax(scores)) == row["label"]))
    return right


def test_a_local_task_gives_each_items_number_as_by_hand(task: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is missing: pip install 'preceptor[lm-eval]'")
    tokenizer = write_chat_model(task.parent / "model")
    model = load(task.parent / "model").train()
    with torch.no_grad():  # Weights that have opinions.
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    found = run_task(model, tokenizer, task, batch=4)
    assert model.training
    model.eval()
    expected = by_hand(model, tokenizer)
    assert 0 < sum(expected) < len(expected)
    assert found.items["acc"].tolist() == expected
    assert found.totals["acc"] == pytest.approx(np.mean(expected))
    assert (found.task, found.less) == ("sums", frozenset())


def test_rows_that_no_token_has_get_no_probability(task: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is missing: pip install 'preceptor[lm-eval]'")
    tokenizer = write_chat_model(task.parent / "model")
    model = load(task.parent / "model")
    few = tokenizer.get_vocab()["x"]  # As though this and what follows were padding.
    model.vocabulary = few
    found = run_task(model, tokenizer, task)
    last = [float(row["label"] == 2) for row in ROWS]
    assert not any(hit and own for hit, own in zip(found.items["acc"], last, strict=True))
    model.vocabulary = 0
    assert model.module(torch.tensor([[1, 2]])).logits.isfinite().all()


def test_what_is_no_task_and_no_language_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("group: x\n")
    tokenizer = write_chat_model(tmp_path / "model")
    model = load(tmp_path / "model")
    with pytest.raises(RecipeError, match="no line `task: NAME`"):
        run_task(model, tokenizer, tmp_path / "other.yaml")
    with pytest.raises(RecipeError, match="no such file"):
        run_task(model, tokenizer, tmp_path / "none.yaml")
    with pytest.raises(ModelError, match="models that write text"):
        run_task(encoder(), tokenizer, tmp_path / "other.yaml")
