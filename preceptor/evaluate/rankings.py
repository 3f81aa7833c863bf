"""A ranking of teachers as a report keeps it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RankedTeacher:
    """A candidate: its score with 95 % limits over prompts, and from whom it cannot be told.

    `best` is the share of draws of prompts in which it has the best score, `beside` holds further
    scores by name.
    """

    name: str
    score: float
    low: float
    high: float
    best: float
    tied: tuple[str, ...]
    beside: Mapping[str, float]


@dataclass(frozen=True)
class TeacherRanking:
    """Candidates in order, the best first, and who was chosen.

    Args:
        moment: when: "before the run", "before stage 2".
        score: what they are ordered by.
        better: "lower" or "higher".
        prompts: how many all were compared on.
        seed: of the student that was asked.
        candidates: in order.
        chosen: who teaches.
        sentences: the choice, and what else came of it, in words.
        cautions: what makes the score less than it seems.
        decision: who was chosen from whom and what speaks against it, a sentence without its end.
    """

    moment: str
    score: str
    better: str
    prompts: int
    seed: int
    candidates: tuple[RankedTeacher, ...]
    chosen: tuple[str, ...]
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]
    decision: str = ""

    @property
    def headline(self) -> str:
        """Who was chosen from whom, and what speaks against it."""
        one = "were chosen" if len(self.chosen) > 1 else "was chosen"
        count = len(self.candidates)
        plain = f"{' and '.join(self.chosen)} {one} from {count} candidate{'s' * (count > 1)}"
        return (
            f"{self.moment[0].upper()}{self.moment[1:]}: {self.decision or plain}. The student of "
            f"seed {self.seed} was asked on {self.prompts} prompts; of {self.score}, {self.better} "
            "is better."
        )

    def lines(self) -> Iterator[list[str]]:
        """A table: its head, then a line a candidate."""
        yield ["", "candidate", self.score, "95 % of draws", "best", "not told from"]
        places = {each.name: str(i) for i, each in enumerate(self.candidates, start=1)}
        for each in self.candidates:
            tied = ", ".join(places[name] for name in each.tied)
            limits = f"{each.low:.4g} to {each.high:.4g}"
            share = f"{100 * each.best:.0f} %" if len(self.candidates) > 1 else ""
            yield [places[each.name], each.name, f"{each.score:.4g}", limits, share, tied]
