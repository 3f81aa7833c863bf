"""From a method's name to its class, without a list."""

from pathlib import Path

import pytest

import preceptor.objectives
from preceptor.errors import RecipeError
from preceptor.objectives.base import Objective
from preceptor.recipe.methods import key_of, method, method_names
from preceptor.recipe.mix import read, written

OWN = '''
from dataclasses import dataclass
from typing import final
from torch import nn
from preceptor.objectives.base import Objective
from preceptor.types import Needs, Term

class NotAMethod:
    pass

@final
@dataclass(frozen=True)
class Confident(Objective[nn.Module]):
    """A method of somebody's own."""
    strength: float = 1.0
    def needs(self):
        return Needs()
    def terms(self, student, teacher, batch, aux):
        return {"confident": Term(self.strength * student.logits.logsumexp(-1))}
'''


def test_methods_are_the_files_of_the_folder() -> None:
    folder = Path(preceptor.objectives.__path__[0])
    files = {path.stem for path in folder.glob("[a-z]*.py")} - {"base", "reduction", "schedules"}
    assert set(method_names()) == files


@pytest.mark.parametrize("name", method_names())
def test_a_class_is_named_after_its_file(name: str) -> None:
    found = method(name)
    assert issubclass(found, Objective)
    assert found.__name__.lower() == name.replace("_", "")


def test_a_method_from_outside_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_methods_here.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = method("my_methods_here:Confident")
    assert found.__name__ == "Confident"
    assert key_of(found()) == "my_methods_here:Confident"
    objective = read([{"my_methods_here:Confident": {"strength": 2}, "weight": 0.5}])
    assert read(written(objective)) == objective
    with pytest.raises(RecipeError, match="nearest: Confident"):
        method("my_methods_here:Confidant")
    with pytest.raises(RecipeError, match="NotAMethod is not a frozen dataclass"):
        method("my_methods_here:NotAMethod")


def test_an_unknown_method_comes_with_its_nearest() -> None:
    with pytest.raises(RecipeError, match=r"'attention_transfr'.*nearest: attention_transfer"):
        method("attention_transfr")


def test_an_import_path_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="not an import path"):
        method("os.system:rm -rf")
