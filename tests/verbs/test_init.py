"""Students that begin inside their teacher, from a recipe to what lies in the run's folder."""

import random
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from preceptor.cli import app
from preceptor.data.tokenizers import bpe_tokenizer
from preceptor.errors import ModelError, PreceptorError, RecipeError, TeacherFailure
from preceptor.models.load import load, load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.recipe import build
from preceptor.recipe.load import recipe_of
from preceptor.recipe.sentence_subject import SentenceSubject
from preceptor.students.start import PLANS, begin
from preceptor.verbs.check import check
from preceptor.verbs.distill import distill
from preceptor.verbs.init import init
from tests.models.encoders import BERT, saved_folder
from tests.verbs.child import finished, killed
from tests.verbs.small import ADAM, PLAN, contents, ran, small, timeless, written
from tests.verbs.text import llama, sums, written_recipe

PLACES = (("starts", ""), ("arms/distilled", "/student"))
WIDE = {"zoo": "cnn-large"}
NARROW = {"zoo": "cnn-small"}


def text(folder: Path, start: Any, **sections: Any) -> dict[str, Any]:
    """A recipe of sums whose student has one of its teacher's two blocks and half its width."""
    recipe = written_recipe(sums(folder / "sums.jsonl"), **sections)
    return recipe | {"student": {"model": llama(8), "start": start}}


def parameters(model: TappedModel) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.module.named_parameters()}


def test_init_writes_the_student_that_begin_makes_and_transformers_loads_it(tmp_path: Path) -> None:
    recipe = recipe_of(text(tmp_path, {"guide": {}}))
    found = init(recipe, out=tmp_path / "run")
    theirs = AutoModelForCausalLM.from_pretrained(found.student)
    teacher = load(tmp_path / "run/teachers/teacher/student")
    torch.manual_seed(0)
    drawn = load_model({"causal": llama(8)["causal"] | {"vocab_size": teacher.spec["classes"]}})
    begin(drawn, teacher, PLANS["guide"])
    own = dict(theirs.named_parameters())
    for name, tensor in parameters(drawn).items():
        torch.testing.assert_close(own[name].detach(), tensor, msg=name)


def test_rows_of_the_table_may_count_as_often_as_their_tokens_occur(tmp_path: Path) -> None:
    recipe = text(tmp_path, {"guide": {"frequencies": True, "calibration": 200}})
    found = init(recipe_of(recipe), out=tmp_path / "run")
    teacher = load(tmp_path / "run/teachers/teacher/student")
    table = parameters(teacher)["model.embed_tokens.weight"].double()
    subject = build.subject(recipe_of(recipe))
    counts = torch.zeros(len(table), dtype=torch.float64)
    for inputs in subject.calibration(200):
        assert not isinstance(inputs, Tensor)
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            for token in ids[: int(mask.sum())].tolist():
                counts[token] += 1
    energy, vectors = torch.linalg.eigh(table.T @ (counts[:, None] * table))
    kept = energy[-8:].sum() / energy.sum()
    assert f"{kept:.3f} embedding table" in found.report
    # The basis itself: the student's table keeps the inner products of the leading directions.
    own = parameters(load(found.student))["model.embed_tokens.weight"].double()
    expected = table @ vectors[:, -8:]
    torch.testing.assert_close(own @ own.T, expected @ expected.T, rtol=1e-4, atol=1e-6)


def test_a_begun_students_embeddings_may_be_pulled_to_where_they_began(tmp_path: Path) -> None:
    left: dict[str, Tensor] = {}
    for weight in (0.0, 1000.0):
        pull = {"embedding_pull": {}, "weight": {"from": weight, "to": weight / 2}}
        plan: dict[str, Any] = {"steps": 20, "batch": 8, "optimizer": {"name": "sgd", "lr": 1e-4}}
        stage = {"objective": [{"ce": {}, "weight": 10.0}, pull], "plan": plan}
        recipe = text(tmp_path, {"guide": {}}, stages=[stage])
        run = tmp_path / str(weight)
        ran(recipe, run)
        ends = [load(run / f"{place}/seed-0{end}") for place, end in PLACES]
        table = "model.embed_tokens.weight"
        began, ended = (parameters(model)[table] for model in ends)
        left[str(weight)] = (ended - began).norm()
    assert left["1000.0"] < 0.9 * left["0.0"]


