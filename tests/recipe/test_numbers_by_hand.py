"""What a report says of a language model, computed again with transformers alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from preceptor.data.arithmetic import Arithmetic, final_answer
from preceptor.evaluate.report import Report, Value
from preceptor.recipe.data import TextData
from preceptor.recipe.load import load_recipe, plain, recipe_of
from preceptor.recipe.texts import parts_of
from tests.verbs.small import ran

MOST = 14


def short(name: str, teacher: int, student: int, **data: Any) -> dict[str, Any]:
    """A preset with so many steps, one seed and no control."""
    whole = plain(load_recipe(name))
    whole |= {
        "seed": {"count": 1},
        "variants": {},
        "control": {"arms": []},
        "evaluate": ["accuracy"],
    }
    whole["data"] |= data
    whole["teacher"]["train"]["steps"] = teacher
    whole["stages"][0]["plan"]["steps"] = student
    return whole


def reported(report: Report, arm: str, name: str) -> float:
    measure = report.arm(arm).measures[name]
    assert isinstance(measure, Value)
    return measure.estimate


def student(run: Path) -> tuple[Any, Any]:
    folder = run / "arms/distilled/seed-0/student"
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def log_probabilities(model: Any, ids: Tensor) -> Tensor:
    """Of each token but the first [T - 1]."""
    with torch.no_grad():
        log_p = torch.log_softmax(model(ids[None]).logits[0, :-1].double(), dim=-1)
    return log_p.gather(-1, ids[1:, None]).squeeze(-1)


def test_accuracy_and_bits_are_what_transformers_itself_gives(tmp_path: Path) -> None:
    # Problems that a student half solves in seconds.
    of = {"operations": 1, "largest": 15, "train": 200, "validation": 10, "test": 24}
    verify = {"by": "numeric", "after": "####", "most": MOST, "batch": 7}
    report = ran(short("arithmetic", 25, 50, arguments=of, verify=verify), tmp_path)
    model, tokenizer = student(tmp_path)
    right, nats, characters = 0, 0.0, 0
    problems = Arithmetic(operations=1, largest=15).rows(24, "test")
    for row in problems:
        prompt = tokenizer(row.prompt, return_tensors="pt").input_ids
        written = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=MOST,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        text = tokenizer.decode(written[0, prompt.shape[1] :], skip_special_tokens=True)
        right += final_answer(text) == row.answer
        whole = f"{row.prompt}{row.completion}{tokenizer.eos_token}"
        ids = tokenizer(whole, return_tensors="pt").input_ids[0]
        nats -= float(log_probabilities(model, ids)[prompt.shape[1] - 1 :].sum())
        characters += len(row.completion or "")
    assert 0 < right < len(problems)
    assert reported(report, "distilled", "accuracy") == pytest.approx(right / len(problems))
    bits = nats / math.log(2) / characters
    assert reported(report, "distilled", "bits_per_byte") == pytest.approx(bits, rel=1e-4)


def test_bits_per_byte_of_prose_are_those_of_whole_pages(tmp_path: Path) -> None:
    recipe = short("prose", 12, 6, limit=20, test=0.03, validation=0.03, tokenizer={"bpe": 300})
    report = ran(recipe, tmp_path)
    model, tokenizer = student(tmp_path)
    nats, size = 0.0, 0
    said = recipe_of(recipe).data
    assert isinstance(said, TextData)
    for page in parts_of(said).test:
        text = str(page.text)
        ids = tokenizer(text + tokenizer.eos_token, return_tensors="pt").input_ids[0]
        # Windows of 128 tokens, each of which begins with the last token of the one before it.
        for begin in range(0, len(ids) - 1, 127):
            nats -= float(log_probabilities(model, ids[begin : begin + 128]).sum())
        size += len(text.encode())
    bits = nats / math.log(2) / size
    assert reported(report, "distilled", "bits_per_byte") == pytest.approx(bits, rel=1e-4)
