"""A model's card: README.md of its folder, as the Hugging Face hub reads it, from the report."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from preceptor.evaluate.measures import GROUPS, MEASURES
from preceptor.evaluate.quantised import in_a_sentence
from preceptor.evaluate.report import Report, Undefined, Value
from preceptor.evaluate.tables import escaped, fenced, markdown_table
from preceptor.evaluate.words import in_full, in_words

_KNOWN = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""What the hub's names of licences look like."""

_TRAINING = "On training examples"
_IN_FRONT = ("Task", "Calibration")


@dataclass(frozen=True)
class About:
    """What a card says beside the report.

    Args:
        task: the hub's name of what the model does, such as image-classification.
        library: the hub's name of what loads the folder; empty for preceptor itself.
        student: the model, in words.
        teachers: who taught it, in words; none where nobody did.
        data: what it learned from.
        methods: what was minimised, stage by stage.
        use: lines of Python that load it.
        seed: the seed that this model was trained under.
    """

    task: str
    library: str
    student: str
    teachers: tuple[str, ...]
    data: str
    methods: tuple[str, ...]
    use: str
    seed: int


def model_card(report: Report, about: About) -> str:
    """The card: front matter for machines, then what a reader must know. Names mark nothing up."""
    taught = " and ".join(about.teachers) or "nobody"
    parts = [
        f"# {escaped(report.name)}",
        f"A student ({escaped(about.student)}), taught by {escaped(taught)} on "
        f"{escaped(about.data)}. It is the one of seed {about.seed}; numbers are of all "
        f"{len(report.seeds)} seeds and {report.items} test items, with 95 % intervals.",
        "## Did the teacher help?",
        f"**{escaped(report.verdict.headline)}**",
        _list(report.verdict.sentences),
        "## Numbers",
        markdown_table(_numbers(report)),
        f"{_kept(report)} {escaped(report.timing)}".strip(),
        escaped(in_a_sentence(report.quantised)) if report.quantised else "",
        "## How it was taught",
        _list(about.methods),
        "## What was not measured",
        _list(_unmeasured(report)),
        "## Licences and terms",
        _licences(report),
        "## Contamination",
        _contamination(report),
        "## Use",
        f"```python\n{about.use}\n```",
        "## Recipe",
        fenced(report.recipe),
    ]
    front = yaml.safe_dump(_front(report, about), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _front(report: Report, about: About) -> dict[str, Any]:
    """What the hub indexes."""
    student = report.arm(report.student).measures
    names = dict.fromkeys((report.primary, *(k for group in _IN_FRONT for k in GROUPS[group])))
    metrics = [_metric(name, student[name]) for name in names if name in student]
    front: dict[str, Any] = dict(_licence_in_front(report))
    if about.library:
        front["library_name"] = about.library
    front["pipeline_tag"] = about.task
    front["tags"] = ["knowledge-distillation", "preceptor"]
    result = {
        "task": {"type": about.task},
        "dataset": {"name": about.data, "type": about.data},
        "metrics": [metric for metric in metrics if metric is not None],
    }
    return {**front, "model-index": [{"name": report.name, "results": [result]}]}


def _metric(name: str, value: Value | Undefined) -> dict[str, Any] | None:
    if isinstance(value, Undefined):
        return None
    shown = f"{MEASURES[name]}: {in_full(value)}"
    return {"type": name, "name": shown, "value": round(value.estimate, 6)}


def _licence_in_front(report: Report) -> dict[str, str]:
    """The student's own, as the hub names it; unknown where nobody stated one."""
    stated = [each.licence for each in report.licences if each.of == "student" and each.licence]
    if not stated:
        return {"license": "unknown"}
    if _KNOWN.fullmatch(stated[0]):
        return {"license": stated[0]}
    return {"license": "other", "license_name": stated[0]}


def _numbers(report: Report) -> list[list[str]]:
    """Teacher, student and control, measure by measure."""
    names = [arm.name for arm in report.arms if arm.role == "teacher"]
    names += [report.student, *([report.control] if report.control else [])]
    rows = [["", *names]]
    for measure, called in _called().items():
        found = [report.arm(name).measures.get(measure) for name in names]
        if any(isinstance(value, Value) for value in found):
            cells = ["n/a" if not isinstance(v, Value) else in_full(v) for v in found]
            rows.append([called, *cells])
    main = report.difference(report.student, report.control or "")
    if main is not None:
        gained = [in_words(main.gain) if name == report.student else "" for name in names]
        rows.insert(1, ["gained over the control", *gained])
    return rows


def _called() -> dict[str, str]:
    """Measures by name; those on training examples say so, for they are called alike."""
    told = {name: f"{said}, on training examples" for name, said in GROUPS[_TRAINING].items()}
    return MEASURES | told


def _kept(report: Report) -> str:
    """Compression and what it cost, in a sentence."""
    said = [
        f"{called} {in_words(ratio)}"
        for name, called in (
            ("quality", "the share of the teacher's quality kept is"),
            ("parameters", "the teacher's parameters over the student's are"),
            ("latency", "its latency over the student's is"),
        )
        if isinstance(ratio := report.ratios.get(name), Value)
    ]
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _unmeasured(report: Report) -> list[str]:
    found = [
        f"{MEASURES[name]}: {value.why}."
        for name, value in report.arm(report.student).measures.items()
        if isinstance(value, Undefined) and name in MEASURES
    ]
    if report.control is None:
        found.append("What the teacher gave: no control was trained.")
    if report.quantised is None:
        found.append("Weights in 8 bits were not tried.")
    found.append(
        "Anything but these test items: other data, other languages, robustness, safety, bias."
    )
    return found


def _licences(report: Report) -> str:
    rows = [["", "source", "licence", "stated by"]]
    rows += [
        [each.of, each.source, each.licence or "not stated", each.where or "nobody here"]
        for each in report.licences
    ]
    said = (
        "Whoever passes this model on answers for the terms of the teacher, of the text that it "
        "wrote and of the data; nobody has judged them here."
    )
    return f"{markdown_table(rows)}\n\n{said}" if report.licences else said


def _contamination(report: Report) -> str:
    found = report.contamination
    if found is None:
        return "Nobody looked for test examples among the training examples."
    nearly = " or nearly" if found.unjudged < found.tested else ""
    said = found.sentence() or (
        f"none of {found.tested} test examples stands among {found.trained} training examples as "
        f"it is{nearly}"
    )
    small = f" {found.unjudged} are too short or too small to be called nearly the same."
    return (
        escaped(f"{said[0].upper()}{said[1:]} ({found.how}).{small if found.unjudged else ''}")
        + " What the teacher saw before is not known here."
    )


def _list(sentences: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"- {escaped(each)}" for each in sentences)