def test_embeddings_that_begin_at_random_are_not_held_there(tmp_path: Path) -> None:
    stage = {"objective": [{"ce": {}}, {"embedding_pull": {}}], "plan": PLAN}
    with pytest.raises(RecipeError, match=r"stages.0.objective.1.*chance put them"):
        recipe_of(text(tmp_path, "random", stages=[stage]))
    recipe_of(text(tmp_path, {"guide": {}}, stages=[stage]))


def test_init_says_what_was_done_and_what_it_gained(tmp_path: Path) -> None:
    file = written(text(tmp_path, {"project": {}}), tmp_path / "sums.yaml")
    run = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "run")])
    assert run.exit_code == 0, run.output
    for words in ("basis project: 8 of 16", "blocks: 0 from 0", "block 1 mlp", "projected: 9"):
        assert words in run.output
    line = next(line for line in run.output.splitlines() if line.startswith("loss before"))
    after, at_random = (float(word.strip(",")) for word in line.split() if word[0].isdigit())
    assert after < at_random
    again = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "run")])
    assert again.output.strip() in run.output
    assert "begins inside the teacher, by project" in check(file)


@pytest.mark.parametrize("basis", ["guide", "prune", "random_basis"])
def test_every_arm_but_scratch_begins_with_the_same_weights(tmp_path: Path, basis: str) -> None:
    still: dict[str, Any] = {"optimizer": {"name": "sgd", "lr": 1e-12}, "steps": 1, "batch": 8}
    stage = {"objective": [{"kd": {"temperature": 1}}], "plan": still}
    control = {"arms": ["control", "scratch"]}
    recipe = text(tmp_path, {basis: {}}, stages=[stage], control=control)
    recipe["student"]["model"]["causal"]["rms_norm_eps"] = 1e-5
    report = ran(recipe, tmp_path / "run")
    arms = {
        name: parameters(load(tmp_path / f"run/arms/{name}/seed-0/student"))
        for name in ("distilled", "control", "scratch")
    }
    begun = parameters(load(tmp_path / "run/starts/seed-0"))
    table = "model.embed_tokens.weight"
    for name, tensor in begun.items():
        torch.testing.assert_close(arms["distilled"][name], tensor, rtol=0, atol=1e-8)
        torch.testing.assert_close(arms["control"][name], tensor, rtol=0, atol=1e-8)
    assert not torch.allclose(arms["scratch"][table], begun[table], atol=1e-3)
    assert any("every arm but scratch" in warning for warning in report.warnings)
    assert "start: rms_norm_eps is 1e-05, the teacher's 1e-06" in report.warnings
    assert report.difference("distilled", "scratch") is not None


def test_a_network_begins_by_selection_and_knows_more_before_it_learns(tmp_path: Path) -> None:
    teacher = {"model": WIDE, "train": {"steps": 30, "batch": 16, "optimizer": ADAM}}
    student = {"model": NARROW, "start": {"select": {"repair": True}}}
    recipe = small(teacher=teacher, student=student)
    told = init(recipe_of(recipe), out=tmp_path / "run").report
    line = next(line for line in told.splitlines() if line.startswith("loss before"))
    after, at_random = (float(word.strip(",")) for word in line.split() if word[0].isdigit())
    assert after < at_random
    run = distill(recipe_of(recipe), out=tmp_path / "run")
    assert run.report.arm("distilled").measures["accuracy"]
    assert "repaired" in told


