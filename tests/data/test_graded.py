"""Files of graded pairs of sentences."""

from pathlib import Path

import pytest

from preceptor.data.graded import read_graded
from preceptor.errors import DataError

ROWS = [("A dog runs.", "A dog is running.", 4.8), ("It rains.", "He sings.", 0.2), ("a", "b", 3)]


def test_tables_and_lines_of_json_say_the_same(tmp_path: Path) -> None:
    table, lines = tmp_path / "pairs.csv", tmp_path / "pairs.jsonl"
    told = [f'"{a}","{b}",{score}' for a, b, score in ROWS]
    table.write_text("sentence1,sentence2,score\n" + "\n".join(told) + "\n")
    json = [f'{{"sentence1": "{a}", "sentence2": "{b}", "score": {s}}}' for a, b, s in ROWS]
    lines.write_text("\n".join(json) + "\n")
    each = [[(p.first, p.second, p.score) for p in read_graded(str(f))] for f in (table, lines)]
    assert each[0] == each[1] == ROWS


def test_what_is_missing_is_named_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("sentence1,sentence2,score\na,b,high\n")
    with pytest.raises(DataError, match=r"pairs.csv, row 1 has .*'high', which is no number"):
        read_graded(str(file))
    file.write_text("sentence1,score\na,1\n")
    with pytest.raises(DataError, match="has no sentence2"):
        read_graded(str(file))
    file.write_text("sentence1,sentence2,score\na,b,1\nc,d,1\ne,f,1\n")
    with pytest.raises(DataError, match="which must vary"):
        read_graded(str(file))
