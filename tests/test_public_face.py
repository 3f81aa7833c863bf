"""The names that `preceptor` itself has."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import preceptor

FACE = ast.parse(Path(preceptor.__file__).read_text())


def homes() -> dict[str, str]:
    """The interpreter's table, read from the file."""
    (table,) = (
        node.value
        for node in FACE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES"
    )
    return ast.literal_eval(table)


def typed() -> dict[str, str]:
    """The type checker's table, read from the file."""
    (block,) = (
        node
        for node in FACE.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    found: dict[str, str] = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: str(node.module) for alias in node.names}
        elif isinstance(node, ast.Assign):
            name, value = ast.unparse(node.targets[0]), ast.unparse(node.value)
            found[name] = f"{found[value]}:{value}"
    return found


def test_both_tables_say_the_same() -> None:
    assert homes() == typed()


@pytest.mark.parametrize("name", list(homes()))
def test_every_name_is_the_thing_in_its_module(name: str) -> None:
    module, _, original = homes()[name].partition(":")
    assert getattr(preceptor, name) is getattr(import_module(module), original or name)


def test_every_method_is_there_under_its_class_name() -> None:
    from preceptor.recipe.methods import method, method_names

    missing = {method(name).__name__ for name in method_names()} - set(homes())
    assert not missing


def test_the_face_lists_its_names_and_refuses_others() -> None:
    assert set(preceptor.__all__) == set(homes())
    assert set(homes()) <= set(dir(preceptor))
    with pytest.raises(AttributeError, match="no attribute 'Distillery'"):
        preceptor.Distillery  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, preceptor; dir(preceptor); "
        "print({'torch', 'transformers', 'numpy', 'pydantic', 'typer'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