def test_a_sentence_encoder_begins_inside_its_teacher(tmp_path: Path) -> None:
    lines = [f"The {a} met the {b}. The {b} saw the {a}." for a in "abcdefgh" for b in "ijklm"]
    (tmp_path / "said.txt").write_text("\n\n".join(lines))
    recipe = {
        "seed": {"count": 1},
        "data": {
            "kind": "sentences",
            "source": str(tmp_path / "said.txt"),
            "documents": "paragraph",
            "test": 0.3,
        },
        "teacher": {"model": {"encoder": str(saved_folder(tmp_path / "teacher", seed=5))}},
        "student": {
            "model": {"encoder": BERT | {"hidden_size": 8, "num_attention_heads": 2}},
            "start": {"select": {"repair": True}},
        },
        "stages": [{"objective": [{"nt_xent": {}}], "plan": PLAN}],
        "control": {"arms": ["control"]},
    }
    found = init(recipe_of(recipe), out=tmp_path / "run")
    assert "repaired" in found.report
    begun = load(found.student)
    assert begun.spec["classes"] == 8
    # The loss: how often the neighbour of another is nearer than a sentence's own.
    subject = build.subject(recipe_of(recipe))
    assert isinstance(subject, SentenceSubject)
    held = subject.parts["validation"]
    with torch.no_grad():
        seen = begun(held.batch(np.arange(len(held))).inputs).logits
    near = cosine_similarity(seen[::2, None], seen[None, 1::2], dim=-1).tolist()
    pairs = [(near[i][j], near[i][i]) for i, j in permutations(range(len(held)), 2)]
    expected = sum(other > own for other, own in pairs) / len(pairs)
    assert f"loss before training: {expected:.4f}" in found.report
    # A folder of transformers' own does as the one that was saved here.
    plain = tmp_path / "plain"
    shutil.copytree(recipe["teacher"]["model"]["encoder"], plain)
    (plain / "preceptor.json").unlink()
    recipe["student"]["start"] = {"select": {"repair": True, "teacher": str(plain)}}
    again = load(init(recipe_of(recipe), out=tmp_path / "again").student)
    for name, tensor in parameters(begun).items():
        assert torch.equal(parameters(again)[name], tensor), name
    # Ids of another tokenizer are other words.
    theirs = bpe_tokenizer(["one and one are two " * 20], 280)
    save_model(load(recipe["teacher"]["model"]["encoder"]), tmp_path / "other", theirs)
    recipe["student"]["start"] = {"select": {"teacher": str(tmp_path / "other")}}
    with pytest.raises(ModelError, match="another tokenizer"):
        init(recipe_of(recipe), out=tmp_path / "another")


def test_a_folder_of_weights_is_begun_in_where_the_teacher_has_none(tmp_path: Path) -> None:
    recipe = text(tmp_path, {"select": {}})
    first = init(recipe_of(recipe), out=tmp_path / "first")
    folder = tmp_path / "first/teachers/teacher/student"
    recipe["teacher"] = {"nobody": {}}
    recipe["stages"][0]["objective"] = [{"ce": {}}]
    with pytest.raises(RecipeError, match="it has no weights to begin with"):
        check(recipe_of(recipe))
    recipe["student"]["start"] = {"select": {"teacher": str(folder)}}
    (folder / "tokenizer.json").unlink()
    second = init(recipe_of(recipe), out=tmp_path / "second")
    assert f"warning: {folder} holds no tokenizer" in second.report
    own, other = (parameters(load(found.student)) for found in (first, second))
    for name, tensor in own.items():
        assert torch.equal(tensor, other[name]), name


def test_killed_at_any_moment_a_begun_student_is_that_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Path] = []
    for name in ("whole", "cut"):
        here, log = tmp_path / name, tmp_path / f"{name}.log"
        here.mkdir()
        monkeypatch.chdir(here)
        sums(here / "sums.jsonl")
        recipe = written_recipe(Path("sums.jsonl"))
        recipe["student"]["start"] = {"project": {}}
        command = ["distill", str(written(recipe, here / "r.yaml")), "--out", "run"]
        if name == "cut":
            moments = (
                "run/starts/seed-0/*",
                "run/arms/distilled/seed-0/stage-0/checkpoints/step-*",
            )
            for pattern in moments:
                there = lambda p=pattern, h=here: next(h.glob(p), None) is not None  # noqa: E731
                killed(command, log, there, random.Random(0))
        code, said = finished(command, log)
        assert code == 0, said
        ends.append(here / "run")
    assert contents(ends[1]) == contents(ends[0])
    assert timeless(ends[1]) == timeless(ends[0])


