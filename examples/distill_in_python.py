"""A whole run from Python: the recipe is an object, the report is an object.

The same as a YAML file given to `preceptor distill`: teacher, student, control, verdict, and a
run folder with report.html.

    python examples/distill_in_python.py        # about ten seconds on one core
"""

from preceptor import (
    CE,
    KD,
    Control,
    Data,
    OptimizerPlan,
    Plan,
    Recipe,
    SchedulePlan,
    Seeds,
    Stage,
    Student,
    distill,
)
from preceptor.evaluate.tables import render_text
from preceptor.models.load import load_model
from preceptor.recipe.models import ZooModel
from preceptor.recipe.teachers import LiveTeacher

RECIPE = Recipe(
    name="in-python",
    seed=Seeds(count=3),
    data=Data(source="digits", labelled=100, unlabelled="rest"),
    teacher=LiveTeacher(
        model=ZooModel(zoo="cnn-large"),
        train=Plan(steps=80, optimizer=OptimizerPlan(name="adamw", lr=3e-3)),
    ),
    student=Student(model=ZooModel(zoo="cnn-small")),
    stages=(
        Stage(
            objective=0.1 * CE() + 0.9 * KD(temperature=4),
            plan=Plan(
                steps=80, optimizer=OptimizerPlan(lr=0.1), schedule=SchedulePlan(name="cosine")
            ),
        ),
    ),
    control=Control(arms=("control",)),
)


def main() -> None:
    run = distill(RECIPE)
    print(render_text(run.report))
    student = load_model({"folder": str(run.student)})
    count = sum(parameter.numel() for parameter in student.parameters())
    print(f"A student of {count:,} parameters lies in {run.student}, the page in {run.folder}")


if __name__ == "__main__":
    main()
