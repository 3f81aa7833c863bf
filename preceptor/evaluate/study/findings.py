"""What a study says in words, by rule: where an interval holds 0, a sentence says so."""

import unicodedata
from collections.abc import Sequence

from preceptor.evaluate.drawing import short
from preceptor.evaluate.report import Measured, Value
from preceptor.evaluate.study.measures import FEWEST_TASKS, MEASURES
from preceptor.evaluate.study.study import (
    Answer,
    CorrelationRow,
    FidelityRow,
    Finding,
    GroupRow,
    SignalRow,
)
from preceptor.evaluate.study.words import in_full
from preceptor.evaluate.words import in_words

_ALPHA = 0.05
_Forms = dict[str, CorrelationRow | None]


def findings(
    mean_gain: Measured,
    small: Measured,
    students: Sequence[GroupRow],
    teachers: Sequence[GroupRow],
    related: Sequence[CorrelationRow],
    fidelity: Sequence[FidelityRow],
    signals: Sequence[SignalRow],
    options: Sequence[GroupRow],
) -> tuple[Finding, ...]:
    """The study's questions with their answers; those that it cannot ask are left out."""
    if not isinstance(mean_gain, Value):
        nothing = "No comparison has all of its models: nothing can be said."
        return (Finding("Did distillation help?", "not shown", (nothing,)),)
    found = [_helped(mean_gain)]
    if len(students) > 1:
        found.append(_smaller(small, students, _find(related, "parameters", "gain")))
    found.append(_teachers(related, teachers))
    found.append(_levels(related))
    found.append(_changes(related, fidelity))
    found.append(_specific(fidelity))
    if signals:
        found.append(_signals(signals))
    if len(options) > 1:
        found.append(_options(options))
    return tuple(found)


def sign(value: Measured) -> int:
    """1 where the whole interval lies above 0, -1 below, 0 where it holds 0 or there is none."""
    if not isinstance(value, Value) or value.low is None or value.high is None:
        return 0
    return 1 if value.low > 0 else -1 if value.high < 0 else 0


def _answer(value: Measured) -> Answer:
    return ("not shown", "yes", "no")[sign(value)]


def _helped(gain: Measured) -> Finding:
    tasks = f"{gain.n} task{'s' if gain.n != 1 else ''}" if isinstance(gain, Value) else "no task"
    bare = isinstance(gain, Value) and gain.low is None
    words = {
        1: f"On average over {tasks}, students that were taught beat their controls: "
        f"{in_words(gain)}.",
        -1: f"On average over {tasks}, students that were taught fell behind their controls: "
        f"{in_words(gain)}.",
        0: f"The mean gain over {tasks} is {in_words(gain)}: "
        + (f"{FEWEST_TASKS} tasks would give an interval." if bare else "the interval holds 0."),
    }
    return Finding("Did distillation help?", _answer(gain), (words[sign(gain)],))


def _smaller(
    small: Measured, students: Sequence[GroupRow], within: CorrelationRow | None
) -> Finding:
    first, last = students[0], students[-1]
    sizes = (
        f"{_named(first.name)} gained {in_full(first.gain)}, {_named(last.name)} "
        f"{in_full(last.gain)}; "
        f"the difference, task by task, is {in_full(small)}."
    )
    said = {
        1: "Smaller students gained more.",
        -1: "Smaller students gained less.",
        0: "That smaller students gain more is not shown.",
    }
    sentences = [said[sign(small)], sizes]
    if within is not None:
        sentences.append(f"Within tasks, gain and size go together with {_rho(within)}.")
    return Finding("Did smaller students gain more?", _answer(small), tuple(sentences))


