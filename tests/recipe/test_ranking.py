"""What a ranking's recipe may say, and what is refused before anything is computed."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from preceptor.errors import DataError, NeedsError, RecipeError
from preceptor.recipe.candidate_texts import read_texts
from preceptor.recipe.contest import lasting, training_of
from preceptor.recipe.load import load_ranking, ranking_names, ranking_of, recipe_text
from preceptor.recipe.ranking import ScoreName, WrittenTexts
from preceptor.recipe.teachers import EnsembleTeacher, NobodyTeacher
from preceptor.selection.ranking import EVERY_SCORE
from preceptor.selection.white_space import white_space

PRESETS = Path(__file__).parents[2] / "preceptor" / "recipe" / "presets" / "rankings"
MODEL = {"causal": {"model_type": "llama"}}
STUDENT = {"model": MODEL}
TEACHER = {"model": MODEL, "train": {"steps": 3}}
GSM8K = (
    "data.source=train.jsonl",
    "candidates.texts.0.source=a.jsonl",
    "candidates.texts.1.source=b.csv",
)


def small(**sections: Any) -> dict[str, Any]:
    """A ranking as plain data, with some of its sections replaced."""
    whole: dict[str, Any] = {
        "data": {"kind": "text", "source": "arithmetic", "tokenizer": {"characters": True}},
        "student": {"model": MODEL},
        "candidates": {"teachers": {"a": TEACHER, "b": {**TEACHER, "temperatures": [0.5, 1.0]}}},
    }
    return {**whole, **sections}


def images(**sections: Any) -> dict[str, Any]:
    """The same of images."""
    zoo = {"model": {"zoo": "cnn-small"}, "train": {"steps": 3}}
    whole = {
        "data": {"source": "toy"},
        "student": {"model": zoo["model"]},
        "candidates": {"teachers": {"a": zoo}},
    }
    return {**whole, **sections}


@pytest.mark.parametrize("name", ranking_names())
def test_every_ranking_preset_is_valid_and_written_back_the_same(name: str, tmp_path: Path) -> None:
    said = load_ranking(name, GSM8K if name.startswith("gsm8k") else ())
    assert said.name == name
    (tmp_path / "ranking.yaml").write_text(recipe_text(said))
    assert load_ranking(tmp_path / "ranking.yaml") == said


@pytest.mark.parametrize("name", ranking_names())
def test_every_number_of_a_ranking_preset_cites_its_source(name: str) -> None:
    for line in (PRESETS / f"{name}.yaml").read_text().splitlines():
        said, _, comment = line.partition("#")
        is_name = any(word in said for word in ("model", "[solution]", "_response", "families"))
        if any(letter.isdigit() for letter in said.partition(":")[2]) and not is_name:
            assert "[" in comment, line


def test_the_gsm8k_preset_asks_for_the_three_paths_that_are_the_reader_s() -> None:
    with pytest.raises(RecipeError, match="3 mistakes") as caught:
        load_ranking("gsm8k-teachers")
    for setting in GSM8K:
        assert setting.partition("=")[0] in str(caught.value)


def test_scores_have_the_names_that_a_recipe_may_say() -> None:
    assert get_args(ScoreName) == tuple(score.name for score in EVERY_SCORE)
    own, beside = ranking_of(small(score="g_norm")).scores()
    assert own.name == "g_norm"
    assert len(beside) == len(EVERY_SCORE) - 1
    told = {score.name for score in ranking_of(images()).scores()[1]}
    assert not told & {"mean_length", "duplicate_rate"}


def test_each_temperature_of_a_teacher_is_a_candidate_of_one_family() -> None:
    families = ranking_of(small()).candidates.families()
    assert families == {"a": "a", "b@0.5": "b", "b@1": "b"}


def test_models_are_trained_by_a_recipe_of_their_own() -> None:
    training = training_of(ranking_of(small(threads=1)))
    assert isinstance(training.teacher, EnsembleTeacher)
    assert len(training.teacher.ensemble.members) == 2
    assert training.control.arms == ()
    files = {"texts": [{"source": "a.jsonl", "responses": {"a": "response"}}]}
    assert isinstance(training_of(ranking_of(small(candidates=files))).teacher, NobodyTeacher)


def test_what_only_reads_features_does_not_change_which_run_a_folder_holds() -> None:
    first = ranking_of(small())
    reading = {"grace": {"folds": 5, "smoothing": 0.01}, "narrow": 64}
    other = ranking_of(small(score="g_norm", prompts=99, race={"first": 20}, threads=1, **reading))
    assert lasting(first) == lasting(other)
    assert lasting(first) != lasting(ranking_of(small(seed=1)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (small(candidates={}), "nobody is named"),
        (small(score="grase"), "nearest: grace"),
        (
            small(student={"model": {**MODEL, "lora": {}}, "train": {"steps": 3}}),
            "every weight's gradient would be asked",
        ),
        (small(prompts=9), "must be >= 10"),
        (small(choose={"limit": 3.0}), "make sense together alone"),
        (small(choose={"limit": 3.0}), "choose: a limit"),
        (small(choose={"limit": 3.0, "cost": {"a": 1.0}}), "b is a candidate, and is not told"),
        (small(choose={"limit": 3.0, "cost": {"a": 9.0}}), "b is a candidate, and is not told"),
        (
            small(choose={"limit": 3.0, "cost": {"a": "$3", "b": 1}}),
            "choose.cost.a: '$3': must be a number, without a unit. Change the value.",
        ),
        (
            small(choose={"limit": 3.0, "cost": {"a": -3, "b": 1}}),
            "choose.cost.a: -3: must be >= 0",
        ),
        (small(score="GRACE"), "nearest: grace."),
        (
            small(choose={"limit": 0.1, "cost": {"a": 1.0, "b": 3.0}}),
            "choose.limit: 0.1: the cheapest candidate, a, costs 1. Give at least 1",
        ),
        (small(choose={"families": {"a": "x", "b": "x", "c": "x"}}), "c is no candidate"),
        (small(choose={"ensemble": 9}), "choose.ensemble: 9: there are 3 candidates. At most 3"),
        (
            small(choose={"families": {"a": "x", "b": "x"}}, race={}),
            "a race drops whom this choice may admit",
        ),
        (small(prompts=40, race={}), "race.first: 64: all 40 prompts are asked at the first look"),
        (small(race={"first": 9}), "the score cuts prompts into 10 folds, at the first look too"),
        (small(prompts=40, grace={"folds": 41}), "grace.folds: 41: each fold needs a prompt"),
        (small(features={"projection": "counts"}), "features.projection: 'counts': it is of exact"),
        (small(narrow=600), "narrow: 600: features.dimension is 512"),
        (
            small(candidates={"teachers": {"a": {**TEACHER, "temperatures": [1.0, 1.0]}}}),
            "one of them comes twice",
        ),
        (
            small(
                candidates={
                    "teachers": {"a": TEACHER},
                    "texts": [{"source": "a.jsonl", "responses": {"a": "response"}}],
                }
            ),
            "another candidate has this name",
        ),
        (
            small(candidates={"teachers": {"Large": TEACHER, "large": TEACHER}}),
            "candidates.teachers: the name 'large': Large differs by capitals alone",
        ),
        (
            small(students={"Deep": STUDENT, "deep": STUDENT}),
            "students: the name 'deep': Deep differs by capitals alone",
        ),
        (small(data={"kind": "sentences"}), "an embedding is no answer"),
        (
            small(student={"model": {"encoder": "a"}}),
            "student.model: 'encoder': what teachers wrote is learned by causal language models",
        ),
        (images(features={"kind": "head"}), "told apart in causal language models"),
        (images(score="mean_length"), "no length and no copies"),
        (
            images(candidates={"texts": [{"source": "a.jsonl", "responses": {"a": "b"}}]}),
            "nobody answers them with text",
        ),
    ],
)
def test_a_ranking_that_cannot_be_is_refused_in_words(data: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ranking_of(data)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["qwen2.5-7b", "llama-3.2", "gpt-4.1", "gpt_4o", "7b"])
def test_names_of_models_name_candidates(name: str) -> None:
    said = ranking_of(small(candidates={"teachers": {name: TEACHER}}, students={name: STUDENT}))
    assert list(said.candidates.families()) == list(said.students) == [name]


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("owner/large", "owner-large"),
        (".hidden", "hidden"),
        ("a..b", "a.b"),
        ("..", "another one"),
        ("gpt 4", "gpt-4"),
        ("large.", "large"),
        ("large\n", "large"),
        ("CON", "CON-model"),
        ("aux.7b", "aux.7b-model"),
    ],
)
def test_a_name_that_is_no_folder_s_is_refused_with_one_that_is(name: str, fitting: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ranking_of(small(candidates={"teachers": {name: TEACHER}}))
    assert caught.value.seen == f"candidates.teachers.{name}: the name {name!r}"
    told = "it names a folder, and (may have letters, digits, - and _|Windows keeps it)"
    assert re.match(told, caught.value.why)
    assert caught.value.do == f"Write {fitting}."


def test_a_list_of_mistakes_ends_in_a_sentence_of_its_own() -> None:
    with pytest.raises(RecipeError, match="has 2 mistakes") as caught:
        ranking_of(small(prompts=9, score="grase"))
    *_, last = str(caught.value).splitlines()
    assert last == "Correct them all; nothing was run."


def test_files_whose_prompts_differ_are_refused_by_name_and_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,long\n"1+1=","the answer,\nis 2"\n2+2=,4\n')
    (tmp_path / "b.csv").write_text("prompt,short\n1+1=,2\n3+3=,6\n")
    said = [
        WrittenTexts(source=str(tmp_path / f"{name}.csv"), responses={column: column})
        for name, column in (("a", "long"), ("b", "short"))
    ]
    one = read_texts(said[:1]).rows["long"]
    assert [row.completion for rows in one.values() for row in rows] == ["the answer,\nis 2", "4"]
    with pytest.raises(NeedsError, match=r"long answers 2 prompts and short 2, of them 1 both"):
        read_texts(said)
    wrong = WrittenTexts(source=str(tmp_path / "a.csv"), responses={"a": "longer"})
    with pytest.raises(DataError, match=r"^a: .* has no 'longer'; its columns are prompt, long"):
        read_texts([wrong])


def test_answers_that_cannot_be_used_are_skipped_and_told_where_that_is_said(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": f"{n}+1=", "a": str(n + 1), "b": f"is {n + 1}"} for n in range(6)]
    del rows[1]["a"]
    rows[3]["a"] = ""
    rows[4]["b"] = 5  # type: ignore[assignment]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = WrittenTexts(source=str(file), responses={"a": "a", "b": "b"})
    with pytest.raises(DataError, match=r"answers.jsonl:2 has no 'a'.*skip them \(broken: skip\)"):
        read_texts([said])
    found = read_texts([said.model_copy(update={"broken": "skip"})])
    for name, answer in (("a", "{}"), ("b", "is {}")):
        texts = [row.completion for each in found.rows[name].values() for row in each]
        assert texts == [answer.format(n + 1) for n in (0, 2, 5)]
    first, second, third = found.cautions
    assert first.startswith("a has 2 broken answers, skipped; the first: answers.jsonl:2")
    assert second.startswith("b has 1 broken answer, skipped; the first: answers.jsonl:5")
    assert third == "3 of 6 prompts are left out for all, because an answer was skipped."


def test_white_space_that_others_lack_is_told_and_taken_off_where_that_is_said(
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": f"{n}+1=", "a": f" {n}+1\r\n= {n + 1}\n\n", "b": f"{n}+1\n= {n + 1}"}
        for n in range(20)
    ]
    rows[0]["b"] += "\n"  # One of twenty is an accident.
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = WrittenTexts(source=str(file), responses={"a": "a", "b": "b"})
    assert white_space({"brief": ["1"], "none": [], "same": ["2", "3"]}, ()) == ()
    (own,) = white_space({"here": [" 1"], "file": ["1"]}, ("file",))
    assert "Mend the model's prompt or template" in own
    both = white_space({"one": ["1\n"], "three": ["1\n\n\n"]}, ())
    assert [each.partition(":")[0] for each in both] == ["one", "three"]
    found = read_texts([said])
    begin, end, ends = found.white_space()
    assert begin.startswith("a: 20 of 20 answers begin with white space (' '), where b has 0 of 20")
    assert r"20 answers end with white space ('\n\n'), where b has 1 of 20 ('\n')" in end
    assert r"line ends other than '\n' ('\r\n'), where b has 0 of 20" in ends
    assert all("Say `strip: true` beside its `responses`" in each for each in (begin, end, ends))
    assert found.notes == ()
    mended = read_texts([said.model_copy(update={"strip": True})])
    assert mended.white_space() == ()
    assert mended.notes[0].startswith("a: outer white space taken off, line ends made one kind")
    assert [note.partition("; ")[2] for note in mended.notes] == [
        "20 of 20 answers changed.",
        "1 of 20 answers changed.",
    ]
    said_by = {
        name: [row.completion for each in by_prompt.values() for row in each]
        for name, by_prompt in mended.rows.items()
    }
    assert said_by["a"] == said_by["b"] == [f"{n}+1\n= {n + 1}" for n in range(20)]


def test_responses_that_are_not_read_or_another_s_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n % 3}+1=", "a": str(n), "b": str(-n)} for n in range(14)]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = read_texts([WrittenTexts(source=str(file), responses={"a": "a", "b": "b"})])
    assert texts.same() == ()
    twice = read_texts([WrittenTexts(source=str(file), responses={"a": "a", "b": "b", "c": "a"})])
    assert twice.same() == ("c has the answers of a, word for word.",)
    assert texts.beyond(5) == texts.beyond(6) == ()
    first, second = texts.beyond(4)  # Two prompts have five responses, one has four.
    assert first == (
        "a has 2 of 14 responses left out: the first 4 to a prompt are read. "
        "Say responses: 5 for all."
    )
    assert second == f"b{first[1:]}"


def test_a_skipped_answer_does_not_excuse_prompts_that_a_file_never_had(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,long\n1+1=,2\n2+2=,\n3+3=,6\n")
    (tmp_path / "b.csv").write_text("prompt,short\n1+1=,2\n2+2=,4\n4+4=,8\n")
    said = [
        WrittenTexts(source=str(tmp_path / f"{name}.csv"), responses={of: of}, broken="skip")
        for name, of in (("a", "long"), ("b", "short"))
    ]
    with pytest.raises(NeedsError, match="long answers 2 prompts and short 3, of them 1 both"):
        read_texts(said)
