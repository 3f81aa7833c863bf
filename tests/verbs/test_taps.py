from pathlib import Path

import pytest

from preceptor.errors import ModelError
from preceptor.models.load import load_model, save_model
from preceptor.verbs.taps import render, taps
from tests.verbs.text import llama


def test_a_zoo_model_is_listed_by_name_for_the_images_that_were_said() -> None:
    rows = taps("cnn-small", (1, 8, 8)).rows
    assert rows[0].parameters == 3_778
    shapes = {row.name: row.shape for row in rows}
    assert shapes["stage1"] == (2, 8, 8, 8)
    assert shapes["stage3"] == (2, 16, 2, 2)
    assert shapes["head"] == (2, 10)


def test_a_mapping_a_folder_and_an_import_path_are_listed_too(tmp_path: Path) -> None:
    spec = {"zoo": "mlp", "classes": 3, "channels": 1, "size": 8}
    save_model(load_model(spec), tmp_path)
    assert taps(str(tmp_path)) == taps(spec)
    rows = taps("tests.models.hand_made:small_net").rows
    assert rows[-1].name == "4"


def test_the_table_has_a_row_a_module() -> None:
    lines = str(taps("mlp")).splitlines()
    assert lines[0].split() == ["name", "type", "output", "parameters"]
    assert lines[1].split() == ['""', "Sequential", "2x10", "855,050"]
    assert lines[-1].split() == ["head", "Linear", "2x10", "2,570"]
    assert len(lines) == 1 + len(taps("mlp").rows)
    assert render(()) == "name  type  output  parameters"


def test_a_wrong_name_is_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"Nearest: .*resnet20"):
        taps("resnet21")


def test_a_language_model_is_listed_by_a_pass_of_tokens() -> None:
    names = [row.name for row in taps({**llama(8), "classes": 20}).rows]
    assert {"model.layers.0", "model.layers.0.self_attn.q_proj", "lm_head"} <= set(names)
