"""Presets of hub models, run to their end with tiny random models of the same architectures."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from preceptor.data.tokenizers import bpe_tokenizer
from preceptor.data.verifiers import numeric
from preceptor.evaluate.report import Value
from preceptor.models.load import load, load_model
from preceptor.models.save import save_model
from preceptor.models.shrunk import shrunk
from preceptor.models.tapped import TappedModel
from preceptor.recipe.load import load_recipe, plain
from preceptor.verbs.check import check
from tests.models.test_shrunk import HUB
from tests.verbs.small import ran

QWEN, LLAMA, OLMO = "qwen3-8b-to-0.6b", "llama-8b-to-1b", "olmo2-7b-to-1b"
PADDED = 320
"""Rows of the heads; the tokenizer has fewer ids."""
TURNS = (
    "{{% for m in messages %}}<|{{{{ m.role }}}}|>{}{{{{ m.content }}}}{{{{ eos_token }}}}"
    "{{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{}{{% endif %}}"
)
TEMPLATES = {
    "plain": TURNS.format("", ""),
    # As Qwen3's: thinking that is switched off leaves a mark before each answer.
    "thinking": TURNS.format(
        "{% if m.role == 'assistant' %}<no>{% endif %}",
        "{% if enable_thinking is false %}<no>{% endif %}",
    ),
    # As Llama's: a turn that nobody wrote, with a date.
    "dated": "<|system|>Today is {{ date_string }}.{{ eos_token }}" + TURNS.format("", ""),
}


def rows(file: Path, count: int = 24) -> Path:
    """Problems as GSM8K has them, and the same as conversations."""
    with file.open("w") as opened:
        for i in range(count):
            question, answer = f"Tom has {i} eggs and buys {i % 3 + 3}.", f"#### {i % 3 + 3}"
            record: dict[str, Any] = {"question": question, "answer": answer}
            if "chat" in file.name:
                turns = [("user", question), ("assistant", answer)]
                record = {"messages": [{"role": r, "content": c} for r, c in turns]}
            opened.write(json.dumps(record) + "\n")
    return file


def saved(folder: Path, config: dict[str, Any], seed: int, template: str, lessons: int = 8) -> str:
    """A tiny model of an architecture in a folder, as the hub would give it."""
    torch.manual_seed(seed)
    tokenizer = bpe_tokenizer(["Tom has eggs and buys."], 280)
    tokenizer.chat_template = TEMPLATES[template]
    assert len(tokenizer) < PADDED
    model = load_model({"causal": shrunk(config, PADDED)})
    turns = [{"role": "user", "content": "Tom has 11 eggs and buys 4."}]
    turns.append({"role": "assistant", "content": "#### 4"})
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    _taught(model, tokenizer(text).input_ids, lessons)
    save_model(model, folder, tokenizer)
    return str(folder)


def _taught(model: TappedModel, ids: list[int], lessons: int) -> None:
    """A run refuses a teacher that knows nothing."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    text = torch.tensor([ids])
    for _ in range(lessons):
        optimizer.zero_grad()
        model.module(input_ids=text, labels=text).loss.backward()
        optimizer.step()


def tiny(preset: str, folder: Path, own: dict[str, str], chat: bool = False) -> dict[str, Any]:
    """A preset with its hub's names replaced, and a few steps; nothing else is changed."""
    whole = _renamed(copy.deepcopy(plain(load_recipe(preset))), own)
    whole["seed"]["count"] = 1
    whole["data"]["source"] = str(rows(folder / ("chat.jsonl" if chat else "rows.jsonl")))
    whole["data"] |= {"max_length": 160, "validation": 0.1, "test": 0.1}
    whole |= {"threads": 1, "evaluate": ["accuracy", "fidelity"]}
    if whole["data"]["verify"]:
        whole["data"]["verify"]["most"] = 8
    (stage,) = whole["stages"]
    stage["plan"] |= {"steps": 2, "epochs": 0, "batch": 4, "accumulate": 2}
    for fields in (stage["rollouts"] or {}).values():
        fields["most"] = 8
    return whole


def _renamed(value: Any, own: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(each, own) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, own) for each in value]
    return own.get(value, value) if isinstance(value, str) else value


def finished(recipe: dict[str, Any], folder: Path) -> None:
    """A run to its end: a finite report, and a student that transformers loads."""
    report = ran(recipe, folder)
    for arm in ("distilled", "control"):
        measure = report.arm(arm).measures["token_nll"]
        assert isinstance(measure, Value)
        assert 0 < measure.estimate < 20
    student = folder / "arms/distilled/seed-0/student"
    theirs = AutoModelForCausalLM.from_pretrained(student).eval()
    assert theirs.config.vocab_size == PADDED
    tokenizer = AutoTokenizer.from_pretrained(student)
    ids = tokenizer("Tom has 3 eggs.", return_tensors="pt").input_ids
    with torch.no_grad():
        shown = load(student)({"input_ids": ids}).projection
        logits = theirs(ids).logits[..., : len(tokenizer)]
        torch.testing.assert_close(shown.head.logits(shown.hidden), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", [QWEN, LLAMA, OLMO])
def test_a_check_needs_neither_the_hub_nor_models(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert f"{preset}: valid" in check(preset)


@pytest.mark.parametrize("name", HUB)
def test_on_policy_distillation_runs_on_every_architecture(name: str, tmp_path: Path) -> None:
    own = {
        "Qwen/Qwen3-8B": saved(tmp_path / "teacher", HUB[name], 1, "thinking"),
        "Qwen/Qwen3-0.6B": saved(tmp_path / "student", HUB[name], 2, "thinking"),
    }
    finished(tiny(QWEN, tmp_path, own), tmp_path / "run")


def test_a_cache_teaches_a_student_of_another_template(tmp_path: Path) -> None:
    config = HUB["meta-llama/Llama-3.2-1B"]
    own = {
        "meta-llama/Llama-3.1-8B-Instruct": saved(tmp_path / "teacher", config, 1, "plain"),
        "meta-llama/Llama-3.2-1B-Instruct": saved(tmp_path / "student", config, 2, "dated"),
        "cache/llama-8b": str(tmp_path / "cache"),
    }
    recipe = tiny(LLAMA, tmp_path, own, chat=True)
    finished(recipe, tmp_path / "run")
    assert list((tmp_path / "cache").iterdir())


def test_right_solutions_that_the_teacher_wrote_are_learned_from(tmp_path: Path) -> None:
    config = HUB["allenai/OLMo-2-0425-1B"]
    own = {
        "allenai/OLMo-2-1124-7B-Instruct": saved(tmp_path / "7b", config, 1, "plain", lessons=60),
        "allenai/OLMo-2-0425-1B-SFT": saved(tmp_path / "1b", config, 2, "plain"),
        "written/olmo2-7b": str(tmp_path / "written"),
    }
    finished(tiny(OLMO, tmp_path, own), tmp_path / "run")
    kept = (tmp_path / "written/data.jsonl").read_text().splitlines()
    assert kept
    for row in map(json.loads, kept):
        assert numeric(row["completion"], row["answer"])
