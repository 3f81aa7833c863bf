"""How a recipe names a teacher that is a model, and how it, or a student, is trained."""

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, model_validator

from preceptor.recipe.models import AnyModel
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section, adapter, parsed
from preceptor.train.plan import Plan


def read_plan(given: Any) -> Plan:
    """A plan; a schedule and a glob may be written as plain text."""
    if isinstance(given, Plan):
        return given
    fields = dict(given) if isinstance(given, dict) else given
    if isinstance(fields, dict) and isinstance(fields.get("schedule"), str):
        fields["schedule"] = {"name": fields["schedule"]}
    if isinstance(fields, dict) and isinstance(fields.get("trainable"), str):
        fields["trainable"] = [fields["trainable"]]
    return parsed(Plan, fields)


def write_plan(plan: Plan) -> dict[str, Any]:
    """A plan as a recipe writes it, with every field."""
    return adapter(Plan).dump_python(plan, mode="json")


AnyPlan = Annotated[
    Plan, PlainValidator(read_plan, json_schema_input_type=Plan), PlainSerializer(write_plan)
]
"""A plan as `preceptor.train.plan.Plan` has it, validated against that class itself."""


class LiveTeacher(Section):
    """A model that answers each batch with a forward pass.

    Args:
        model: which one.
        train: how it is trained on all labels before the student begins; without it the model's
            own weights are used, or those in `load`.
        load: a folder or safetensors file with its weights.
    """

    model: AnyModel
    train: AnyPlan | None = None
    load: str | None = None

    @model_validator(mode="after")
    def _knows_something(self) -> "LiveTeacher":
        if self.train is not None and self.load is not None:
            raise invalid("", "names train and load, and exactly one of them can be", "Keep one.")
        if self.train is None and self.load is None and not self.model.brings_weights:
            why = "this teacher would be random: it has no weights and is not trained"
            raise invalid("", why, "Add train: {...}, load: FOLDER, or pretrained: true.")
        return self
