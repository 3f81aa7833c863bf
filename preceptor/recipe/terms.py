"""How a recipe states terms that folders and cards do not state themselves."""

from preceptor.recipe.section import Section


class Licences(Section):
    """Under which terms a run's parts may be used, for the report and the model's card.

    Args:
        teacher: of the teacher, and of text that it writes; its own folder's where not given.
        data: of the examples; its own folder's where not given.
        student: under which the student is passed on; its base's own where not given.
    """

    teacher: str | None = None
    data: str | None = None
    student: str | None = None
