"""The verdict: did the teacher help, by how much, with what certainty, at what cost.

Rules, in words: fewer than three seeds decide nothing; otherwise the paired difference to the
control decides, by whether its 95 % interval, over seeds and items, leaves 0 out.
"""

from collections.abc import Iterator

from preceptor.evaluate.report import Difference, Kind, Report, Undefined, Value, Verdict
from preceptor.evaluate.words import estimate, in_full, in_words, limits

MIN_SEEDS = 3
MOST_SENTENCES = 4
_BESIDE = {
    "smoothing": "label smoothing, which needs no teacher,",
    "longer": "the longer plain run, which needs no teacher,",
    "scratch": "the control from a random start, which needs no teacher at all,",
}


def judge(report: Report) -> Verdict:
    """The verdict that a report's numbers lead to; a report read from disk gives it again."""
    versus = report.control
    main = report.difference(report.student, versus) if versus else None
    if main is None:
        headline = "There is no control arm, so whether the teacher helped is not known."
        return Verdict("not known", headline, tuple(_fidelity(report)))
    kind = _kind(main, len(report.seeds))
    parts = (
        _share(main, kind),
        _significance(main, report),
        _against(report),
        _without_teacher(report, kind),
        _unlabelled(report, kind),
        _fidelity(report),
        _members(report),
        _cost(report),
    )
    return Verdict(kind, _headline(report, main, kind), tuple(s for part in parts for s in part))


def _kind(main: Difference, seeds: int) -> Kind:
    low, high = main.gain.low, main.gain.high
    if seeds < MIN_SEEDS or low is None or high is None:
        return "not enough seeds"
    if low > 0:
        return "helped"
    return "hurt" if high < 0 else "no difference seen"


def _headline(report: Report, main: Difference, kind: Kind) -> str:
    student, control = (
        estimate(report.arm(name).measures[report.primary]) for name in (main.of, main.versus)
    )
    seen = f"{student} with it, {control} without: {_gained(main)}"
    count = f"{len(report.seeds)} seed{'s' if len(report.seeds) > 1 else ''}"
    who = "The teacher" if _teacher(report) else "The method"
    match kind:
        case "helped":
            return f"{who} helped. {seen}."
        case "hurt":
            return f"{who} hurt: do not distil in this setting. {seen}."
        case "no difference seen":
            return (
                f"No difference seen. {seen}. Four times in five, {count} and {report.items} test "
                f"items would have shown a difference of {estimate(main.smallest)}."
            )
        case _:
            return (
                f"Not enough seeds to say. {seen}. With {count} this is a statement about these "
                f"trained models, not about the method: run at least {MIN_SEEDS}, better 5."
            )


def _gained(difference: Difference) -> str:
    between = limits(difference.gain)
    seen = estimate(difference.gain)
    return f"{seen}, 95 % interval {between}" if between else seen


def _teacher(report: Report) -> str | None:
    return next((arm.name for arm in report.arms if arm.role == "teacher"), None)


def _share(main: Difference, kind: Kind) -> Iterator[str]:
    if isinstance(main.share, Undefined):
        if "no teacher" not in main.share.why:
            yield f"The share of the gap closed is not given: {main.share.why}."
    elif kind == "helped":
        yield f"It closed {in_words(main.share)} of the gap between control and teacher."


def _significance(main: Difference, report: Report) -> Iterator[str]:
    seeds = len(report.seeds)
    if seeds == 1:
        if report.clusters:
            yield f"Sign flips over the groups of test items give {_chance(main)}."
        elif main.gain.unit == "difference":
            yield f"McNemar's exact test over the test items gives {_chance(main)}."
        else:
            yield f"Sign flips over the test items give {_chance(main)}."
        return
    least = 2 / 2**seeds
    limit = ""
    if least > 0.05:
        limit = f" (the least that {seeds} seeds can give is {least:.2g}; the interval decides)"
    yield f"Flipping the sign of each seed's difference gives {_chance(main)}{limit}."


def _chance(main: Difference) -> str:
    p = estimate(main.p)
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def _without_teacher(report: Report, kind: Kind) -> Iterator[str]:
    for name, words in _BESIDE.items():
        beside = report.difference(report.student, name)
        if beside is None or beside.gain.low is None or kind == "not enough seeds":
            continue
        reached = estimate(report.arm(name).measures[report.primary])
        yield _compared(words, reached, beside, kind)


def _compared(words: str, reached: str, beside: Difference, kind: Kind) -> str:
    low, high = beside.gain.low or 0.0, beside.gain.high or 0.0
    seen = f"{words} reaches {reached}; the student's difference to it is {_gained(beside)}"
    start = f"{seen[0].upper()}{seen[1:]}"
    if high < 0:
        return f"{start}: use that instead."
    if kind != "helped":
        return f"{start}."
    if low > 0:
        return f"{start}: the gain is more than that."
    return (
        f"But {seen}: the two cannot be told apart (a difference of {estimate(beside.smallest)} "
        "would have shown four times in five), so it may explain the gain as well as the teacher "
        "does."
    )


