"""The command: what it answers, with which exit code, and what it imports."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from preceptor.cli import _recipe, _sentences, app
from preceptor.errors import NonFiniteError

VERBS = ("distill", "check", "cache", "evaluate", "report", "taps")

run = CliRunner().invoke


def in_a_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    said = in_a_new_process(
        "import sys\n"
        "sys.argv = ['preceptor', '--help']\n"
        "from preceptor.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: print('code', stop.code)\n"
        "print({'torch', 'transformers', 'pydantic', 'numpy', 'yaml'} & set(sys.modules))\n"
    )
    for verb in VERBS:
        assert verb in said
    assert "code 0" in said
    assert "set()" in said


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "preceptor", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("preceptor 0.")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    answer = run(app, [verb, "--help"])
    assert answer.exit_code == 0
    assert "--debug" in answer.output


@pytest.mark.parametrize("verb", ["distill", "check", "cache"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digitz"], "nearest presets: digits"),
        (["digits", "--set", "seed.cont=2"], "seed.cont: unknown key; nearest: count"),
        (["digits", "--set", "seed"], "it has no key and value"),
        (
            ["digits", "--set", "stages.0.objective.1.kd.temperatur=3"],
            "stages.0.objective.1.kd.temperatur: unknown key; nearest: temperature",
        ),
    ],
)
def test_a_user_s_mistake_is_one_sentence_and_exit_code_2(
    verb: str, arguments: list[str], words: str
) -> None:
    answer = run(app, [verb, *arguments])
    assert answer.exit_code == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["distil", "digits"], ["distill"], ["check", "a", "--dep"]])
def test_a_mistyped_command_is_a_user_s_mistake(arguments: list[str]) -> None:
    answer = run(app, arguments)
    assert answer.exit_code == 2
    assert "Traceback" not in answer.stderr


def test_debug_shows_the_traceback_and_keeps_the_exit_code() -> None:
    answer = run(app, ["distill", "digitz", "--debug"])
    assert answer.exit_code == 2
    assert "Traceback" in answer.stderr
    assert "RecipeError" in answer.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            NonFiniteError("loss is nan", "a step broke", "Lower the rate."),
            1,
            "loss is nan: a step",
        ),
        (ZeroDivisionError("division by zero"), 1, "unforeseen happened (ZeroDivisionError: div"),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
)
def test_every_failure_is_a_sentence_with_its_code(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped, _sentences(debug=False):
        raise error
    assert stopped.value.exit_code == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_the_seed_is_the_recipe_s_first() -> None:
    assert _recipe("digits", ["seed.count=2"], 5).seed.values() == (5, 6)
    assert _recipe("digits", None, None).seed.first == 0


def test_a_method_of_one_s_own_that_breaks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_method.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    answer = run(app, ["check", "digits", "--set", "stages.0.objective.0={broken_method:X: {}}"])
    assert answer.exit_code == 2
    assert "cannot be imported (ZeroDivisionError: division by zero)" in answer.stderr
