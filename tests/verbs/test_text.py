"""Language models through a whole run: from a file of rows to a report."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from preceptor import (
    CE,
    Nobody,
    OptimizerPlan,
    Plan,
    Rendering,
    TextSet,
    TextSource,
    fit,
    read_rows,
)
from preceptor.cli import app
from preceptor.data.tokenizers import bpe_tokenizer, character_tokenizer
from preceptor.errors import PreceptorError
from preceptor.evaluate.report import Value
from preceptor.models.load import load, load_model, save_model
from preceptor.recipe.load import recipe_of
from preceptor.verbs.check import check
from preceptor.verbs.distill import distill
from tests.verbs.small import contents, ran, written
from tests.verbs.text import ADAM, llama, sums, written_recipe


def test_a_run_ends_with_a_report_and_a_student_that_transformers_loads(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    report = ran(recipe, tmp_path / "run")
    measures = report.arm("distilled").measures
    assert report.primary == "accuracy"
    for name in ("bits_per_byte", "token_nll", "token_agreement", "kl_teacher_model", "length"):
        assert isinstance(measures[name], Value), name
    assert "token_agreement" not in report.arm("teacher").measures
    assert {"token_brier", "token_ece", "kendall_top5"} <= set(measures)
    assert [curve.arm for curve in report.reliability] == ["teacher", "distilled", "control"]
    student = tmp_path / "run/arms/distilled/seed-0/student"
    theirs = AutoModelForCausalLM.from_pretrained(student).eval()
    ids = AutoTokenizer.from_pretrained(student)("3+4=", return_tensors="pt").input_ids
    with torch.no_grad():
        shown = load(student)({"input_ids": ids}).projection
        own = shown.head.logits(shown.hidden)
        torch.testing.assert_close(theirs(ids).logits, own)


def test_without_answers_to_verify_the_verdict_is_about_bits(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    del recipe["data"]["verify"]
    report = ran(recipe, tmp_path / "run")
    assert report.primary == "bits_per_byte"
    assert "length" not in report.arm("distilled").measures


def test_a_run_that_is_asked_for_again_trains_nothing_and_says_the_same(tmp_path: Path) -> None:
    recipe = recipe_of(written_recipe(sums(tmp_path / "sums.jsonl")))
    first = distill(recipe, out=tmp_path / "run")
    before = contents(tmp_path / "run")
    assert distill(recipe, out=tmp_path / "run").report == first.report
    assert contents(tmp_path / "run") == before


def test_micro_batches_change_no_number(tmp_path: Path) -> None:
    source = sums(tmp_path / "sums.jsonl")
    answers = []
    for parts in (1, 4):
        recipe = written_recipe(source)
        recipe["stages"][0]["plan"]["accumulate"] = parts
        report = ran(recipe, tmp_path / f"run-{parts}")
        measure = report.arm("distilled").measures["token_nll"]
        assert isinstance(measure, Value)
        answers.append(measure.estimate)
    assert answers[0] == pytest.approx(answers[1], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"student": {"model": {"zoo": "mlp"}}}, "was asked to write text"),
        ({"data.max_length": 3}, "the context holds 3"),
        ({"data.tokenizer": None}, "no tokenizer"),
        ({"data.columns": {"prompt": "question", "completion": "answer"}}, "question"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    for key, value in change.items():
        section, _, name = key.partition(".")
        if name:
            recipe[section][name] = value
        else:
            recipe[section] = value
    with pytest.raises(PreceptorError, match=words):
        distill(recipe_of(recipe), out=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_check_says_who_reads_what_and_how_long_it_takes(tmp_path: Path) -> None:
    words = check(recipe_of(written_recipe(sums(tmp_path / "sums.jsonl"))), deep=True)
    assert "probabilities at temperature 1 from the teacher (model)" in words
    assert "rows" in words
    assert "ms a step" in words


ROLLOUTS = {
    "gkd": ({"gkd": {"share": 0.5, "most": 4}}, [{"gkd": {}}]),
    "gkd with the teacher": (
        {"gkd": {"share": 0.4, "teacher_share": 0.4, "most": 4}},
        [{"reverse_kl": {}}],
    ),
    "distillm": ({"distillm": {"most": 4, "validate_every": 2}}, [{"skew_kl": {}}]),
    "distillm2": ({"distillm2": {"teacher": "teacher", "most": 4}}, [{"distillm2": {}}]),
    "minillm": ({"minillm": {"most": 4, "passes": 2}}, [{"minillm": {}}]),
}


@pytest.mark.parametrize("kind", ROLLOUTS)
def test_what_the_student_writes_is_learned_from_and_a_resumed_run_writes_the_same(
    tmp_path: Path, kind: str
) -> None:
    rollouts, objective = ROLLOUTS[kind]
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), control={"arms": []})
    recipe["stages"] = [
        {
            "objective": objective,
            "rollouts": rollouts,
            "plan": {"steps": 6, "batch": 8, "optimizer": ADAM},
        }
    ]
    ran(recipe, tmp_path / "whole")
    resumed(recipe, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def resumed(recipe: dict[str, Any], folder: Path) -> None:
    """A run that lost its last checkpoint and the mark that it was done, and went on."""
    ran(recipe, folder)
    for left in ("done.json", "stage-0/checkpoints/step-00000006"):
        path = folder / "arms/distilled/seed-0" / left
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ran(recipe, folder)


def _cached(folder: Path, keep: dict[str, Any]) -> dict[str, Any]:
    live = written_recipe(Path("none"))["teacher"]
    return {"cached": {"teacher": live, "folder": str(folder), "keep": keep}}


@pytest.mark.parametrize("keep", [{"top_k": 40}, {"dense": "float32"}])
def test_a_cache_of_everything_teaches_as_the_live_teacher_does(
    tmp_path: Path, keep: dict[str, Any]
) -> None:
    source = sums(tmp_path / "sums.jsonl")
    live = ran(written_recipe(source, control={"arms": []}), tmp_path / "live")
    teacher = _cached(tmp_path / "tokens", keep)
    recipe = written_recipe(source, teacher=teacher, control={"arms": []})
    read = ran(recipe, tmp_path / "cached")
    both = [each.arm("distilled").measures["token_nll"] for each in (live, read)]
    assert isinstance(both[0], Value)
    assert isinstance(both[1], Value)
    assert both[0].estimate == pytest.approx(both[1].estimate, rel=2e-3)


def test_draws_refuse_what_they_would_bias_and_a_top_k_another_temperature(tmp_path: Path) -> None:
    source = sums(tmp_path / "sums.jsonl")
    for keep, objective, words in (
        ({"sampled": 20}, [{"reverse_kl": {}}], "draws"),
        ({"top_k": 5}, [{"kd": {"temperature": 2}}], "temperature 2"),
        ({"top_k": 5}, [{"dkd": {}}], "probabilities of every class"),
    ):
        recipe = written_recipe(source, teacher=_cached(tmp_path / "tokens", keep))
        recipe["stages"][0]["objective"] = objective
        with pytest.raises(PreceptorError, match=words):
            check(recipe_of(recipe))


def test_a_cache_of_other_data_is_refused_in_words(tmp_path: Path) -> None:
    first, second = sums(tmp_path / "a.jsonl"), sums(tmp_path / "b.jsonl", rows=100)
    keep = {"sampled": 8}
    teacher = _cached(tmp_path / "tokens", keep)
    ran(written_recipe(first, teacher=teacher, control={"arms": []}), tmp_path / "first")
    recipe = written_recipe(second, teacher=teacher, control={"arms": []})
    with pytest.raises(PreceptorError, match=r"written for|another"):
        ran(recipe, tmp_path / "second")


def test_text_that_the_teacher_wrote_is_learned_from_and_asked_for_once(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), control={"arms": ["control"]})
    recipe["stages"][0] |= {
        "objective": [{"ce": {}}],
        "rollouts": {"sequence_kd": {"folder": str(tmp_path / "written"), "most": 6}},
    }
    ran(recipe, tmp_path / "run")
    kept = (tmp_path / "written/answers-0.jsonl").read_bytes()
    ran(recipe, tmp_path / "again")
    assert (tmp_path / "written/answers-0.jsonl").read_bytes() == kept
    assert (tmp_path / "written/data.jsonl").read_text().count("\n") > 10


def test_a_student_with_adapters_learns_from_its_own_base(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), control={"arms": []})
    recipe["student"]["model"]["lora"] = {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]}
    recipe["teacher"] = {"base": {}}
    report = ran(recipe, tmp_path / "run")
    assert {arm.name for arm in report.arms} == {"distilled"}
    student = tmp_path / "run/arms/distilled/seed-0/student"
    assert (student / "adapter/adapter_model.safetensors").exists()
    AutoModelForCausalLM.from_pretrained(student)
    resumed(recipe, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "run")


def test_a_cache_and_the_student_s_own_text_are_mixed(tmp_path: Path) -> None:
    source = sums(tmp_path / "sums.jsonl")
    stage = {
        "objective": [{"gkd": {}}],
        "rollouts": {"gkd": {"share": 0.5, "most": 4}},
        "plan": {"steps": 6, "batch": 8, "optimizer": ADAM},
    }
    live = ran(written_recipe(source, stages=[stage], control={"arms": []}), tmp_path / "live")
    teacher = _cached(tmp_path / "tokens", {"top_k": 40})
    recipe = written_recipe(source, stages=[stage], teacher=teacher, control={"arms": []})
    mixed = ran(recipe, tmp_path / "mixed")
    both = [each.arm("distilled").measures["token_nll"] for each in (live, mixed)]
    assert isinstance(both[0], Value)
    assert isinstance(both[1], Value)
    assert both[0].estimate == pytest.approx(both[1].estimate, rel=2e-3)


def test_a_cache_is_written_looked_at_and_thinned_from_the_command_line(tmp_path: Path) -> None:
    recipe = written_recipe(
        sums(tmp_path / "sums.jsonl"), teacher=_cached(tmp_path / "tokens", {"top_k": 12})
    )
    file = written(recipe, tmp_path / "recipe.yaml")
    run = CliRunner().invoke(app, ["cache", str(file), "--out", str(tmp_path / "run")])
    assert run.exit_code == 0, run.output
    shown = CliRunner().invoke(app, ["cache", str(tmp_path / "tokens"), "--inspect"])
    assert "bytes a token" in shown.output
    assert "% of the mass" in shown.output
    thin = ["cache", str(tmp_path / "tokens"), "--top-k", "4", "--out", str(tmp_path / "few")]
    assert "k=4" in CliRunner().invoke(app, thin).output


def test_a_method_whose_text_nobody_writes_is_refused_before_anything_runs(tmp_path: Path) -> None:
    source = sums(tmp_path / "sums.jsonl")
    for objective, words in (
        ([{"minillm": {}}], "minillm reads the tensor 'advantage'"),
        ([{"ce": {"over": "data_written"}}], "ce reads the mask 'data_written'"),
    ):
        recipe = written_recipe(source)
        recipe["stages"][0]["objective"] = objective
        with pytest.raises(PreceptorError, match=words):
            check(recipe_of(recipe))


def test_an_ensemble_that_writes_no_answer_teaches_and_is_no_arm(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), control={"arms": ["control"]})
    member = recipe["teacher"]
    recipe["teacher"] = {"ensemble": {"members": [member, member], "weights": "confidence"}}
    report = ran(recipe, tmp_path / "run")
    assert {arm.name for arm in report.arms} == {"distilled", "control"}
    assert isinstance(report.arm("distilled").measures["token_agreement"], Value)


def test_students_of_text_teach_one_another(tmp_path: Path) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"), control={"arms": []})
    recipe["teacher"] = {"peers": {"others": [llama(16)]}}
    recipe["stages"][0] |= {"objective": [{"ce": {}}, {"dml": {}}]}
    report = ran(recipe, tmp_path / "run")
    assert isinstance(report.arm("distilled").measures["token_nll"], Value)


def test_rows_that_were_left_out_are_named_in_the_report(tmp_path: Path) -> None:
    source = sums(tmp_path / "sums.jsonl")
    lines = source.read_text().splitlines()
    lines[3] = '{"prompt": "1+1="}'
    lines[7] = '{"prompt": "1+1+1+1+1+1+1+1+1+1+1+1+1=", "completion": "13", "answer": 13}'
    source.write_text("\n".join(lines))
    recipe = written_recipe(source, control={"arms": []})
    recipe["data"] |= {"broken": "skip", "truncate": "drop"}
    broken, dropped = "1 broken rows were left out: sums.jsonl:4 has a prompt", "longer than 24"
    told = str(check(recipe_of(recipe), deep=True))
    assert f"! {broken}" in told
    assert dropped in told
    warnings = " ".join(ran(recipe, tmp_path / "run").warnings)
    assert broken in warnings
    assert dropped in warnings


def test_a_cache_stands_beside_the_rollouts_of_minillm(tmp_path: Path) -> None:
    rollouts, _ = ROLLOUTS["minillm"]
    stage = {
        "objective": [{"minillm": {}}, {"ce": {"over": "data_written"}}],
        "rollouts": rollouts,
        "plan": {"steps": 3, "batch": 8, "optimizer": ADAM},
    }
    teacher = _cached(tmp_path / "tokens", {"top_k": 8})
    recipe = written_recipe(
        sums(tmp_path / "sums.jsonl"), teacher=teacher, stages=[stage], control={"arms": []}
    )
    ran(recipe, tmp_path / "run")


@pytest.mark.parametrize("keep", [{"sampled": 8}, {"dense": "float16"}])
def test_rollouts_beside_a_cache_of_no_largest_are_refused_before_it_is_written(
    tmp_path: Path, keep: dict[str, Any]
) -> None:
    recipe = written_recipe(
        sums(tmp_path / "sums.jsonl"), teacher=_cached(tmp_path / "tokens", keep)
    )
    recipe["stages"][0]["rollouts"] = {"gkd": {"most": 4}}
    with pytest.raises(PreceptorError, match="Write a top-k cache"):
        check(recipe_of(recipe))


@pytest.mark.parametrize("fewer", [False, True])
@pytest.mark.parametrize("method", ["byte_chunks", "uld"])
def test_a_teacher_of_another_tokeniser_teaches_and_the_report_says_what_both_share(
    tmp_path: Path, method: str, fewer: bool
) -> None:
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    folder = tmp_path / "teacher"
    if fewer:
        theirs, recipe["data"]["tokenizer"] = character_tokenizer(["0123456789+="]), {"bpe": 300}
    else:
        theirs = bpe_tokenizer([(tmp_path / "sums.jsonl").read_text()], 300)
    model = load_model({**llama(16, 2), "classes": len(theirs)})
    texts = TextSet(read_rows(tmp_path / "sums.jsonl"), Rendering(theirs, 24, plain=True))
    plan = Plan(steps=15, optimizer=OptimizerPlan(**ADAM))
    assert len(list(fit(model, Nobody(), CE(), TextSource(texts, batch=16), plan))) == 15
    save_model(model, folder, theirs)
    recipe["teacher"] = {"model": {"folder": str(folder)}}
    recipe["stages"][0]["objective"] = [{"ce": {}}, {method: {}}]
    told = "two tokenisers: of 95 training rows, "
    assert told in str(check(recipe_of(recipe), deep=True))
    report = ran(recipe, tmp_path / "run")
    [sentence] = [each for each in report.warnings if each.startswith(told)]
    assert "100.0 % of" in sentence
    assert "shared chunks" in sentence
    recipe["stages"][0]["objective"] = [{"kd": {"temperature": 1}}]
    with pytest.raises(PreceptorError, match=r"vocabulary of \d+ tokens and a teacher's of \d+"):
        check(recipe_of(recipe), deep=True)