def _teachers(related: Sequence[CorrelationRow], teachers: Sequence[GroupRow]) -> Finding:
    across = _find(related, "teacher_accuracy", "gain", "tasks")
    within = _find(related, "teacher_accuracy", "gain", "teachers")
    skill = _find(related, "expertise", "gain", "tasks")
    answer = _shown(across, within)
    asked: _Forms = {
        "gain by the teacher's accuracy across tasks": across,
        "gain by the teacher's accuracy within tasks": within,
    }
    said: dict[Answer, str] = {
        "yes": "Students of more accurate teachers gained more.",
        "no": "Students of more accurate teachers gained less.",
        "not shown": "That more accurate teachers give more is not shown.",
    }
    sentences = [said[answer], *_rule(asked, {})]
    if across is not None:
        sentences.append(
            f"Across tasks, gain goes with the teacher's accuracy by {_rho(across)}"
            + (f", and with its expertise above guessing by {_rho(skill)}." if skill else ".")
        )
    if within is not None and len(teachers) > 1:
        sentences.append(
            f"Within tasks, the more accurate teacher's students gained more by {_rho(within)}."
        )
    sentences += [f"Taught by {_named(each.name)}: {in_full(each.gain)}." for each in teachers[:6]]
    return Finding("Did better teachers give more?", answer, tuple(sentences))


def _levels(related: Sequence[CorrelationRow]) -> Finding:
    asked, beside = _forms(related, "", "accuracy")
    answer = _shown(*asked.values())
    said: dict[Answer, str] = {
        "yes": "The more accurate a taught student, the more it agreed with its teacher.",
        "no": "The more accurate a taught student, the less it agreed with its teacher.",
        "not shown": "That more accurate students agree more with their teachers is not shown.",
    }
    sentences = [said[answer], *_rule(asked, beside)]
    sentences += _each(asked | beside, "accuracy of taught students")
    sentences.append(
        "Two models that are both often right agree often, so this alone is no imitation."
    )
    return Finding("Did agreement follow accuracy?", answer, tuple(sentences))


def _each(forms: _Forms, other: str) -> list[str]:
    """A sentence for every form that has a correlation with the other measure."""
    return [
        f"{words[0].upper()}{words[1:]}, and {other}: {_rho(row)}."
        for words, row in forms.items()
        if row is not None
    ]


def _changes(related: Sequence[CorrelationRow], fidelity: Sequence[FidelityRow]) -> Finding:
    asked, beside = _forms(related, "_change", "gain")
    answer = _shown(*asked.values())
    said: dict[Answer, str] = {
        "yes": "Where teaching raised accuracy more, it raised agreement more.",
        "no": "Where teaching raised accuracy more, it raised agreement less.",
        "not shown": "That agreement rises where accuracy does is not shown.",
    }
    sentences = [said[answer], *_rule(asked, beside)]
    sentences += _each(asked | beside, "gain")
    sentences += [
        f"Teaching moved {row.measure} by {in_full(row.change)} "
        f"(from {in_full(row.control)} to {in_full(row.taught)})."
        for row in fidelity[:2]
    ]
    question = "Where students gained, did they agree more?"
    return Finding(question, answer, tuple(sentences))


def _specific(fidelity: Sequence[FidelityRow]) -> Finding:
    row = next(r for r in fidelity if r.measure == MEASURES["specific"])
    said = {
        1: "Teaching made students agree with the very teacher that taught them.",
        -1: "Teaching made students agree less with the very teacher that taught them.",
        0: "That students imitate the very teacher that taught them is not shown.",
    }
    question = "Did students come to imitate their own teacher?"
    if not isinstance(row.change, Value):
        why = (
            "No teacher was trained from a second seed, so what it shares with every such teacher "
            "cannot be told from what is its own."
        )
        return Finding(question, "not shown", (said[0], why))
    words = (
        f"A taught student agrees with its own teacher more than with the same teacher trained "
        f"from another seed by {in_full(row.taught)}; its control, which met neither, by "
        f"{in_full(row.control)}. The difference is {in_full(row.change)}."
    )
    return Finding(question, _answer(row.change), (said[sign(row.change)], words))


def _signals(signals: Sequence[SignalRow]) -> Finding:
    sentences = [
        f"{_named(row.task)}, {_named(row.signal)}: {in_full(row.gain)} over the control"
        + (
            f", {in_full(row.against_true)} against the true signal."
            if isinstance(row.against_true, Value)
            else "."
        )
        for row in signals
    ]
    spoilt = [row.against_true for row in signals if isinstance(row.against_true, Value)]
    worse = sum(sign(value) < 0 for value in spoilt)
    first = f"{worse} of {len(spoilt)} altered signals did worse than the true one."
    answer: Answer = "yes" if worse else "not shown"
    return Finding("Did it matter what the teacher says?", answer, (first, *sentences))


