"""What the teacher sees of a row: its own template and prompt before the student's response ids."""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from preceptor.data.chat import Rendering
from preceptor.data.rendered import Rendered
from preceptor.data.rows import Row
from preceptor.data.vocabulary import shared_vocabulary
from preceptor.errors import DataError


class Seen(NamedTuple):
    """The teacher's sequence: ids, which of them are scored, and how many stand before the last
    response. The scored ones are the student's, in the same order."""

    ids: NDArray[np.int32]
    scored: NDArray[np.bool_]
    prompt: int


@final
class TeacherView:
    """The student's responses behind the teacher's own prompts.

    Response ids are never decoded and encoded again: they are the student's, only the token that
    ends a response is the teacher's own. A document is the same ids for both.

    Args:
        own: how the student reads rows.
        theirs: how the teacher does; the same vocabulary, up to tokens that one alone knows.

    Raises:
        ModelError: the vocabularies differ.
    """

    def __init__(self, own: Rendering, theirs: Rendering) -> None:
        self._own, self._theirs = own, theirs
        sizes = own.vocabulary, theirs.vocabulary
        shared_vocabulary(own.tokenizer, theirs.tokenizer, *sizes)
        self._known = theirs.vocabulary
        shared = own.tokenizer is theirs.tokenizer
        self._ends = (None, None) if shared and own.end == theirs.end else (own.end, theirs.end)

    def response(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """A response's ids as the teacher has them: its own token at the end of a turn."""
        own, theirs = self._ends
        if own == theirs or theirs is None or not len(ids) or ids[-1] != own:
            return ids
        return np.append(ids[:-1], np.int32(theirs))

    def of(self, row: Row, rendered: Rendered) -> Seen:
        """What the teacher sees of a row.

        Args:
            row: the row.
            rendered: what the student sees of it.

        Raises:
            DataError: the two templates put different text into the response, the student's ids
                are not known to the teacher, or the teacher's context is too short.
        """
        if row.form == "text":
            return self._checked(row, Seen(rendered.ids, rendered.scored, len(rendered.prompt)))
        whole = self._theirs.render(row.seen_by_teacher())
        pairs = list(zip(reversed(whole.spans), reversed(rendered.spans), strict=False))[::-1]
        if row.has_privileged_prompt:
            pairs = pairs[-1:]
        self._compare(row, rendered, whole, len(pairs))
        parts: list[NDArray[np.int32]] = []
        scored: list[NDArray[np.bool_]] = []
        done = prompt = 0
        for (start, stop), (begin, end) in pairs:
            response = self.response(rendered.ids[begin:end])
            prompt = sum(map(len, parts)) + start - done
            parts += [whole.ids[done:start], response]
            scored += [np.zeros(start - done, np.bool_), np.ones(len(response), np.bool_)]
            done = stop
        if not pairs:
            return self._checked(row, Seen(whole.ids, np.zeros(len(whole), np.bool_), len(whole)))
        return self._checked(row, Seen(np.concatenate(parts), np.concatenate(scored), prompt))

    def _compare(self, row: Row, own: Rendered, whole: Rendered, count: int) -> None:
        for ours, theirs in zip(own.responses[-count:], whole.responses[-count:], strict=True):
            if ours.strip() != theirs.strip():
                raise DataError(
                    f"{row.place}: the student's template begins the response with"
                    f" {ours[:30]!r}, the teacher's with {theirs[:30]!r}",
                    "token by token they would be compared on different text",
                    "Set the templates' variables (enable_thinking) so that both write the same.",
                )

    def _checked(self, row: Row, seen: Seen) -> Seen:
        largest = int(seen.ids.max(initial=-1))
        if largest >= self._known:
            token = self._own.tokenizer.convert_ids_to_tokens(largest)
            raise DataError(
                f"{row.place} holds the token {token!r}",
                "the teacher does not know it",
                "Leave it out of the data, or use a template without it.",
            )
        most = self._theirs.max_length
        excess = len(seen.ids) - most
        if excess <= 0:
            return seen
        if self._theirs.truncate == "left" and excess < seen.prompt:
            kept = seen.scored[excess:]
            if kept.sum() == seen.scored.sum():
                return Seen(seen.ids[excess:], kept, seen.prompt - excess)
        raise DataError(
            f"{row.place} has {len(seen.ids)} tokens as the teacher sees it",
            f"its context holds {most}",
            "Raise the teacher's max_length, cut its prompts (truncate: left), or drop the row.",
        )
