"""Who may answer in a ranking, and for whom: servers, teachers of another tokenizer, several
students, students as they stood later, two processes."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from preceptor.errors import DataError, ModelError, NeedsError, RecipeError
from preceptor.recipe.load import ranking_of
from preceptor.recipe.text import to_yaml
from preceptor.selection.features import Features
from preceptor.verbs.check_ranking import check_ranking
from preceptor.verbs.rank import rank
from preceptor.verbs.standing import standing
from tests.servers.chat_model import write_chat_model
from tests.servers.serving import Reply, Request, serving
from tests.verbs.child import command
from tests.verbs.small import ran
from tests.verbs.test_rank import TRAIN, answers, of_texts, told
from tests.verbs.text import llama, written_recipe
from tests.warm import together


def features(run: Path, name: str) -> Features:
    """What lies of a candidate."""
    return Features.load(next((run / "features" / name).glob("*.safetensors")))


def test_a_server_writes_at_each_temperature_and_is_never_asked_twice(tmp_path: Path) -> None:
    lock, refusing = threading.Lock(), [True]

    def respond(request: Request) -> Reply:
        prompt, cold = request.payload["prompt"], request.payload["temperature"] < 0.5
        with lock:
            if refusing and prompt == "3+2=":
                refusing.clear()
                return Reply.json({"error": {"message": "not this one"}}, 400)
        text = str(eval(prompt[:-1])) if cold else str(request.payload["seed"] % 100)
        return Reply.json({"choices": [{"text": text, "finish_reason": "stop"}]})

    said = of_texts(tmp_path, responses=2, prompts=20, features={"dimension": 8})
    with serving(respond) as server:
        asked = {
            "served": {"url": server.url, "model": "m"},
            "api": "text",
            "temperatures": [0.0, 1.0],
            "most": 4,
        }
        said["candidates"] = {"teachers": {"far": asked}}
        with pytest.raises(DataError, match=r"far@0 did not answer 1 of \d+ prompts") as caught:
            rank(ranking_of(said | {"prompts": 100}), out=tmp_path / "run")
        assert "not this one" in str(caught.value)
        found = rank(ranking_of(said | {"prompts": 100}), out=tmp_path / "run")
        count = len(server.asked)
        assert {each.payload["temperature"] for each in server.asked} == {0.0, 1.0}
        assert rank(ranking_of(said), out=tmp_path / "run").ranking.prompts == 20
        assert len(server.asked) == count
    # Each prompt twice at each temperature, and one of them once more, after it was refused.
    assert count == 2 * 2 * found.ranking.prompts + 1
    repeated = {each.name: each.beside["duplicate_rate"] for each in found.ranking.candidates}
    assert repeated["far@0"] == 0.5 > repeated["far@1"]
    assert {request.path for request in server.asked} == {"/v1/completions"}


def test_candidates_may_each_have_a_tokenizer_of_their_own(tmp_path: Path) -> None:
    write_chat_model(tmp_path / "bytes")
    said = of_texts(tmp_path, responses=2, prompts=12, features={"dimension": 8})
    here = {"model": llama(8), "train": TRAIN, "most": 4}
    far = {"model": {"causal": str(tmp_path / "bytes")}, "most": 4}
    said["candidates"]["teachers"] = {"here": here, "far": far}
    said["data"]["tokenizer"] = {"bpe": 264}
    found = rank(ranking_of(said), out=tmp_path / "run")
    assert {"here", "far", "good"} <= set(found.ranking.names)


def test_students_are_ordered_by_what_the_best_teacher_wrote(tmp_path: Path) -> None:
    deep = {"model": llama(8, 2), "train": TRAIN}
    found = rank(ranking_of(of_texts(tmp_path, students={"deep": deep})), out=tmp_path / "run")
    assert found.students is not None
    assert set(found.students.names) == {"student", "deep"}
    assert found.students.score == "leverage_ratio"
    best = found.ranking.best.name
    own, other = features(tmp_path / "run", best), features(tmp_path / "run/students/deep", best)
    assert own.probe.student != other.probe.student
    assert np.array_equal(own.texts, other.texts)
    assert told(tmp_path / "run")["students"]["candidates"]
    # Students wrote nothing: what is said of text is said of candidates alone.
    narrow = of_texts(tmp_path, students={"deep": deep}, responses=1, prompts=20)
    shown = standing(rank(ranking_of(narrow), out=tmp_path / "narrow"))
    _, beneath = shown.split("Students, by what ")
    assert "! good, wild, same: each has one response a prompt" in " ".join(beneath.split())
    assert "! student: 16 dimensions for 18 effective rows" in beneath


def test_a_ranking_is_asked_again_of_the_student_as_it_stood_later(tmp_path: Path) -> None:
    said = of_texts(tmp_path)
    trained = written_recipe(Path(said["data"]["source"]), teacher={"nobody": {}})
    trained |= {"student": said["student"] | {}, "control": {"arms": []}}
    trained["student"].pop("train")
    trained["stages"][0]["objective"] = [{"ce": {}}]
    ran(trained, tmp_path / "first")
    arm = tmp_path / "first/arms/distilled/seed-0"
    half = arm / "stage-0/checkpoints/step-00000003"
    said = of_texts(tmp_path)
    run = tmp_path / "run"
    found = rank(ranking_of(said), students=(half, arm / "student"), out=run)
    assert [each.student for each in found.later] == [str(half), str(arm / "student")]
    assert found.later[0].moved.before == found.ranking.best.name
    assert found.later[1].moved.before == found.later[0].ranking.best.name
    assert len(list((run / "later").iterdir())) == 2
    # A checkpoint's last step is the student that was saved.
    last = rank(ranking_of(said), students=(half.with_name("step-00000006"),), out=run)
    assert last.later[0].ranking.candidates == found.later[1].ranking.candidates
    assert len(list((run / "later").iterdir())) == 2
    with pytest.raises(RecipeError, match="a race drops candidates"):
        rank(ranking_of(said | {"race": {}}), students=(half,), out=run)
    with pytest.raises(RecipeError, match="there is no such folder"):
        rank(ranking_of(said), students=(half / "nowhere",), out=run)
    wide = ranking_of(said | {"student": {"model": llama(16)}})
    with pytest.raises(ModelError, match="it is of another model than the recipe's student"):
        rank(wide, students=(half,), out=tmp_path / "wide")


def test_a_student_in_bfloat16_with_adapters_and_products_in_bfloat16(tmp_path: Path) -> None:
    student = {"model": {**llama(8), "dtype": "bfloat16", "lora": {"rank": 2}}}
    runs = {}
    for products in (False, True):
        taken = {"dimension": 16, "bfloat16": products}
        said = of_texts(tmp_path, student=student, features=taken)
        rank(ranking_of(said), out=tmp_path / str(products))
        runs[products] = features(tmp_path / str(products), "good")
    assert runs[True].probe.details != runs[False].probe.details
    one, other = runs[False].sketches.ravel(), runs[True].sketches.ravel()
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.99
    with pytest.raises(RecipeError, match="exact features are what others are compared with"):
        ranking_of(of_texts(tmp_path, features={"kind": "exact", "bfloat16": True}))


def test_two_processes_take_the_features_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = {"model": llama(8), "train": TRAIN, "most": 4}
    said = of_texts(tmp_path, prompts=12, responses=2, features={"dimension": 8})
    said["candidates"]["teachers"] = {"large": teacher}
    rank(ranking_of(said), out=tmp_path / "one")
    (tmp_path / "ranking.yaml").write_text(to_yaml(said))
    monkeypatch.chdir(tmp_path)
    arguments = ["rank", "ranking.yaml", "--out", "two"]
    printed = together(2, command, arguments, log=tmp_path / "log")
    assert printed.count("The ranking is") == 1
    for name in ("good", "large"):
        one, two = features(tmp_path / "one", name), features(tmp_path / "two", name)
        assert np.abs(one.sketches - two.sketches).max() < 1e-4 * np.abs(one.sketches).max()
        assert np.array_equal(one.texts, two.texts)


def test_check_says_what_will_be_compared_and_what_is_wrong(tmp_path: Path) -> None:
    said = of_texts(tmp_path, features={"dimension": 512})
    shown = check_ranking(ranking_of(said))
    assert "candidate good: column good of" in shown
    assert "compared by grace on 40 prompts of the texts at most" in shown
    # 40 prompts with two responses each, nine tenths of them in a fold.
    assert "! good, wild, same: 512 dimensions for 72 effective rows (40 prompts, 80 resp" in shown
    assert "narrow the sketches to 36 numbers (narrow). Responses that are" in shown
    fitting = ranking_of(said | {"features": {"dimension": 36}})
    assert "dimensions for" not in check_ranking(fitting)
    random = check_ranking(ranking_of(said | {"student": {"model": llama(8)}}))
    assert "! the student is random" in random
    deep = check_ranking(ranking_of(said), deep=True)
    assert "prompts that all candidates may be compared on: 40" in deep
    assert "ms a response" in deep
    answers(tmp_path / "answers.jsonl", prompts=9)
    with pytest.raises(DataError, match="prompts that all candidates answer: 9"):
        check_ranking(ranking_of(said))
    said["candidates"]["texts"][0]["responses"]["good"] = "goood"
    with pytest.raises(DataError, match="has no 'goood'"):
        check_ranking(ranking_of(said))
    lone = {"prompt": "9+9=", "response": "18"}
    (tmp_path / "lone.jsonl").write_text(json.dumps(lone))
    said = of_texts(tmp_path)
    texts = {"source": str(tmp_path / "lone.jsonl"), "responses": {"lone": "response"}}
    said["candidates"]["texts"].append(texts)
    with pytest.raises(NeedsError, match="good answers 40 prompts and lone 1"):
        check_ranking(ranking_of(said))
