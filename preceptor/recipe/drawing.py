"""How a recipe's rows of text become a training step's batches."""

from dataclasses import dataclass
from typing import final

from preceptor.data.reading import RowStream
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.data.text_stream import TextStream
from preceptor.errors import RecipeError
from preceptor.recipe.data import TextData
from preceptor.train.plan import Plan


@final
@dataclass(frozen=True)
class Drawing:
    """Rows in an order of a seed's own: packed, sorted by length, or read as they come.

    Args:
        said: the recipe's words.
        stream: where the training rows are not held.
    """

    said: TextData
    stream: RowStream | None = None

    def source(self, texts: TextSet, plan: Plan, seed: int) -> Source:
        """Batches of a set; of a stream, batches of all its rows, read as the set's are.

        Raises:
            RecipeError: passes over a stream are to be counted.
        """
        if self.stream is None:
            return self.held(texts, plan.batch, seed, pack=self.said.packed)
        if not plan.steps:
            raise RecipeError(
                f"plan.epochs: {plan.epochs} with data.streamed",
                "nobody knows how many rows a stream has before it was read",
                "Say plan.steps.",
            )
        assert self.said.streamed is not None
        return TextStream(
            self.stream,
            texts.rendering,
            texts.teacher,
            batch=plan.batch,
            steps_per_epoch=plan.steps,
            block=self.said.streamed,
            seed=seed,
            pack=self.said.max_length if self.said.packed else None,
        )

    def held(self, texts: TextSet, batch: int, seed: int, *, pack: bool = False) -> TextSource:
        """Batches of rows that are held in memory."""
        room = self.said.max_length if pack else None
        return TextSource(texts, batch=batch, seed=seed, bucket=self.said.bucket, pack=room)

    def require_held(self, what: str) -> None:
        """Raise where something needs every training row, and they are a stream."""
        if self.stream is not None:
            raise RecipeError(
                f"{what} with data.streamed",
                "it needs the training rows by number, and a stream is read once, in its own order",
                "Leave data.streamed out; rows that fit into memory need no stream.",
            )
