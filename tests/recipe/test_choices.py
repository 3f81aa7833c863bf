"""Answers that are chosen by their likelihood, and others that are written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preceptor.errors import DataError
from preceptor.evaluate.report import Value
from preceptor.recipe.build import subject
from preceptor.recipe.load import recipe_of
from preceptor.recipe.text_answers import chosen, joined, parted, written
from tests.verbs.small import ran
from tests.verbs.text import sums, written_recipe


def made(file: Path, rows: int = 120, **verify: Any) -> Any:
    said = written_recipe(sums(file / "sums.jsonl", rows))
    said["data"]["verify"] |= verify
    recipe = recipe_of(said)
    found = subject(recipe)
    return found, found.model(recipe.student.model, 0)


def test_the_likeliest_answer_is_that_of_a_pass_for_each_answer(tmp_path: Path) -> None:
    found, model = made(tmp_path, by="choice", batch=30)
    texts, verify = found.test, found.said.verify
    scores = chosen(model, texts, verify)
    said = parted({k: torch.from_numpy(v) for k, v in scores.items()})
    answers = [texts.row(row).answer for row in range(len(texts))]
    choices = sorted(set(answers))
    assert set(said) <= set(choices)
    encode = texts.rendering.tokenizer.encode
    for row in range(3):
        prompt = texts.prompts([row])[0].tolist()
        each = []
        for choice in choices:
            ids = encode(choice, add_special_tokens=False)
            whole = torch.tensor([prompt + ids])
            with torch.no_grad():
                shown = model.eval()(
                    {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
                ).projection
                logs = shown.head.logits(shown.hidden)[0].log_softmax(dim=-1)
            places = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
            each.append(sum(logs[at, i].item() for at, i in zip(places, ids, strict=True)))
        assert said[row] == choices[int(np.argmax(each))]
        assert scores["accuracy"][row] == (said[row] == answers[row])
        normed = choices[int(np.argmax(np.array(each) / [len(c) for c in choices]))]
        assert scores["accuracy_by_length"][row] == (normed == answers[row])


def test_a_run_may_choose_and_its_report_says_both_accuracies(tmp_path: Path) -> None:
    said = written_recipe(sums(tmp_path / "sums.jsonl"))
    said["data"]["verify"] = {"by": "choice"}
    measures = ran(said, tmp_path / "run").arm("distilled").measures
    for name in ("accuracy", "accuracy_by_length", "agreement"):
        assert isinstance(measures[name], Value), name
    assert "length" not in measures


def test_a_pattern_is_looked_for_in_what_is_written(tmp_path: Path) -> None:
    found, model = made(tmp_path, by="regex", pattern=r"(\\d)")
    scores = written(model, found.test, found.said.verify)
    assert set(np.unique(scores["accuracy"])) <= {0.0, 1.0}


def test_more_answers_than_can_be_scored_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, model = made(tmp_path, by="choice")
    monkeypatch.setattr("preceptor.recipe.text_answers._MOST_CHOICES", 2)
    with pytest.raises(DataError, match="2 are the most"):
        chosen(model, found.test, found.said.verify)


def test_texts_come_back_whatever_is_in_them() -> None:
    texts = ["", "né\x00\n", "x" * 300, ""]
    arrays = {k: torch.from_numpy(v) for k, v in joined(texts).items()}
    assert parted(arrays) == tuple(texts)
    assert parted({}) == ()
