"""Terms of what a student is made from: what the recipe says, or else its own folders."""

from collections.abc import Iterator

from preceptor.evaluate.report import Licence
from preceptor.models.licences import stated_licence
from preceptor.recipe.data import AnyData, Splits
from preceptor.recipe.language_teachers import ServedTeacher
from preceptor.recipe.models import MODEL_KEYS, AnyModel
from preceptor.recipe.schema import Recipe
from preceptor.recipe.teachers import AnyTeacher, EnsembleTeacher, LiveTeacher, kind_of, unaltered

_HERE = ("that of the data", "trained in this run")
_BUNDLED = {
    "digits": ("CC BY 4.0", "the UCI repository, which scikit-learn's digits are from"),
    "toy": ("Apache-2.0", "made by preceptor"),
    "arithmetic": ("Apache-2.0", "made by preceptor"),
    "prose": ("PSF-2.0", "CPython, whose help it is"),
}


def licences_of(recipe: Recipe) -> tuple[Licence, ...]:
    """The terms of teachers, data and the student's own start, each once; what is stated always."""
    said = recipe.licences
    found: list[Licence] = []
    for whole in _teachers(recipe):
        for teacher in _members(unaltered(whole)):
            found.append(_of_teacher(teacher, said.teacher))
    if said.teacher is not None and not found:
        found.append(_licence("teacher", kind_of(recipe.teacher), said.teacher))
    found += [_licence("data", source, said.data) for source in _sources(recipe.data)]
    start = recipe.student.folder or (
        called(recipe.student.model) if recipe.student.model.brings_weights else None
    )
    if start is not None or said.student is not None:
        found.append(_licence("student", start or "this model", said.student))
    return tuple(dict.fromkeys(found))


def called(model: AnyModel) -> str:
    """A model by its name or folder; its kind, where it is made from a configuration.

    >>> from preceptor.recipe.models import ZooModel
    >>> called(ZooModel(zoo="resnet8x4"))
    'resnet8x4'
    """
    key = next(key for key in MODEL_KEYS if hasattr(model, key))
    source = getattr(model, key)
    return source if isinstance(source, str) else f"{source.get('model_type', key)} configuration"


def _teachers(recipe: Recipe) -> Iterator[AnyTeacher]:
    for way in recipe.ways().values():
        for stage in way.stages:
            yield stage.teacher or way.teacher


def _members(teacher: AnyTeacher) -> Iterator[LiveTeacher | ServedTeacher]:
    """Those with weights from elsewhere; the student's own past and peers have none."""
    if isinstance(teacher, EnsembleTeacher):
        for member in teacher.ensemble.members:
            yield from _members(member)
    elif isinstance(teacher, LiveTeacher | ServedTeacher):
        yield teacher


def _of_teacher(teacher: LiveTeacher | ServedTeacher, said: str | None) -> Licence:
    if isinstance(teacher, ServedTeacher):
        return _licence("teacher", teacher.served.model, said, elsewhere=True)
    if said is None and teacher.load is None and not teacher.model.brings_weights:
        return Licence("teacher", called(teacher.model), *_HERE)
    return _licence("teacher", teacher.load or called(teacher.model), said)


def _sources(data: AnyData) -> tuple[str, ...]:
    source = data.source
    return (source.train, source.test) if isinstance(source, Splits) else (source,)


def _licence(of: str, source: str, said: str | None, *, elsewhere: bool = False) -> Licence:
    if said is not None:
        return Licence(of, source, said, "the recipe")
    if of == "data" and source in _BUNDLED:
        return Licence(of, source, *_BUNDLED[source])
    return Licence(of, source, *(("", "") if elsewhere else stated_licence(source)))
