"""Rows from files and iterables; what is broken is named."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preceptor.data.reading import RowStream, read_rows
from preceptor.data.row_parsing import Columns
from preceptor.data.rows import Row
from preceptor.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


def lines(folder: Path, *records: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
    return path


def test_three_forms_are_read_from_json_lines(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"messages": TURNS, "tag": "chat"},
        {"prompt": "1+1=", "completion": "2", "answer": 2, "teacher_prompt": "one and one"},
        "",
        {"text": "a document"},
    )
    rows = read_rows(path)
    assert [row.form for row in rows] == ["messages", "prompt", "text"]
    assert [row.place for row in rows] == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:4"]
    assert [row.number for row in rows] == [0, 1, 2]
    assert rows[1].answer == "2"
    assert rows[1].seen_by_teacher().prompt == "one and one"
    assert rows[0].tag == "chat"


def test_columns_have_other_names_and_may_be_put_together(tmp_path: Path) -> None:
    record = {"instruction": "Add.", "input": "", "instances": [{"output": "2"}], "answer": "no"}
    path = lines(tmp_path, record)
    columns = Columns(prompt="{instruction}\n\n{input}", completion="{instances[0][output]}")
    (row,) = read_rows(path, columns=columns)
    assert (row.prompt, row.completion) == ("Add.", "2")
    with pytest.raises(DataError, match=r"rows.jsonl:1 has no 'question'; its columns are instr"):
        read_rows(path, columns=Columns(prompt="question", completion="answer"))
    with pytest.raises(DataError, match=r"does not fill the pattern"):
        read_rows(path, columns=Columns(prompt="{nothing}", completion="answer"))
    with pytest.raises(DataError, match="one of the three"):
        Columns(prompt="a", text="b")


BROKEN: list[tuple[Any, str]] = [
    ("{not json", "is not JSON"),
    ([1, 2], "is a list, not an object"),
    ({"question": "a"}, "has no messages, prompt or text; its columns are question"),
    ({"prompt": "a"}, "has a prompt and no completion"),
    ({"prompt": "", "completion": "b"}, "prompt is empty"),
    ({"prompt": "a", "completion": " \n"}, "completion is empty"),
    ({"prompt": "a", "completion": 3}, "completion is a number, not a string"),
    ({"prompt": "a", "completion": "\ud800"}, "half a character"),
    ({"messages": "hi"}, "messages is a string, not a list of turns"),
    ({"messages": TURNS[:1]}, "no assistant turn"),
    ({"messages": [*TURNS, TURNS[0]]}, "ends in a turn of 'user', which nobody answers"),
    (
        {"messages": [TURNS[0], {"role": "assistant", "content": ""}]},
        r"turn 2 \(assistant\) is emp",
    ),
    ({"messages": [TURNS[0], {"role": "assistant"}]}, "has nothing as content"),
    ({"messages": [{"content": "hi"}, TURNS[1]]}, "turn 1 of its messages has no role"),
    ({"text": "a", "teacher_prompt": "b"}, "a document has no prompt"),
    ({"prompt": "a", "completion": "b", "answer": [1]}, "answer is a list"),
]


@pytest.mark.parametrize(("record", "fault"), BROKEN)
def test_a_broken_row_is_refused_by_file_and_line(tmp_path: Path, record: Any, fault: str) -> None:
    path = lines(tmp_path, {"text": "good"}, record)
    with pytest.raises(DataError, match=rf"1 broken row in .*rows.jsonl:2 .*{fault}.*skip"):
        read_rows(path)
    rows = read_rows(path, broken="skip")
    assert len(rows) == 1
    assert rows.skipped[0].place == "rows.jsonl:2"


def test_the_first_few_broken_rows_are_named_and_all_are_counted(tmp_path: Path) -> None:
    path = lines(tmp_path, *[{"x": 1}] * 7)
    with pytest.raises(DataError, match=r"7 broken rows .*:1 .*:5 .*and 2 more"):
        read_rows(path)
    with pytest.raises(DataError, match=r"no usable row.*7 are broken"):
        read_rows(path, broken="skip")


def test_a_call_of_a_tool_needs_no_words(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
    answer = [{"role": "tool", "content": "2"}, TURNS[1]]
    (row,) = read_rows(lines(tmp_path, {"messages": [TURNS[0], call, *answer]}))
    assert row.messages[1] == {"role": "assistant", "tool_calls": [{"name": "add"}]}


def test_prompts_alone_are_rows_where_that_is_said(tmp_path: Path) -> None:
    path = lines(tmp_path, {"prompt": "a"}, {"messages": TURNS[:1]})
    rows = read_rows(path, prompts_alone=True)
    assert [row.has_response for row in rows] == [False, False]


def test_a_prompt_may_be_turns() -> None:
    (row,) = read_rows([{"prompt": TURNS[:1], "completion": TURNS[1:]}])
    assert row.messages == tuple(TURNS)
    (same,) = read_rows([{"prompt": TURNS[:1], "completion": "yo"}])
    assert same.messages == row.messages


def test_parquet_lists_and_iterables_say_the_same(tmp_path: Path) -> None:
    records = [{"messages": TURNS}, {"messages": [*TURNS, *TURNS]}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps(records))
    expected = read_rows(records)
    table, listed = read_rows(tmp_path / "rows.parquet"), read_rows(tmp_path / "rows.json")
    assert table.fingerprint == listed.fingerprint == expected.fingerprint
    assert [row.place for row in table] == ["rows.parquet, row 1", "rows.parquet, row 2"]
    assert listed[1].place == "rows.json, item 2"
    assert expected[1].place == "row 1"
    assert read_rows(records[:1]).fingerprint != expected.fingerprint
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:90])
    with pytest.raises(DataError, match="no whole parquet file"):
        read_rows(tmp_path / "cut.parquet")


def test_plain_text_must_say_what_a_document_is(tmp_path: Path) -> None:
    path = tmp_path / "prose.txt"
    path.write_text("one\nstill one\n\n\ntwo\n", encoding="utf-8")
    with pytest.raises(DataError, match="documents: file, line or paragraph"):
        read_rows(path)
    said = {d: [(r.place, r.text) for r in read_rows(path, documents=d)] for d in _DOCUMENTS}
    assert said == {
        "file": [("prose.txt", "one\nstill one\n\n\ntwo\n")],
        "line": [("prose.txt:1", "one"), ("prose.txt:2", "still one"), ("prose.txt:5", "two")],
        "paragraph": [("prose.txt:1", "one\nstill one"), ("prose.txt:5", "two")],
    }
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="no UTF-8"):
        read_rows(tmp_path / "latin.txt", documents="file")


_DOCUMENTS: Any = ("file", "line", "paragraph")


def test_folders_and_patterns_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        lines(tmp_path, {"text": name}, name=f"{name}.jsonl")
    (tmp_path / "notes.bin").write_bytes(b"")
    assert [row.text for row in read_rows(tmp_path)] == ["a", "b"]
    assert [row.text for row in read_rows(str(tmp_path / "*.jsonl"))] == ["a", "b"]
    with pytest.raises(DataError, match="no such file or folder"):
        read_rows(tmp_path / "nowhere.jsonl")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no file there"):
        read_rows(tmp_path / "none")
    with pytest.raises(DataError, match="rows are read from"):
        read_rows(tmp_path / "notes.bin")


def test_what_the_hub_does_not_give_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"'owner/name', part 'train'.*\(no network\)"):
        read_rows("owner/name")


def test_rows_of_a_data_set_are_read_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    held = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}]).to_iterable_dataset()
    asked: list[Any] = []

    def give(*names: Any, **options: Any) -> Any:
        asked.append((names, options))
        return held

    monkeypatch.setattr(datasets, "load_dataset", give)
    stream = RowStream("owner/name:en", streaming=True, split="test")
    assert [row.text for row in stream] == ["a", "b"]
    assert asked == [(("owner/name", "en"), {"split": "test", "streaming": True})]
    assert next(iter(stream)).place == "owner/name:en, test row 1"


def test_a_stream_begins_anew_and_counts_what_it_skips(tmp_path: Path) -> None:
    path = lines(tmp_path, {"text": "a"}, {"x": 1}, {"text": "b"})
    stream = RowStream(path, broken="skip")
    assert [row.text for row in stream] == [row.text for row in stream] == ["a", "b"]
    assert [fault.place for fault in stream.skipped] == ["rows.jsonl:2"]
    assert [row.number for row in stream] == [0, 1]
    with pytest.raises(DataError, match=r"rows.jsonl:2 has no messages"):
        list(RowStream(path))
    assert len(list(RowStream(path, limit=1))) == 1


def test_rows_that_are_rows_are_taken_as_they_are() -> None:
    rows = read_rows([Row(5, "elsewhere:5", text="a")])
    assert (rows[0].number, rows[0].place) == (0, "elsewhere:5")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not on this machine")
def test_real_files_are_a_matter_of_naming_columns() -> None:
    problems = read_rows(
        SHARED / "gsm8k" / "test.jsonl", columns=Columns(prompt="question", completion="answer")
    )
    assert len(problems) == 1319
    alpaca = read_rows(
        SHARED / "alpaca" / "alpaca_en_demo.json",
        columns=Columns(prompt="{instruction}\n\n{input}", completion="output"),
        broken="skip",
    )
    assert len(alpaca) + len(alpaca.skipped) > 900


def test_tables_of_comma_separated_values_keep_what_stands_in_quotes(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('prompt,completion\n"1,\n1","a ""b"""\n2,c\n')
    rows = read_rows(file)
    assert [(row.prompt, row.completion) for row in rows] == [("1,\n1", 'a "b"'), ("2", "c")]
    assert rows[1].place == "rows.csv, row 2"
    file.write_text("prompt,completion\n1,2,3\n4,5\n6\n")
    with pytest.raises(DataError, match="2 broken rows") as caught:
        read_rows(file)
    assert "rows.csv, row 3 has not as many cells as the 2 columns" in str(caught.value)
    file.write_text('prompt,completion\n1,"2\n')
    with pytest.raises(DataError, match="no table of comma-separated values"):
        read_rows(file)


