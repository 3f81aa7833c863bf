"""How a recipe says in which way a teacher's answers are spoilt."""

from functools import partial
from typing import Literal

from pydantic import model_validator

from preceptor.fields import Index, OpenFraction, Positive
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section
from preceptor.teachers.altered import (
    Alteration,
    noised,
    randomised,
    shuffled,
    shuffled_below_first,
    smoothed,
)


class AlterationFields(Section):
    """What is done to a teacher's logits: exactly one of the first four.

    Args:
        smooth: keep its first choice alone, and spread this share evenly over all classes.
        shuffle: exchange each row's logits among "all" classes, or among those "below_first".
        noise: add Gaussian noise of this standard deviation to every logit.
        random: put random logits of each row's own mean and spread in their place.
        seed: of what is drawn, which is a function of the example's id, or of a token's row and
            place.
    """

    smooth: OpenFraction | None = None
    shuffle: Literal["all", "below_first"] | None = None
    noise: Positive | None = None
    random: bool = False
    seed: Index = 0

    @model_validator(mode="after")
    def _one_way(self) -> "AlterationFields":
        ways = (self.smooth, self.shuffle, self.noise, self.random or None)
        if sum(way is not None for way in ways) != 1:
            why = "names not exactly one of smooth, shuffle, noise and random"
            raise invalid("", why, "Write smooth: 0.2, for example.")
        return self

    def alteration(self) -> Alteration:
        """What is done to logits."""
        if self.smooth is not None:
            return partial(smoothed, amount=self.smooth)
        if self.noise is not None:
            return partial(noised, scale=self.noise)
        if self.shuffle is None:
            return randomised
        return shuffled if self.shuffle == "all" else shuffled_below_first
