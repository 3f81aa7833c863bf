"""Wrong things about text, said by a new user at the command line: one sentence, and what is there
already stays."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from preceptor.cli import app
from preceptor.data.tokenizers import character_tokenizer
from preceptor.models.load import load_model, save_model
from tests.verbs.small import contents, written
from tests.verbs.text import llama, sums, written_recipe

Change = Callable[[dict[str, Any]], object]


def refused(recipe: dict[str, Any], folder: Path) -> str:
    """The one sentence that `preceptor distill` says; it made nothing but its recipe's copy."""
    file = written(recipe, folder / "wrong.yaml")
    run = CliRunner().invoke(app, ["distill", str(file), "--out", str(folder / "wrong")])
    assert run.exit_code == 2, run.output
    assert "Traceback" not in run.output
    assert "unforeseen" not in run.output
    assert not contents(folder / "wrong")
    return " ".join(run.output.split())


def line(**said: Any) -> bytes:
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b'{"prompt": "1+1=", "compl', "sums.jsonl:5 is not JSON"),
        (b"[1, 2]", "sums.jsonl:5 is a list"),
        (line(prompt="1+1="), "sums.jsonl:5 has a prompt and no completion"),
        (line(prompt="1+1=", completion=""), "sums.jsonl:5 its completion is empty"),
        (line(prompt="1+1=", completion=2), "sums.jsonl:5 its completion is a number"),
        (line(prompt=None, completion="2"), "sums.jsonl:5 has no messages, prompt or text"),
        (line(prompt="1+1=" * 30, completion="2"), "sums.jsonl:5 has 123 tokens"),
        (b'{"prompt": "\xe9", "completion": "2"}', "sums.jsonl:5 cannot be read"),
        (
            line(messages=[{"role": "user", "content": "1"}, {"role": "assistant", "content": ""}]),
            "sums.jsonl:5 turn 2 (assistant) is empty",
        ),
        (line(messages=[{"role": "user", "content": "1"}]), "sums.jsonl:5 has no assistant turn"),
        (
            line(messages=[{"role": "assistant", "content": "1"}]),
            "sums.jsonl:5 begins with an assistant's turn",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_file_and_line(
    tmp_path: Path, broken: bytes, words: str
) -> None:
    source = sums(tmp_path / "sums.jsonl")
    lines = source.read_bytes().splitlines()
    lines[4] = broken
    source.write_bytes(b"\n".join(lines))
    assert words in refused(written_recipe(source), tmp_path)


def _smaller(recipe: dict[str, Any], **said: Any) -> None:
    recipe["student"]["model"]["causal"] |= said


def _rolls(recipe: dict[str, Any], rollouts: dict[str, Any], method: str, **data: Any) -> None:
    recipe["stages"][0] |= {"rollouts": rollouts, "objective": [{method: {}}]}
    recipe["data"] |= data


def _images(recipe: dict[str, Any], model: dict[str, Any]) -> None:
    recipe["data"] = {"kind": "images", "source": "digits"}
    recipe["teacher"] = {"model": {"zoo": "mlp"}, "train": {"steps": 2, "batch": 8}}
    recipe["student"] = {"model": model}


WRONG: dict[str, tuple[Change, tuple[str, ...]]] = {
    "no such file": (
        lambda r: r["data"].update(source="none.jsonl"),
        ("none.jsonl", "no such file or folder"),
    ),
    "no such teacher": (
        lambda r: r.update(teacher={"model": {"folder": "nobody/home"}}),
        ("nobody/home", "no such file or folder"),
    ),
    "no such causal teacher": (
        lambda r: r.update(teacher={"model": {"causal": "./nobody"}}),
        ("./nobody", "no such folder"),
    ),
    "a teacher without a tokenizer": (
        lambda r: r.update(teacher={"model": {"causal": str(Path(__file__).parent)}}),
        ("a tokenizer was looked for", "tokenizer.json"),
    ),
    "a head smaller than the tokenizer": (
        lambda r: _smaller(r, vocab_size=9),
        ("a vocabulary of 9", "its tokenizer has 20 ids"),
    ),
    "numbers that do not fit one another": (
        lambda r: _smaller(r, hidden_size=9),
        ("a configuration of llama", "multiple of the number of attention heads"),
    ),
    "a context shorter than the rows": (
        lambda r: _smaller(r, max_position_embeddings=4),
        ("has 8 tokens", "the LlamaForCausalLM sees 4"),
    ),
    "answers longer than the context": (
        lambda r: (_smaller(r, max_position_embeddings=24), r["data"]["verify"].update(most=30)),
        ("sums.jsonl", "an answer may have 30", "sees 24 tokens"),
    ),
    "rollouts longer than the context": (
        lambda r: (
            _smaller(r, max_position_embeddings=24),
            _rolls(r, {"gkd": {"most": 30}}, "gkd"),
        ),
        ("sums.jsonl", "an answer may have 30", "sees 24 tokens"),
    ),
    "packed rollouts": (
        lambda r: _rolls(r, {"gkd": {"most": 4}}, "gkd", packed=True),
        ("data.packed with rollouts",),
    ),
    "a method over text that the student never writes": (
        lambda r: r["stages"][0].update(objective=[{"kd": {"over": "student_written"}}]),
        ("kd counts over 'student_written'", "the student writes nothing"),
    ),
    "a method over text that the teacher never writes": (
        lambda r: _rolls(r, {"gkd": {"most": 4}}, "distillm2"),
        ("distillm2 counts over 'teacher_written'", "the teacher writes nothing"),
    ),
    "answers of the teacher and a cache of others": (
        lambda r: (
            _rolls(r, {"sequence_kd": {"folder": "written"}}, "ce"),
            r.update(
                teacher={"cached": {"teacher": r["teacher"], "folder": "tok", "keep": {"top_k": 3}}}
            ),
        ),
        ("sequence_kd with a cached teacher", "without `cached`"),
    ),
    "a memory of examples": (
        lambda r: r.update(teacher={"past_predictions": {}}),
        ("past_predictions with text", "one for each token"),
    ),
    "a key of images": (
        lambda r: r["data"].update(labelled=10),
        ("data.labelled: unknown key", "Known here: kind, source, arguments"),
    ),
    "no such file for the test": (
        lambda r: r["data"].update(source={"train": "sums.jsonl", "test": "no.jsonl"}),
        ("no.jsonl", "no such file or folder"),
    ),
    "documents that somebody is to answer": (
        lambda r: (
            r["data"].update(columns={"text": "prompt"}),
            r["data"].pop("verify"),
            _rolls(r, {"gkd": {"most": 4}}, "gkd"),
        ),
        ("rollouts.gkd with documents", "has no prompt"),
    ),
    "shares of more than everything": (
        lambda r: _rolls(r, {"gkd": {"most": 4, "share": 0.7, "teacher_share": 0.7}}, "gkd"),
        ("add up to 1.4",),
    ),
    "answers judged by nobody": (
        lambda r: (
            r["data"].pop("verify"),
            _rolls(r, {"sequence_kd": {"folder": "written", "right": True}}, "ce"),
        ),
        ("sequence_kd.right", "data.verify"),
    ),
    "a base of a student without adapters": (
        lambda r: r.update(teacher={"base": {}}),
        ("it has no adapters", "Give the student `lora`"),
    ),
    "rollouts of images": (
        lambda r: (
            _images(r, {"zoo": "mlp"}),
            r["stages"][0].update(rollouts={"gkd": {}}),
        ),
        ("stages.0.rollouts: gkd with images", "nobody writes those"),
    ),
    "a language model for images": (
        lambda r: _images(r, llama(8)),
        ("a causal language model was asked to tell images apart",),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_meant_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    change, words = WRONG[what]
    change(recipe)
    said = refused(recipe, tmp_path)
    assert all(word in said for word in words), said


def test_a_mended_recipe_may_go_into_the_folder_where_it_was_refused(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), control={"arms": []})
    refused(recipe | {"teacher": {"base": {}}}, tmp_path)
    file = written(recipe, tmp_path / "mended.yaml")
    run = CliRunner().invoke(app, ["distill", str(file), "--out", str(tmp_path / "wrong")])
    assert run.exit_code == 0, run.output


def teacher_folder(folder: Path, alphabet: str, template: str | None = None) -> Path:
    """A language model over these characters, as an earlier run would have left it."""
    tokenizer = character_tokenizer([alphabet])
    if template:
        tokenizer.chat_template = template
    model = load_model({"causal": llama(8)["causal"] | {"vocab_size": len(tokenizer)}})
    save_model(model, folder, tokenizer)
    return folder


def test_as_many_tokens_are_not_the_same_tokens(tmp_path: Path) -> None:
    """The student's ids are those of "+0123456789=", the teacher's of "*0123456789=".

    Each has 20 tokens.
    """
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    teacher = teacher_folder(tmp_path / "teacher", "*0123456789=")
    recipe["teacher"] = {"model": {"folder": str(teacher)}}
    said = refused(recipe, tmp_path)
    assert "vocabulary of 20 tokens and a teacher's of 20" in said
    assert "'+' and '*'" in said


def test_two_teachers_that_read_text_in_two_ways_are_refused_by_name(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    folders = [
        teacher_folder(tmp_path / name, "+0123456789=", f"{name}{{{{ messages[0].content }}}}")
        for name in ("one", "two")
    ]
    members = [{"model": {"folder": str(folder)}} for folder in folders]
    recipe["teacher"] = {"ensemble": {"members": members}}
    said = refused(recipe, tmp_path)
    assert all(str(folder) in said for folder in folders)
    assert "share tokenizer and template" in said


def test_a_server_that_is_down_is_one_sentence_and_nothing_is_trained(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    with socket.socket() as held:  # Bound and not listening: nobody else answers there either.
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        recipe["teacher"] = {"served": {"url": url, "model": "any", "top_k": 5, "retries": 0}}
        file = written(recipe, tmp_path / "wrong.yaml")
        run = CliRunner().invoke(app, ["distill", str(file), "--out", str(tmp_path / "wrong")])
    assert run.exit_code == 1, run.output
    assert f"the server at {url} cannot be reached" in " ".join(run.output.split())
    assert "Traceback" not in run.output
    assert not any(contents(tmp_path / "wrong").values())
