"""What a teacher of another tokenisation says of the chunks that it shares with the student.

Dimension key: b rows, t tokens of the student, s tokens of the teacher, d width.
"""

from jaxtyping import Float
from torch import Tensor

from preceptor.ops.chosen import chosen_log_probs
from preceptor.ops.chunks import sum_by_chunk
from preceptor.types import Batch, Projected


def chunk_log_probs(shown: Projected, batch: Batch) -> Float[Tensor, "b t"] | None:
    """log p of each chunk, at the student's position where it begins; None where none is asked.

    Args:
        shown: the teacher's hidden states in its own tokenisation [b, s, d], and its head.
        batch: says which of the teacher's positions belong to which chunk
            (`data.two_tokenisers`), each the position that predicts its label.
    """
    chunk = batch.extra.get("teacher_chunk")
    if chunk is None:
        return None
    each = chosen_log_probs(shown, batch.extra["teacher_labels"], chunk >= 0)
    return sum_by_chunk(each, chunk, batch.mask("all").shape[1])
