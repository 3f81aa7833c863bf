"""How a recipe says where its student begins: at random, from a folder, or inside its teacher."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from preceptor.fields import Count, Positive
from preceptor.recipe.section import Section, which

BASES = ("guide", "project", "select", "prune", "random_basis")


class FromFolder(Section):
    """Weights that an earlier run saved."""

    folder: str = Field(alias="from")


class StartFields(Section):
    """What a start inside a teacher leaves open; unsaid is what is usual for its basis.

    Args:
        teacher: a folder whose weights are taken; where not given, the run's own teacher's, who is
            trained first where the run trains it.
        blocks: whether embeddings and first block are taken over, or everything: `first` for
            guide, `all` for the others.
        depth: the teacher's blocks that are kept, where there are fewer: `even` where not given.
        repair: whether what writes to the stream is fitted anew to the teacher's activations: for
            project, where not given.
        ridge: how strongly it is held to what it was.
        calibration: training examples on which the teacher's activations are read.
    """

    teacher: str | None = None
    blocks: Literal["first", "all"] | None = None
    depth: Literal["even", "first", "influence"] | None = None
    repair: bool | None = None
    ridge: Positive = 0.01
    calibration: Count = 128

    def said(self) -> dict[str, Any]:
        """What differs from what is usual for a basis."""
        named = ("blocks", "depth", "repair")
        return {name: value for name in named if (value := getattr(self, name)) is not None}


class GuideFields(StartFields):
    """What `guide` leaves open beside.

    Args:
        frequencies: whether a row of the teacher's embedding table counts as often as its token
            occurs in the `calibration` examples, and not each alike.
    """

    frequencies: bool = False


class InsideStart(Section):
    """A student that begins inside its teacher; one key names the basis of its stream."""

    @property
    def key(self) -> str:
        """The recipe's word for the basis."""
        return next(iter(type(self).model_fields))

    @property
    def fields(self) -> StartFields:
        """What was said beside it."""
        return getattr(self, self.key)


class GuideStart(InsideStart):
    """The leading directions of the teacher's embedding table."""

    guide: GuideFields


class ProjectStart(InsideStart):
    """The leading directions of the teacher's activations."""

    project: StartFields


class SelectStart(InsideStart):
    """Evenly spaced channels."""

    select: StartFields


class PruneStart(InsideStart):
    """The channels, heads and neurons that activations find most important."""

    prune: StartFields


class RandomBasisStart(InsideStart):
    """Any directions, by the run's seed: what the others are to be compared with."""

    random_basis: StartFields


def _which(value: Any) -> str | None:
    """The kind of a start; a folder may be named by either of its words."""
    if isinstance(value, str):
        return "<random>"
    found = which("from", "folder", *BASES)(value)
    return "<from>" if found == "<folder>" else found


AnyStart = Annotated[
    Annotated[Literal["random"], Tag("<random>")]
    | Annotated[FromFolder, Tag("<from>")]
    | Annotated[GuideStart, Tag("<guide>")]
    | Annotated[ProjectStart, Tag("<project>")]
    | Annotated[SelectStart, Tag("<select>")]
    | Annotated[PruneStart, Tag("<prune>")]
    | Annotated[RandomBasisStart, Tag("<random_basis>")],
    Discriminator(
        _which, custom_error_type="which", custom_error_message="names not exactly one kind"
    ),
]