def _against(report: Report) -> Iterator[str]:
    yield from (str(each) for each in report.findings if each.against)


def _unlabelled(report: Report, kind: Kind) -> Iterator[str]:
    student = report.arm(report.student).unlabelled
    control = report.arm(report.control).unlabelled if report.control else 0
    if student <= control:
        return
    more = student - control
    gain = ": the gain is that of the teacher and of these images together"
    yield (
        f"The student also saw {more:,} unlabelled images that the control had no use for"
        f"{gain if kind == 'helped' else ''}."
    )


def _fidelity(report: Report) -> Iterator[str]:
    for name, of in (("agreement", "items"), ("token_agreement", "tokens")):
        agreement = report.arm(report.student).measures.get(name)
        if not isinstance(agreement, Value):
            continue
        beside = ""
        if report.control:
            own = in_words(report.arm(report.control).measures[name])
            beside = f"; the control, which learned without it, on {own}"
        same = f"The student answers as the teacher does on {in_words(agreement)} of the {of}"
        yield f"{same}{beside}."
    yield from _beyond_chance(report)
    yield from _beyond_another(report)


def _beyond_another(report: Report) -> Iterator[str]:
    """What is shared with this teacher and not with any other that is as good."""
    for name, of in (("specific", "items"), ("token_specific", "tokens")):
        found = report.arm(report.student).measures.get(name)
        if not isinstance(found, Value) or found.low is None or found.high is None:
            continue
        if found.low > 0:
            yield (
                f"It answers as its own teacher on {in_words(found)} more of the {of} than as an "
                "independent one, trained the same way: so much it has from this teacher alone."
            )
        else:
            yield (
                "It is not seen to answer as its own teacher oftener than as an independent one, "
                f"trained the same way: the difference is {in_words(found)} of the {of}. That they "
                "agree is no sign that anything of this teacher alone has passed."
            )


def _beyond_chance(report: Report) -> Iterator[str]:
    """Two models that are merely both good agree too."""
    measures = report.arm(report.student).measures
    kappa = measures.get("kappa")
    if not isinstance(kappa, Value):
        return
    beside = ""
    if report.control and isinstance(own := report.arm(report.control).measures["kappa"], Value):
        beside = f"; the control's is {in_full(own)}"
    of = "Of the final answers, beyond" if "token_agreement" in measures else "Beyond"
    yield f"{of} chance that is {in_full(kappa)} of 1 (Cohen's kappa){beside}."


def _members(report: Report) -> Iterator[str]:
    others = {arm.name for arm in report.arms if arm.role == "student"} - {report.student}
    found = [each for each in report.differences if each.of in others]
    if len(found) <= MOST_SENTENCES:
        yield from (
            f"{each.of} against {each.versus}: {_gained(each)}{_seen(each, report)}."
            for each in found
        )
        return
    kinds = [_kind(each, len(report.seeds)) for each in found]
    if "not enough seeds" in kinds:
        yield f"Nor can it be said of the {len(found)} other ways to teach."
        return
    yield (
        f"Of {len(found)} other ways to teach, {kinds.count('helped')} gain, "
        f"{kinds.count('hurt')} lose, and of the others the interval holds zero; each is in the "
        "table of differences, with the smallest difference it could see. The best of many rows "
        "is not to be picked by its interval."
    )


def _seen(difference: Difference, report: Report) -> str:
    """What would have shown, beside what did not."""
    if _kind(difference, len(report.seeds)) != "no difference seen":
        return ""
    return f" (no difference seen; one of {estimate(difference.smallest)} would have shown)"


def _cost(report: Report) -> Iterator[str]:
    teacher = _teacher(report)
    spent = report.arm(report.student).measures["seconds"]
    if report.control and isinstance(spent, Value):
        plain = report.arm(report.control).measures["seconds"]
        text = f"Training took {estimate(spent)} a seed, the control {estimate(plain)}"
        if teacher and isinstance(own := report.arm(teacher).measures["seconds"], Value):
            text += f"; the teacher {estimate(own)}" if own.estimate > 0 else ""
        yield text + "."
    size, latency = (report.ratios.get(name) for name in ("bytes", "latency"))
    if isinstance(size, Value):
        text = f"The teacher's size is {_times(size)} times the student's"
        if isinstance(latency, Value):
            text += f", its latency {_times(latency)} times"
        yield text + "."


def _times(value: Value) -> str:
    return in_words(value).replace(" ×", "")
