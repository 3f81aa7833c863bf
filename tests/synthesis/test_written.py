"""A teacher's answers in a file: asked once, whatever is killed; filtered afterwards."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from preceptor.data.chat import Rendering
from preceptor.data.reading import read_rows
from preceptor.data.rows import Row
from preceptor.errors import DataError, PreceptorError, StorageError, TeacherFailure
from preceptor.synthesis.written import (
    Answer,
    Answers,
    answered_by,
    ended,
    spoken_by,
    unique,
    verified,
)
from tests.data.tokens import ask, characters, chat, document
from tests.synthesis.small import ROWS, Scripted, local

TEACHER = "a calculator, greedy"


class Killed(BaseException):
    pass


class Calculator:
    """Answers "3+1=" with "4", and remembers who asked."""

    def __init__(self, dies_after: int = 1000) -> None:
        self.asked: list[str] = []
        self.dies_after = dies_after

    def __call__(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Answer | PreceptorError]]:
        for row in rows:
            if len(self.asked) == self.dies_after:
                raise Killed
            self.asked.append(row.place)
            yield row, Answer(str(int((row.prompt or "0+").split("+")[0]) + 1), True)


def test_answers_become_rows_that_can_be_read(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl", TEACHER)
    done = answers.complete(ROWS, Calculator())
    assert (done.known, done.new, done.failed) == (0, 11, {})
    assert answers.data(ROWS, tmp_path / "data.jsonl") == {
        "kept": 11,
        "unanswered": 0,
        "empty": 0,
    }
    rows = read_rows(tmp_path / "data.jsonl")
    assert [row.completion for row in rows] == [row.answer for row in ROWS]
    assert [row.prompt for row in rows] == [row.prompt for row in ROWS]
    assert rows[3].answer == "4"


def test_after_a_kill_nothing_is_asked_twice(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    dying = Calculator(dies_after=4)
    with pytest.raises(Killed):
        Answers(path, TEACHER).complete(ROWS, dying)
    again = Calculator()
    done = Answers(path, TEACHER).complete(ROWS, again)
    assert (done.known, done.new) == (4, 7)
    assert sorted(dying.asked + again.asked) == sorted(row.place for row in ROWS)
    assert Answers(path, TEACHER).complete(ROWS, Calculator(0)).known == 11


def test_a_half_written_line_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Answers(path, TEACHER).complete(ROWS, Calculator())
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    again = Calculator()
    Answers(path, TEACHER).complete(ROWS, again)
    assert again.asked == [ROWS[-1].place]
    assert path.read_bytes() == whole


def test_a_kill_before_anything_was_written_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    for begun in (b"", b'{"teac'):
        path.write_bytes(begun)
        assert Answers(path, TEACHER).complete(ROWS, Calculator()).new == 11
        assert len(Answers(path, TEACHER)) == 11
        path.unlink()


def test_rows_that_say_the_same_are_asked_once_whatever_stands_after_the_prompt(
    tmp_path: Path,
) -> None:
    rows = [ask("1+1=", "2"), ask("1+1=", None, 1), ask("1+1=", "3", 2, answer="2")]
    teacher = Calculator()
    answers = Answers(tmp_path / "answers.jsonl", TEACHER)
    answers.complete(rows, teacher)
    assert len(teacher.asked) == 1
    counts = answers.data(rows, tmp_path / "data.jsonl", {"duplicate": unique()})
    assert counts == {"kept": 1, "unanswered": 0, "empty": 0, "duplicate": 2}


def test_filters_are_counted_by_the_first_that_refuses(tmp_path: Path) -> None:
    said = [Answer("4", True), Answer("4", False), Answer("  ", True), Answer("5", True)]
    rows = [ask(f"{i}+{4 - i}=", None, i, answer="4") for i in range(4)]
    answers = Answers(tmp_path / "answers.jsonl", TEACHER)
    answers.complete([*rows, *ROWS[:0]], lambda asked: zip(asked, said, strict=True))
    counts = answers.data(
        [*rows, ask("9+9=", None, 4)],
        tmp_path / "data.jsonl",
        {"cut": ended, "wrong": verified(lambda text, answer: text == answer)},
    )
    assert counts == {"kept": 1, "unanswered": 1, "empty": 1, "cut": 1, "wrong": 1}
    assert len((tmp_path / "data.jsonl").read_text().splitlines()) == 1


def test_rows_that_failed_are_named_and_asked_again(tmp_path: Path) -> None:
    failure = TeacherFailure("no answer", "the server is away", "Wait.")
    answers = Answers(tmp_path / "answers.jsonl", TEACHER)
    done = answers.complete(ROWS[:2], lambda rows: ((row, failure) for row in rows))
    assert list(done.failed) == [row.place for row in ROWS[:2]]
    assert answers.complete(ROWS[:2], Calculator()).new == 2


def test_a_conversations_last_turn_is_answered_anew(tmp_path: Path) -> None:
    row = chat("hi", "yo", "and?", "bye")
    answers = Answers(tmp_path / "answers.jsonl", TEACHER)
    answers.complete([row], lambda rows: ((r, Answer("so long", True)) for r in rows))
    answers.data([row], tmp_path / "data.jsonl")
    (kept,) = read_rows(tmp_path / "data.jsonl")
    assert [turn["content"] for turn in kept.messages] == ["hi", "yo", "and?", "so long"]


def test_another_teachers_file_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Answers(path, TEACHER).complete(ROWS, Calculator())
    with pytest.raises(StorageError, match="holds answers of a calculator"):
        Answers(path, "another")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "{", *lines[4:]]) + "\n")
    with pytest.raises(StorageError, match=r"answers\.jsonl:4 does not hold an answer"):
        Answers(path, TEACHER)


def test_documents_and_missing_references_are_refused(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl", TEACHER)
    with pytest.raises(DataError, match="is a document"):
        answers.complete([document("abc")], Calculator())
    row = ask("1+1=")
    answers.complete([row], Calculator())
    with pytest.raises(DataError, match="no reference answer"):
        answers.data([row], tmp_path / "d.jsonl", {"wrong": verified(lambda *_: True)})


def test_strange_text_survives(tmp_path: Path) -> None:
    strange = "a\u2028b\r\n\ud800 \U0001f642"
    path = tmp_path / "answers.jsonl"
    answers = Answers(path, TEACHER)
    answers.complete(ROWS[:1], lambda rows: ((row, Answer(strange, True)) for row in rows))
    found = Answers(path, TEACHER).of(ROWS[0])
    assert found == Answer(strange, True)


def test_a_model_in_this_process_answers_the_same_after_a_kill(tmp_path: Path) -> None:
    rendering = Rendering(characters(None), 48)
    write = spoken_by(local(), rendering, seed=4)

    def dying(rows: Sequence[Row]) -> Sequence[Answer]:
        if any(row.number > 4 for row in rows):
            raise Killed
        return write(rows)

    whole = Answers(tmp_path / "whole.jsonl", TEACHER)
    whole.complete(ROWS, answered_by(write, batch=4))
    path = tmp_path / "killed.jsonl"
    with pytest.raises(Killed):
        Answers(path, TEACHER).complete(ROWS, answered_by(dying, batch=1))
    Answers(path, TEACHER).complete(ROWS, answered_by(write, batch=3))
    assert path.read_text() == (tmp_path / "whole.jsonl").read_text()
    assert json.loads(path.read_text().splitlines()[0]) == {"teacher": TEACHER}


def test_the_end_token_is_no_text() -> None:
    rendering = Rendering(characters(None), 48)
    four = rendering.tokenizer.convert_tokens_to_ids("4")
    end = rendering.end or 0
    said = spoken_by(Scripted([four, end]), rendering)(ROWS[:2])
    assert said == [Answer("4", True)] * 2
    cut = spoken_by(Scripted([four, four], ended=False), rendering)(ROWS[:1])
    assert cut == [Answer("44", False)]
