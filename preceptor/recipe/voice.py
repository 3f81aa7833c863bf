"""How a recipe's teachers read text beside its student: tokenizer, template, vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from preceptor.data.chat import Rendering
from preceptor.data.tokenizers import fingerprint, id_count, load_tokenizer
from preceptor.data.two_tokenisers import TwoTokenisers
from preceptor.data.vocabulary import Vocabulary, require_shared
from preceptor.errors import RecipeError
from preceptor.recipe.data import TextData
from preceptor.recipe.models import AnyModel
from preceptor.recipe.texts import own_tokenizer, rendering_of
from preceptor.types import Needs


@final
@dataclass(frozen=True)
class Voice:
    """What the teachers have of their own.

    Args:
        classes: how many ids a model answers with.
        tokenizer: the teachers', where it is not the student's.
        models: the teacher models that have it.
        vocabulary: what both share; None where it is one tokenizer, or two that share nothing.
    """

    classes: int
    tokenizer: Any = None
    models: tuple[AnyModel, ...] = ()
    vocabulary: Vocabulary | None = None
    reading: Rendering | None = None
    joining: TwoTokenisers | None = None

    @classmethod
    def of(
        cls,
        said: TextData,
        student: Any,
        teachers: Sequence[AnyModel],
        readers: Mapping[str, Needs],
    ) -> "Voice":
        """The teachers' side of a recipe; `student` is the student's tokenizer.

        Raises:
            RecipeError: teachers differ among themselves.
            NeedsError: the vocabularies differ and a method compares id by id.
        """
        own = {place: model for model in teachers if (place := own_tokenizer(model)) is not None}
        held = {place: load_tokenizer(place) for place in own}
        others = {p: t for p, t in held.items() if fingerprint(t) != fingerprint(student)}
        if not others:
            return cls(id_count(student))
        if len({fingerprint(t) for t in others.values()}) > 1 or len(others) < len(teachers):
            raise RecipeError(
                f"the teachers' tokenizers or templates are those of {', '.join(own)}",
                "one batch can hold the text as one student and one kind of teacher read it",
                "Use teachers that share tokenizer and template.",
            )
        place, tokenizer = next(iter(others.items()))
        models = tuple(model for model in teachers if own_tokenizer(model) in others)
        reading = rendering_of(said, tokenizer)
        sizes = id_count(student), id_count(tokenizer)
        shared = require_shared(student, tokenizer, *sizes, readers)
        if shared is None:
            joining = TwoTokenisers.of(student, tokenizer)
            return cls(id_count(student), tokenizer, models, None, reading, joining)
        return cls(shared.classes, tokenizer, models, shared, reading)

    @property
    def rendering(self) -> Rendering | None:
        """How a teacher of the student's vocabulary reads rows, where its template differs."""
        return None if self.vocabulary is None else self.reading

    @property
    def foreign(self) -> Rendering | None:
        """How a teacher of another vocabulary reads rows."""
        return None if self.joining is None else self.reading

    def of_model(self, said: AnyModel, student: Any) -> tuple[Any, int]:
        """A model's tokenizer, and how many of its ids are classes."""
        if said not in self.models:
            return student, self.classes
        return self.tokenizer, self.classes if self.vocabulary else id_count(self.tokenizer)

    def sentence(self) -> str:
        """What a reader should know of two tokenizers; empty where there is one."""
        if self.vocabulary is not None:
            return f"; {self.classes:,} ids mean the same to student and teacher"
        if self.joining is not None:
            return f"; two tokenisers, {self.classes} and {id_count(self.tokenizer)} ids"
        return ""
