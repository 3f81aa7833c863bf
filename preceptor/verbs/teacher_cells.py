"""Which live teachers are inside one that a recipe says, and the seeds that they begin at."""

from preceptor.recipe.teachers import (
    AlteredTeacher,
    AnyTeacher,
    CachedTeacher,
    EnsembleTeacher,
    LiveTeacher,
    unaltered,
)
from preceptor.verbs.independent import NAME as INDEPENDENT

TEACHER_SEED = 0
"""A run has one teacher, the same for every seed."""

_OTHER_SEED = 4001
"""Of a teacher that the student never meets: no member of an ensemble begins there."""


def teacher_seed(name: str) -> int:
    """Members of an ensemble begin at different weights, by the numbers in their names."""
    seed = _OTHER_SEED if name.startswith(INDEPENDENT) else TEACHER_SEED
    for part in name.split("-"):
        seed = 64 * seed + int(part) + 1 if part.isdigit() else seed
    return seed


def live_inside(said: AnyTeacher, name: str) -> list[tuple[str, LiveTeacher]]:
    """The live teachers inside a teacher, under the names that `build.teacher` gives them."""
    if isinstance(said, LiveTeacher):
        return [(name, said)]
    if isinstance(said, CachedTeacher | AlteredTeacher):
        return live_inside(unaltered(said), name)
    if isinstance(said, EnsembleTeacher):
        members = enumerate(said.ensemble.members)
        return [
            pair for index, member in members for pair in live_inside(member, f"{name}-{index}")
        ]
    return []
