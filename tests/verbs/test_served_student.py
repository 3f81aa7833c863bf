"""A distilled student's folder behind `transformers serve`, beside the student here."""

from pathlib import Path

import httpx

from preceptor.data.tokenizers import load_tokenizer
from preceptor.models.generate import generate
from preceptor.models.load import load
from preceptor.models.sampling import Sampling
from preceptor.verbs.distill import distill
from preceptor.verbs.export import export
from tests.servers.chat_model import write_chat_model
from tests.servers.transformers_serve import served_by_transformers
from tests.verbs.small import written
from tests.verbs.text import sums, written_recipe

MOST = 8
ASKED = ["3+4=", "What is it?", "9+9=", "Tell me of 7."]


def test_a_students_folder_answers_a_server_as_the_student_answers_here(tmp_path: Path) -> None:
    write_chat_model(tmp_path / "base")
    base = {"folder": str(tmp_path / "base")}
    recipe = written_recipe(
        sums(tmp_path / "sums.jsonl"),
        student={"model": base},
        teacher={"model": base},
        evaluate=["accuracy"],
    )
    recipe["data"] |= {"tokenizer": None, "plain": False, "max_length": 48}
    run = distill(written(recipe, tmp_path / "sums.yaml"), out=tmp_path / "run")
    place = export(run.folder).folder
    student, tokenizer = load(place), load_tokenizer(place)
    turns = [[{"role": "user", "content": text}] for text in ASKED]
    prompts = [
        tokenizer(
            tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True),
            add_special_tokens=False,
        )["input_ids"]
        for each in turns
    ]
    greedy = Sampling(max_new=MOST, temperature=0.0)
    ends = {tokenizer.eos_token_id}
    found = generate(student, prompts, greedy, seeds=range(len(ASKED)), ends=ends)
    here = [tokenizer.decode(ids, skip_special_tokens=True) for ids in found.ids]
    with served_by_transformers(place) as root:
        there = [
            httpx.post(
                f"{root}/v1/chat/completions",
                json={
                    "model": str(place),
                    "messages": each,
                    "temperature": 0.0,
                    "max_tokens": MOST,
                    "stream": False,
                },
                timeout=60,
            ).json()["choices"][0]["message"]["content"]
            for each in turns
        ]
    assert there == here
    assert any(here)
