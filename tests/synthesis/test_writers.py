"""A server in the student's place, and why text is not enough."""

from collections.abc import Sequence

import pytest

from preceptor.errors import DataError
from preceptor.models.generate import Prompt
from preceptor.synthesis.writers import Completion, Served
from tests.data.tokens import pieces


def serving(*answers: Completion) -> Served:
    def ask(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Sequence[Completion]:
        assert len(prompts) == len(seeds)
        return answers

    return Served(ask, ends=[2], vocabulary=50)


def test_a_servers_ids_are_taken_as_they_were_sampled() -> None:
    found = serving(Completion([7, 8, 2], True), Completion([7, 8], True), Completion([9], False))(
        [[1], [1], [1]], [1, 2, 3]
    )
    assert [ids.tolist() for ids in found.ids] == [[7, 8, 2], [7, 8, 2], [9]]
    assert found.ended.tolist() == [True, True, False]


def test_text_that_is_tokenised_again_is_not_what_was_sampled() -> None:
    tokenizer = pieces(None)
    sampled = tokenizer.convert_tokens_to_ids(list("the"))
    again = tokenizer(tokenizer.decode(sampled), add_special_tokens=False).input_ids
    assert again != sampled
    with pytest.raises(DataError, match="text of a response without its token ids"):
        serving(Completion(None, True))([[1]], [1])


def test_another_models_server_is_refused() -> None:
    with pytest.raises(DataError, match="sampled token 50: the student knows 0 to 49"):
        serving(Completion([50], False))([[1]], [1])
    with pytest.raises(DataError, match="2 prompts were asked and 1 answers came"):
        serving(Completion([5], False))([[1], [1]], [1, 2])
