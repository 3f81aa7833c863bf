"""No question is in two parts."""

import pytest

from preceptor.data.rows import Rows
from preceptor.data.splitting import split_rows
from preceptor.errors import DataError
from tests.data.tokens import ask, document


def test_parts_share_no_prompt_and_together_are_everything() -> None:
    rows = Rows(tuple(ask(f"q{i % 20}", f"a{i}", number=i) for i in range(60)))
    parts = split_rows(rows, validation=0.2, test=0.2)
    prompts = [{row.prompt for row in part} for part in parts]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]
    assert sorted(row.number for part in parts for row in part) == list(range(60))
    assert [len(part) for part in parts] == [36, 12, 12]
    assert all(list(part) == sorted(part, key=lambda r: r.number) for part in parts)


def test_a_split_is_a_function_of_its_seed() -> None:
    rows = Rows(tuple(document(str(i), i) for i in range(30)))
    first, again, other = (split_rows(rows, seed=seed)[1].fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_one_document_is_not_cut_in_three() -> None:
    with pytest.raises(DataError, match=r"1 different prompts.*documents: line or paragraph"):
        split_rows(Rows((document("all of it"),)))
