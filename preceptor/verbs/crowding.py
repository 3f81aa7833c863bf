"""Whether a ranking's sketches have room, told before anything is computed.

Said in the ranking's own sentence, from how many prompts and responses there are. How alike
responses to a prompt will be is not known yet: they count as unlike, but at temperature 0 as one.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from preceptor.data.reading import files_of
from preceptor.recipe.candidate_texts import Texts
from preceptor.recipe.data import Splits, TextData
from preceptor.recipe.ranked import named
from preceptor.recipe.ranking import RankingRecipe
from preceptor.recipe.texts import GENERATED, parts_of
from preceptor.selection.cautions import crowded
from preceptor.selection.splits import shuffled
from preceptor.synthesis.written import key


def prompts_of(said: RankingRecipe, texts: Texts) -> int | None:
    """How many prompts candidates may be compared on: the texts', or the training rows'.

    None of images and of rows on the hub, which are not loaded for that.

    Raises:
        DataError: training rows are broken, or there are none.
    """
    if texts.rows:
        return min(len(rows) for rows in texts.rows.values())
    if not isinstance(said.data, TextData) or not _here(said.data):
        return None
    rows = parts_of(said.data).train
    return len({key(row) if row.form != "text" else row.place for row in rows})


def _here(data: TextData) -> bool:
    both = data.source
    sources = (both.train, both.test) if isinstance(both, Splits) else (both,)
    return all(source in GENERATED or files_of(source) is not None for source in sources)


def crowding(said: RankingRecipe, texts: Texts, prompts: int | None) -> list[str]:
    """Sentences about candidates whose responses are too few for the sketches' numbers.

    Args:
        said: the recipe.
        texts: what files hold.
        prompts: what `prompts_of` gave; as many as the recipe asks for where that is None.
    """
    whose: dict[str, list[str]] = {}
    for name, counts, alike in _candidates(said, texts, prompts):
        sentence = crowded(said.narrow or said.features.dimension, counts, alike)
        if sentence is not None:
            more = int(counts.max()) > 1 and alike == 0
            note = " Responses that are alike count for less." if more else ""
            whose.setdefault(sentence + note, []).append(name)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in whose.items()]


def _candidates(
    said: RankingRecipe, texts: Texts, prompts: int | None
) -> Iterator[tuple[str, Int64[np.ndarray, " p"], float]]:
    """Each candidate's name, its responses to each prompt asked, and how alike they are."""
    for name, rows in texts.rows.items():
        counts = np.array([min(len(each), said.responses) for each in rows.values()], np.int64)
        asked = shuffled(np.arange(len(counts)), said.seed)[: said.prompts]
        yield name, counts[asked], 0.0
    count = said.prompts if prompts is None else min(prompts, said.prompts)
    each = said.responses if isinstance(said.data, TextData) else 1
    for name, teacher in said.candidates.teachers.items():
        for at, temperature in named(name, teacher).items():
            yield at, np.full(count, each, np.int64), float(temperature == 0)
