"""Every kind of teacher, and every shape of a recipe, end to end."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from preceptor.evaluate.report import Report, Value
from preceptor.models.load import load_model
from preceptor.recipe import build
from preceptor.recipe.images import image_data
from preceptor.recipe.images import student as student_of
from preceptor.recipe.load import recipe_of
from preceptor.teachers.live import Live
from preceptor.verbs.check import check
from tests.verbs.small import CNN, DEEP, KD, LIVE, MLP, contents, ran, small, stage

BROAD = {**LIVE, "model": {"zoo": "mlp", "arguments": {"widths": [40]}}}
TWO = [LIVE, BROAD]
WHOLE = {"source": "toy"}

KINDS: dict[str, dict[str, Any]] = {
    "live": LIVE,
    "nobody": {"nobody": {}},
    "mean of probabilities": {"ensemble": {"members": TWO}},
    "mean of logits": {"ensemble": {"members": TWO, "combine": "logits"}},
    "fixed weights": {"ensemble": {"members": TWO, "weights": [0.25, 0.75]}},
    "by confidence": {"ensemble": {"members": TWO, "weights": "confidence"}},
    "by agreement": {"ensemble": {"members": TWO, "weights": "agreement"}},
    "an ensemble with an average": {"ensemble": {"members": [LIVE, {"ema": {"decay": 0.5}}]}},
    "ema": {"ema": {"decay": 0.5}},
    "a snapshot": {"snapshots": {"at": 2}},
    "two snapshots": {"snapshots": {"at": [1, 3], "last": 2}},
    "past predictions": {"past_predictions": {}},
    "altered": {"altered": {"teacher": LIVE, "noise": 2}},
    "an altered average": {"altered": {"teacher": {"ema": {"decay": 0.5}}, "smooth": 0.2}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_runs_to_its_report(kind: str, tmp_path: Path) -> None:
    objective = [{"ce": {}}] if kind == "nobody" else KD
    recipe = small(teacher=KINDS[kind], stages=[stage(objective)])
    report = ran(recipe, tmp_path)
    assert {"distilled", "control"} <= {arm.name for arm in report.arms}
    lines = contents(tmp_path)["arms/distilled/seed-0/stage-0/metrics.jsonl"].splitlines()
    assert len(lines) == 4
    assert ("kd" in json.loads(lines[0])["terms"]) == (kind != "nobody")
    student = load_model({"folder": str(tmp_path / "arms/distilled/seed-0/student")})
    shown = load_file(tmp_path / "arms/distilled/seed-0/predictions.safetensors")["0.test"]
    data = image_data(recipe_of(recipe).data)
    with torch.no_grad():
        again = student(data.test.batch(torch.arange(len(data.test))).inputs).logits
    torch.testing.assert_close(again, shown)


@pytest.mark.parametrize("kind", [*KINDS, "averaged past", "peers"])
def test_what_a_recipe_s_teacher_is_said_to_offer_is_what_it_offers(kind: str) -> None:
    past: dict[str, Any] = {"past_predictions": {"momentum": 0.6}}
    others = {"averaged past": past, "peers": {"peers": {"others": [MLP]}}}
    read = recipe_of(small(teacher={**KINDS, **others}[kind]))
    subject = build.subject(read)
    student = subject.student(read.student, 0)
    made = build.teacher(
        read.teacher, subject, [student], lambda said, _: Live(subject.model(said.model, 0))
    )
    assert build.offers(read.teacher) == made.offers()


def test_an_ensemble_offers_only_the_temperatures_that_all_its_members_have() -> None:
    past = {"past_predictions": {"momentum": 0.6}}
    read = recipe_of(small(teacher={"ensemble": {"members": [past, LIVE]}}))
    assert build.offers(read.teacher).temperatures == {1.0}
    with pytest.raises(Exception, match="kd with the teacher ensemble: it reads temperature 4"):
        check(read)
    assert "valid" in check(
        recipe_of(
            small(
                teacher={"ensemble": {"members": [past]}},
                stages=[stage([{"kd": {"temperature": 1}}])],
            )
        )
    )


def test_a_teacher_that_an_earlier_run_saved_teaches_as_the_one_that_is_trained(
    tmp_path: Path,
) -> None:
    ran(small(), tmp_path / "first")
    place = tmp_path / "first/teachers/teacher/student"
    weights = tmp_path / "weights.safetensors"
    save_file(load_file(place / "model.safetensors"), weights)
    first = contents(tmp_path / "first")
    ways: dict[str, dict[str, Any]] = {
        "folder": {"model": MLP, "load": str(place)},
        "itself": {"model": {"folder": str(place)}},
        "file": {"model": MLP, "load": str(weights)},
    }
    for name, teacher in ways.items():
        ran(small(teacher=teacher), tmp_path / name)
        for path, held in contents(tmp_path / name).items():
            assert first[path] == held, (name, path)


def test_generations_are_born_again_one_from_the_other(tmp_path: Path) -> None:
    report = ran(small(teacher={"born_again": {"generations": 2}}), tmp_path)
    named = [arm.name for arm in report.arms]
    assert {"generation-0", "generation-1", "distilled", "control"} <= set(named)
    folders = ("generation-0", "generation-1", "distilled")
    first = [
        load_file(tmp_path / f"arms/{arm}/seed-0/student/model.safetensors")["head.weight"]
        for arm in folders
    ]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_peers_of_two_architectures_are_each_reported(tmp_path: Path) -> None:
    objective = [{"ce": {}}, {"dml": {}}]
    recipe = small(
        teacher={"peers": {"others": [CNN]}},
        stages=[stage(objective)],
        control={"arms": ["control"]},
    )
    report = ran(recipe, tmp_path)
    assert {"distilled", "peer-1", "control", "control-1"} <= {arm.name for arm in report.arms}
    sizes = [parameters(report, name) for name in ("distilled", "peer-1", "control", "control-1")]
    assert sizes[0] == sizes[2] != sizes[1] == sizes[3]
    line = json.loads(
        contents(tmp_path)["arms/distilled/seed-0/stage-0/metrics.jsonl"].splitlines()[0]
    )
    assert {"ce", "dml", "1/ce", "1/dml"} <= set(line["terms"])


@pytest.mark.parametrize("augment", [None, {"crop": 1, "flip": False, "views": 2}])
def test_a_cache_on_disk_teaches_exactly_as_its_teacher_does(
    augment: dict[str, Any] | None, tmp_path: Path
) -> None:
    data = {**WHOLE, "augment": augment}
    teacher = {**LIVE, "train": {**LIVE["train"], "steps": 40}}
    cached = {"cached": {"teacher": teacher, "folder": str(tmp_path / "cache")}}
    plan = stage(steps=12, batch=50)  # more than an epoch: every view is read
    ran(small(data=data, teacher=teacher, stages=[plan]), tmp_path / "live")
    ran(small(data=data, teacher=cached, stages=[plan]), tmp_path / "cached")
    live = load_file(tmp_path / "live/arms/distilled/seed-0/predictions.safetensors")
    read = load_file(tmp_path / "cached/arms/distilled/seed-0/predictions.safetensors")
    for part, logits in live.items():
        torch.testing.assert_close(read[part], logits, atol=1e-5, rtol=1e-5)


def test_a_cache_of_another_teacher_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    ran(small(teacher={"cached": {"teacher": LIVE, "folder": folder}}), tmp_path / "a")
    with pytest.raises(Exception, match="teacher") as caught:
        ran(small(teacher={"cached": {"teacher": BROAD, "folder": folder}}), tmp_path / "b")
    assert folder in str(caught.value)


def test_own_deeper_exits_teach_without_a_teacher(tmp_path: Path) -> None:
    recipe = small(
        teacher={"nobody": {}}, student={"model": CNN}, stages=[stage([{"ce": {}}, {"byot": {}}])]
    )
    report = ran(recipe, tmp_path)
    assert "teacher" not in {arm.name for arm in report.arms}
    saved = load_file(tmp_path / "arms/distilled/seed-0/student/model.safetensors")
    plain = load_file(tmp_path / "arms/control/seed-0/student/model.safetensors")
    assert saved.keys() == plain.keys()


def test_a_stage_s_own_teacher_teaches_that_stage_and_no_other(tmp_path: Path) -> None:
    deep = {"model": CNN, "train": DEEP["train"]}
    stages = [stage(), {**stage(), "teacher": deep}]
    report = ran(small(stages=stages), tmp_path)
    assert {path.name for path in (tmp_path / "teachers").iterdir()} == {
        "teacher",
        "teacher-stage-2",
    }
    first = json.loads((tmp_path / "teachers/teacher/student/preceptor.json").read_text())
    second = json.loads((tmp_path / "teachers/teacher-stage-2/student/preceptor.json").read_text())
    assert (first["spec"]["zoo"], second["spec"]["zoo"]) == ("mlp", "cnn-small")
    # The student is compared with the one that taught it last.
    assert parameters(report, "teacher") == sum(
        tensor.numel()
        for tensor in load_model(
            {"zoo": "cnn-small", "classes": 3, "channels": 1, "size": 8}
        ).parameters()
    )


def test_two_stages_of_fitnets_move_the_guided_half_first(tmp_path: Path) -> None:
    stages = [
        stage([{"fitnets": {}}], trainable=["stage1*", "stage2*"]),
        stage(KD),
    ]
    recipe = small(teacher=DEEP, student={"model": CNN}, stages=stages, checkpoint={"every": 4})
    ran(recipe, tmp_path)
    kept = tmp_path / "arms/distilled/seed-0"
    after = load_file(kept / "stage-0/checkpoints/step-00000004/tensors.safetensors")
    start = student_of(
        recipe_of(recipe).student, image_data(recipe_of(recipe).data), 0
    ).state_dict()
    moved = {
        name
        for name, tensor in start.items()
        if name.endswith("weight") and not torch.equal(tensor, after[f"member.0.student.{name}"])
    }
    assert moved
    assert all(name.startswith(("module.stage1", "module.stage2")) for name in moved)
    saved = load_file(kept / "student/model.safetensors")
    assert "head.weight" in saved
    assert not any("regressor" in name or "aux" in name for name in saved)


def test_two_stages_of_fsp_and_modules_that_are_kept(tmp_path: Path) -> None:
    ran(
        small(teacher=DEEP, student={"model": CNN}, stages=[stage([{"fsp": {}}]), stage(KD)]),
        tmp_path / "fsp",
    )
    hints = [{"fitnets": {}}]
    still = stage(hints, steps=1, optimizer={"name": "sgd", "lr": 1e-12})
    stages = [stage(hints, keep_auxiliary=True), still]
    ran(small(teacher=DEEP, student={"model": CNN}, stages=stages), tmp_path / "kept")
    first, second = (
        {
            name: tensor
            for name, tensor in load_file(path / "tensors.safetensors").items()
            if name.startswith("member.0.aux.") and name.endswith("weight")
        }
        for path in (
            tmp_path / "kept/arms/distilled/seed-0/stage-0/checkpoints/step-00000004",
            tmp_path / "kept/arms/distilled/seed-0/stage-1/checkpoints/step-00000001",
        )
    )
    # The second stage goes on where the first one's regressor stood, not from a new one.
    assert first
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor)


def test_a_student_that_reuses_the_classifier_is_saved_whole(tmp_path: Path) -> None:
    recipe = small(
        teacher={"model": {"zoo": "cnn-large"}, "train": {**DEEP["train"], "steps": 12}},
        student={"model": CNN},
        stages=[stage([{"simkd": {}}])],
    )
    ran(recipe, tmp_path)
    kept = tmp_path / "arms/distilled/seed-0"
    again = load_model({"folder": str(kept / "student")})
    data = image_data(recipe_of(recipe).data)
    with torch.no_grad():
        logits = again(data.test.batch(torch.arange(len(data.test))).inputs).logits
    torch.testing.assert_close(logits, load_file(kept / "predictions.safetensors")["0.test"])
    assert any(
        "graft" in name or "teacher" in name or "projector" in name for name in again.state_dict()
    )


def test_rates_are_tuned_for_every_arm_and_each_seed_is_its_own(tmp_path: Path) -> None:
    recipe = small(seed={"count": 2}, tune={"lr": [0.001, 0.2]})
    ran(recipe, tmp_path)
    done = {
        str(path.parent.relative_to(tmp_path)) for path in tmp_path.glob("tuning/*/*/done.json")
    }
    for arm in ("distilled", "control"):
        assert {f"tuning/{arm}-lr-0.001/seed-0", f"tuning/{arm}-lr-0.2/seed-0"} <= done
        second = [path for path in done if path.startswith(f"tuning/{arm}") and path.endswith("1")]
        assert len(second) == 1
        own = contents(tmp_path)
        rate = second[0].rpartition("/")[0]
        name = "student/model.safetensors"
        assert own[f"{rate}/seed-0/{name}"] != own[f"{rate}/seed-1/{name}"]


def drawn(folder: Path) -> set[int]:
    """The classes that a student is right about at least once."""
    logits = load_file(folder / "arms/distilled/seed-0/predictions.safetensors")["0.test"]
    return set(logits.argmax(dim=-1).tolist())


def test_an_omitted_class_is_never_shown_and_others_are(tmp_path: Path) -> None:
    long = stage([{"ce": {}}], steps=40)
    ran(small(data={**WHOLE, "omit": [1]}, teacher={"nobody": {}}, stages=[long]), tmp_path)
    assert drawn(tmp_path) == {0, 2}


@pytest.mark.parametrize(("unlabelled", "seen"), [("rest", 133), (20, 20), ("none", 0)])
def test_unlabelled_images_are_counted(unlabelled: Any, seen: int, tmp_path: Path) -> None:
    data = {"source": "toy", "labelled": 30, "unlabelled": unlabelled}
    report = ran(small(data=data), tmp_path)
    assert {arm.name: arm.unlabelled for arm in report.arms}["distilled"] == seen


@pytest.mark.parametrize(
    "plan", [{"precision": "bf16"}, {"accumulate": 2}, {"ema": 0.5}, {"clip": 1.0}]
)
def test_a_plan_of_the_student_s_own_runs_beside_the_teacher_s(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    assert ran(small(stages=[stage(**plan)]), tmp_path).arms


def test_a_run_in_epochs_takes_as_many_steps_as_its_labels(tmp_path: Path) -> None:
    recipe = small(stages=[{"objective": KD, "plan": {"epochs": 2, "batch": 12}}])
    ran(recipe, tmp_path)
    assert len(contents(tmp_path)["arms/distilled/seed-0/stage-0/metrics.jsonl"].splitlines()) == 6


def test_a_student_goes_on_from_an_earlier_one(tmp_path: Path) -> None:
    ran(small(), tmp_path / "first")
    place = tmp_path / "first/arms/distilled/seed-0/student"
    student = {"model": MLP, "start": {"from": str(place)}}
    still = stage(steps=1, optimizer={"name": "sgd", "lr": 1e-12})
    ran(small(student=student, stages=[still]), tmp_path / "second")
    before = load_file(place / "model.safetensors")
    after = load_file(tmp_path / "second/arms/distilled/seed-0/student/model.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    ran(small(trackers=["tensorboard"]), tmp_path)
    events = list(tmp_path.rglob("events.out.tfevents*"))
    assert events
    assert b"distilled/seed-0/terms/kd" in b"".join(path.read_bytes() for path in events)


@pytest.mark.parametrize("arms", [[], ["smoothing", "longer"]])
def test_a_run_without_a_control_is_reported_without_one(arms: list[str], tmp_path: Path) -> None:
    report = ran(small(control={"arms": arms}), tmp_path)
    assert {arm.name for arm in report.arms} == {"teacher", "distilled", *arms}
    if "longer" in arms:
        steps = {arm.name: arm.measures["steps"] for arm in report.arms}
        longer, own = steps["longer"], steps["distilled"]
        assert isinstance(longer, Value)
        assert isinstance(own, Value)
        assert longer.estimate == 2 * own.estimate


@pytest.mark.parametrize("kind", ["live", "ema", "nobody", "cached", "born_again", "peers"])
def test_a_deep_check_takes_a_few_steps_and_says_what_a_run_will_cost(
    kind: str, tmp_path: Path
) -> None:
    others: dict[str, Any] = {
        "cached": {"cached": {"teacher": LIVE, "folder": str(tmp_path / "cache")}},
        "born_again": {"born_again": {}},
        "peers": {"peers": {"others": [CNN]}},
    }
    objective = {"nobody": [{"ce": {}}], "peers": [{"ce": {}}, {"dml": {}}]}.get(kind, KD)
    said = check(
        recipe_of(small(teacher={**KINDS, **others}[kind], stages=[stage(objective)])), deep=True
    )
    for word in ("data: 163 train", "ms a step", "memory:", "disk:"):
        assert word in said
    assert not (tmp_path / "cache").exists()


def parameters(report: Report, name: str) -> float:
    value = report.arm(name).measures["parameters"]
    assert isinstance(value, Value)
    return value.estimate