@pytest.mark.parametrize(
    ("start", "model", "words"),
    [
        ({"select": {}}, llama(32), "nowhere larger"),
        ({"guide": {}}, {"causal": {"model_type": "gpt2", "n_embd": 12}}, "another function"),
        ({"guide": {"repair": True}}, llama(8), "of which one block is mapped"),
    ],
)
def test_what_cannot_be_mapped_is_refused_before_anything_is_trained(
    tmp_path: Path, start: Any, model: Any, words: str
) -> None:
    recipe = text(tmp_path, start)
    recipe["student"]["model"] = model
    for verb in (init, distill):
        with pytest.raises(ModelError, match=words):
            verb(recipe_of(recipe), out=tmp_path / verb.__name__)
        assert not contents(tmp_path / verb.__name__)


def test_nobody_begins_inside_a_teacher_that_knows_nothing(tmp_path: Path) -> None:
    still = {"name": "sgd", "lr": 1e-9}
    teacher = {"model": WIDE, "train": {"steps": 1, "batch": 8, "optimizer": still}}
    recipe = small(teacher=teacher, student={"model": NARROW, "start": {"select": {}}})
    with pytest.raises(TeacherFailure, match="guessing among"):
        init(recipe_of(recipe), out=tmp_path / "run")
    assert not (tmp_path / "run/starts").exists()


def test_networks_that_do_not_fit_are_refused_in_words(tmp_path: Path) -> None:
    deep = {"model": WIDE, "train": {"steps": 2, "batch": 8}}
    cases: list[tuple[Any, str]] = [
        ({"model": NARROW, "start": {"guide": {}}}, "Begin by `select` or `prune`"),
        ({"model": NARROW, "start": {"select": {"depth": "first"}}}, "evenly out of each stage"),
        (
            {"model": {**NARROW, "mean": [0.9], "std": [1.0]}, "start": {"select": {}}},
            "same `mean` and `std`",
        ),
    ]
    for number, (student, words) in enumerate(cases):
        with pytest.raises(PreceptorError, match=words):
            init(recipe_of(small(teacher=deep, student=student)), out=tmp_path / str(number))


def test_another_tokenizers_embeddings_are_not_taken_over(tmp_path: Path) -> None:
    theirs = bpe_tokenizer(["one and one are two " * 20], 280)
    torch.manual_seed(0)
    other = load_model({"causal": llama(16)["causal"] | {"vocab_size": len(theirs)}})
    save_model(other, tmp_path / "other", theirs)
    recipe = text(tmp_path, {"select": {"teacher": str(tmp_path / "other")}})
    with pytest.raises(ModelError, match="another tokenizer"):
        init(recipe_of(recipe), out=tmp_path / "run")
    # Nor those of the run's own teacher, where a method reads both vocabularies.
    recipe["student"]["start"] = {"select": {}}
    recipe["teacher"] = {"model": {"causal": str(tmp_path / "other")}}
    recipe["stages"][0]["objective"] = [{"uld": {}}]
    with pytest.raises(ModelError, match="another tokenizer"):
        init(recipe_of(recipe), out=tmp_path / "own")


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ({"start": {"gide": {}}}, "student.start: .*names none of random, from, guide"),
        ({"start": {"guide": {"dept": "even"}}}, "student.start.guide.dept: unknown key"),
        ({"start": {"guide": {}}, "model": {"causal": "owner/name"}}, "written over"),
        ({"start": {"guide": {}}, "model": {**llama(8), "lora": {}}}, "adapters are trained"),
    ],
)
def test_a_start_is_said_in_words_that_fit(tmp_path: Path, student: Any, words: str) -> None:
    recipe = text(tmp_path, "random")
    recipe["student"] |= student
    with pytest.raises(RecipeError, match=words):
        recipe_of(recipe)


def test_scratch_and_init_are_for_students_that_begin_elsewhere(tmp_path: Path) -> None:
    recipe = text(tmp_path, "random")
    with pytest.raises(RecipeError, match="does not begin inside a teacher"):
        init(recipe_of(recipe), out=tmp_path / "run")
    with pytest.raises(RecipeError, match="the student itself begins so"):
        recipe_of(recipe | {"control": {"arms": ["control", "scratch"]}})
