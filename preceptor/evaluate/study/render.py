"""A study as a page and as text."""

from markupsafe import Markup

from preceptor.evaluate.drawing import short
from preceptor.evaluate.render import environment
from preceptor.evaluate.study import plots
from preceptor.evaluate.study.study import GroupRow, Study
from preceptor.evaluate.study.words import why
from preceptor.evaluate.tables import text_table
from preceptor.evaluate.words import estimate, limits

_TONES = {"yes": "good", "no": "bad", "not shown": "even"}


def render_study(study: Study) -> str:
    """One page that needs nothing else: styles and pictures are in it, and no script is."""
    pages = environment()
    pages.filters["why"] = why
    return pages.get_template("study.html").render(
        study=study,
        tones=_TONES,
        plots=_pictures(study),
        groups=_groups(study),
        colours={row.name: (i + 1) % 8 for i, row in enumerate(study.students)},
        minutes=f"{study.seconds / 60:.1f}",
    )


def study_text(study: Study) -> str:
    """What was found, for a terminal."""
    lines = []
    for finding in study.findings:
        lines.append(f"{finding.question} {finding.answer.capitalize()}.")
        lines += [f"  {sentence}" for sentence in finding.sentences]
    if study.troubles:
        lines.append(f"{len(study.troubles)} cells collapsed, failed or know nothing:")
        lines += [f"  {t.cell}: {t.state}. {t.why}" for t in study.troubles[:10]]
        more = len(study.troubles) - 10
        lines += [f"  and {more} more, in the report"] if more > 0 else []
    heads = ["student", "parameters", "alone", "taught", "gain", ""]
    rows = [
        [
            short(row.name, 40),
            f"{row.parameters:.0f}",
            estimate(row.control),
            estimate(row.taught),
            estimate(row.gain),
            limits(row.gain) or why(row.gain),
        ]
        for row in study.students
    ]
    return "\n".join([*([text_table([heads, *rows]), ""] if rows else []), *lines])


def _groups(study: Study) -> list[tuple[str, tuple[GroupRow, ...]]]:
    """Tables of one kind: what is named, and its rows; those with one row say nothing new."""
    found = [
        ("student", study.students),
        ("teacher", study.teachers),
        ("method", study.methods),
        ("setting", study.options),
    ]
    return [(name, rows) for name, rows in found if name == "student" or len(rows) > 1]


def _pictures(study: Study) -> list[tuple[str, Markup, str]]:
    """Title, picture, caption; none where nothing could be compared."""
    if not study.places:
        return []
    found = [
        (
            "Gain against the student's size",
            plots.gain_by_size(study),
            "Marks are means over tasks with 95 % intervals; a thin line is one task.",
        ),
        (
            "Gain against the teacher's accuracy",
            plots.gain_by_teacher(study),
            "One mark a task, student and teacher, mean over seeds.",
        ),
        (
            "Accuracy and agreement",
            plots.plane(study),
            "Arrows lead from the control to the taught student. On the dashed line a model agrees "
            "with its teacher as often as it is right. Crosses are means of taught students with "
            "95 % intervals over tasks.",
        ),
        (
            "Gain and chance-corrected agreement",
            plots.changes(study),
            "Cohen's kappa is 0 for two models that agree as often as chance makes them, and 1 for "
            "the same answers.",
        ),
        (
            "Gain of each task",
            plots.gains_of_tasks(study.tasks),
            "Lines are 95 % intervals over seeds and test items, for these trained models.",
        ),
    ]
    if len(study.options) > 1:
        found.append(
            (
                "Gain of each setting, used everywhere",
                plots.gains_of_options(study.options),
                "Limits over tasks. In brackets: at how many places validation chose it.",
            )
        )
    for task in dict.fromkeys(row.task for row in study.signals):
        found.append(
            (
                f"What the teacher says, on {task}",
                plots.gains_of_signals(study.signals, task),
                "Gain over the control under each signal; limits over seeds and test items.",
            )
        )
    return found