def test_a_mark_of_byte_order_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"text": "a"}\n{"text": "b"}\n')
    assert [row.text for row in read_rows(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "separator"), [("a.tsv", "\t"), ("a.csv", "\t"), ("a.csv", ";"), ("a.csv", ",")]
)
def test_tables_are_read_by_the_separator_that_their_header_has(
    tmp_path: Path, name: str, separator: str
) -> None:
    other = ";" if separator == "," else ","
    table = [("prompt", "completion"), (f"1{other} 2", f'"two\n{separator}lines"'), ("3", "4")]
    (tmp_path / name).write_text("".join(f"{separator.join(cells)}\n" for cells in table))
    rows = read_rows(tmp_path / name)
    assert [(row.prompt, row.completion) for row in rows] == [
        (f"1{other} 2", f"two\n{separator}lines"),
        ("3", "4"),
    ]


def test_a_header_of_semicolons_and_tabs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt;kind\tcompletion\n1;2\t3\n")
    with pytest.raises(DataError, match="has semicolons and tabs, and no comma"):
        read_rows(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("prompt;completion\n1;2;3\n")
    with pytest.raises(DataError, match=r"as many cells as the 2 columns \(semicolon-separated"):
        read_rows(tmp_path / "b.csv")


def test_a_column_of_another_name_is_named_where_its_cell_cannot_be_used(tmp_path: Path) -> None:
    path = lines(tmp_path, {"q": "a", "large": ""}, {"q": "a", "large": None})
    with pytest.raises(DataError) as caught:
        read_rows(path, columns=Columns(prompt="q", completion="large"))
    assert "rows.jsonl:1 its completion (large) is empty" in str(caught.value)
    assert "rows.jsonl:2 has nothing (null) in its 'large'" in str(caught.value)
