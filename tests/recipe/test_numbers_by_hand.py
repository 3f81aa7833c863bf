"""What a report says of a language model, computed again with transformers alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from preceptor.data.arithmetic import Arithmetic, final_answer
from preceptor.evaluate.report import Report, Value
from preceptor.recipe.load import load_recipe, plain
from tests.verbs.small import ran

MOST = 14


def short(**fields: Any) -> dict[str, Any]:
    """The `arithmetic` preset with problems that a student half solves in seconds."""
    whole = plain(load_recipe("arithmetic"))
    whole |= {"seed": {"count": 1}, "variants": {}, "control": {"arms": []}}
    whole["data"]["arguments"] = {"operations": 1, "largest": 15, "train": 200} | fields
    whole["data"]["verify"] |= {"most": MOST, "batch": 7}
    whole["teacher"]["train"]["steps"] = 25
    whole["stages"][0]["plan"]["steps"] = 50
    return whole


def reported(report: Report, arm: str, name: str) -> float:
    measure = report.arm(arm).measures[name]
    assert isinstance(measure, Value)
    return measure.estimate


def test_accuracy_and_bits_are_what_transformers_itself_gives(tmp_path: Path) -> None:
    report = ran(short(validation=10, test=24), tmp_path)
    folder = tmp_path / "arms/distilled/seed-0/student"
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right, nats, characters = 0, 0.0, 0
    problems = Arithmetic(operations=1, largest=15).rows(24, "test")
    for row in problems:
        prompt = tokenizer(row.prompt, return_tensors="pt").input_ids
        with torch.no_grad():
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
            ids = tokenizer(whole, return_tensors="pt").input_ids
            log_p = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=-1)
        chosen = log_p.gather(-1, ids[0, 1:, None]).squeeze(-1)
        nats -= float(chosen[prompt.shape[1] - 1 :].sum())
        characters += len(row.completion or "")
    assert 0 < right < len(problems)
    assert reported(report, "distilled", "accuracy") == pytest.approx(right / len(problems))
    bits = nats / math.log(2) / characters
    assert reported(report, "distilled", "bits_per_byte") == pytest.approx(bits, rel=1e-4)