def _options(options: Sequence[GroupRow]) -> Finding:
    first = options[0].name
    sentences = [
        f"{each.name}: {in_full(each.gain)} everywhere"
        + (
            f", {in_full(each.against_first)} against {first}"
            if isinstance(each.against_first, Value)
            else ""
        )
        + f"; chosen on validation at {each.chosen} place"
        f"{'' if each.chosen == 1 else 's'}."
        for each in options
    ]
    apart = [each.name for each in options if sign(each.against_first)]
    said = (
        f"Used everywhere, {_listed(apart)} gave another gain than {first}."
        if apart
        else f"No setting, used everywhere, is told from {first}."
    )
    last = f"One of {len(options)} was chosen at each place, on validation alone."
    answer: Answer = "yes" if apart else "not shown"
    return Finding("Did the setting matter?", answer, (said, *sentences, last))


def _forms(related: Sequence[CorrelationRow], change: str, second: str) -> tuple[_Forms, _Forms]:
    """Agreement with the second column across and within tasks; then the same of Cohen's kappa."""
    forms = [
        {
            f"{MEASURES[f'{name}{change}'].removesuffix(' with the teacher')} {words} tasks": _find(
                related, f"{name}{change}", second, across
            )
            for words, across in (("across", "tasks"), ("within", "students"))
        }
        for name in ("agreement", "kappa")
    ]
    return forms[0], forms[1]


def _rule(asked: _Forms, beside: _Forms) -> list[str]:
    """What the answer rests on, by a rule that no result has moved, and what other forms say."""
    known = {words: _sign(row) for words, row in asked.items() if row is not None}
    if not known:
        return []
    told = _listed([f"{words} {_SHOWS[sign]}" for words, sign in known.items()])
    if len(known) == 1:
        found = [f"The answer rests on one test, fixed beforehand: {told}."]
    else:
        found = [f"The answer rests on tests fixed beforehand, which must all show it: {told}."]
    for sign in (1, -1):
        others = [w for w, row in beside.items() if row is not None and _sign(row) == sign]
        if others:
            too = " as well" if all(own == sign for own in known.values()) else ""
            verb = (_SHOWS if len(others) == 1 else _SHOW)[sign]
            found.append(f"Of the other forms, {_listed(others)} {verb}{too}.")
    return found


_SHOWS = {1: "shows it", -1: "shows the opposite", 0: "does not show it"}
_SHOW = {1: "show it", -1: "show the opposite"}


def _named(name: str) -> str:
    """A name as a sentence has it; what is written from the right turns no number around."""
    found = short(name, 60)
    from_right = any(unicodedata.bidirectional(each) in ("R", "AL") for each in found)
    return f"\u2068{found}\u2069" if from_right else found


def _listed(words: Sequence[str]) -> str:
    """The words with commas and an "and".

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _find(
    related: Sequence[CorrelationRow], first: str, second: str, across: str | None = None
) -> CorrelationRow | None:
    words = MEASURES[first], MEASURES[second]
    for row in related:
        if (row.first, row.second) == words and across in (None, row.across):
            return row if isinstance(row.rho, Value) else None
    return None


def _shown(*rows: CorrelationRow | None) -> Answer:
    """Yes where all that exist are above 0 by their adjusted tests, no where all are below."""
    known = [row for row in rows if row is not None]
    signs = {_sign(row) for row in known}
    if len(signs) == 1 and (only := signs.pop()):
        return "yes" if only > 0 else "no"
    return "not shown"


def _sign(row: CorrelationRow) -> int:
    if not isinstance(row.p_holm, Value) or not isinstance(row.rho, Value):
        return 0
    if row.p_holm.estimate > _ALPHA:
        return 0
    return 1 if row.rho.estimate > 0 else -1


def _rho(row: CorrelationRow) -> str:
    return f"rho {in_full(row.rho)}, p {in_full(row.p)} ({in_full(row.p_holm)} after Holm)"
