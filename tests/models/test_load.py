import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from preceptor.errors import ModelError, StorageError
from preceptor.models.load import load_model, save_model
from preceptor.models.tapped import TappedModel

VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 4,
    "hidden_sizes": [4, 8],
    "depths": [1, 1],
    "layer_type": "basic",
    "num_channels": 1,
}
NET = "tests.models.hand_made:small_net"


def same_logits(one: TappedModel, other: TappedModel) -> bool:
    pixels = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        return torch.equal(one.eval()(pixels).logits, other.eval()(pixels).logits)


SPECS: dict[str, Mapping[str, Any]] = {
    "zoo": {"zoo": "cnn-small", "classes": 5, "channels": 1, "size": 8},
    "zoo with arguments": {
        "zoo": "vit",
        "classes": 5,
        "channels": 1,
        "size": 8,
        "arguments": {"width": 16, "heads": 2, "depth": 1},
    },
    "transformers vit": {"transformers": VIT, "classes": 5},
    "transformers deit": {"transformers": {**VIT, "model_type": "deit"}, "classes": 5},
    "transformers resnet": {"transformers": RESNET, "classes": 5},
    "factory": {"factory": NET, "arguments": {"classes": 5}},
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_saved_model_comes_back_bit_for_bit(spec: Mapping[str, Any], tmp_path: Path) -> None:
    model = load_model({**spec, "mean": [0.4], "std": [0.3]})
    save_model(model, tmp_path / "student")
    again = load_model({"folder": str(tmp_path / "student")})
    assert same_logits(model, again)
    assert (again.mean, again.std, again.head_name) == ((0.4,), (0.3,), model.head_name)
    assert model.has_head()
    assert again.spec["classes"] == 5
    names = {file.name for file in (tmp_path / "student").iterdir()}
    assert {"model.safetensors", "preceptor.json"} <= names
    # Saved again from what was loaded, it is still the same.
    save_model(again, tmp_path / "again")
    assert same_logits(again, load_model({"folder": tmp_path / "again"}))


@pytest.mark.parametrize("config", [VIT, RESNET])
def test_a_transformers_folder_is_read_by_transformers(
    config: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoModelForImageClassification

    model = load_model({"transformers": config, "classes": 5}).eval()
    save_model(model, tmp_path)
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path)
    pixels = torch.rand(2, 1, 8, 8)
    assert torch.equal(theirs(pixels).logits, model(pixels).logits)
    # And a folder that transformers wrote is read by us, without a card.
    (tmp_path / "preceptor.json").unlink()
    ours = load_model({"folder": str(tmp_path)})
    assert same_logits(model, ours)
    assert not ours.training


def test_a_folder_with_a_configuration_alone_has_fresh_weights(tmp_path: Path) -> None:
    config = {**VIT, "architectures": ["ViTForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(3)
    one = load_model({"transformers": str(tmp_path), "classes": 5})
    torch.manual_seed(3)
    assert same_logits(one, load_model({"transformers": VIT, "classes": 5}))
    with pytest.raises(ModelError, match="transformers model"):
        load_model({"transformers": str(tmp_path), "pretrained": True})


def test_the_normalisation_in_a_checkpoint_is_the_models_own(tmp_path: Path) -> None:
    save_model(load_model({"transformers": VIT, "classes": 5}), tmp_path)
    settings = {"do_normalize": True, "image_mean": [0.1], "image_std": [0.7]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    model = load_model({"transformers": str(tmp_path)})
    assert (model.mean, model.std) == ((0.1,), (0.7,))
    said = load_model({"transformers": str(tmp_path), "mean": [0.2], "std": [0.3]})
    assert (said.mean, said.std) == ((0.2,), (0.3,))


def test_weights_for_other_classes_need_a_word(tmp_path: Path) -> None:
    save_model(load_model({"transformers": VIT, "classes": 5}), tmp_path)
    with pytest.raises(ModelError, match=r"5 classes apart.*`classes: 7`"):
        load_model({"transformers": str(tmp_path), "classes": 7})
    model = load_model({"transformers": str(tmp_path), "classes": 7, "fresh_head": True})
    assert model.head().weight.shape == (7, 16)


def test_a_configuration_takes_the_images_unless_it_says_others() -> None:
    bare = {key: value for key, value in VIT.items() if key not in ("image_size", "num_channels")}
    said = {"classes": 5, "channels": 3, "size": 12}
    assert load_model({"transformers": bare, **said}).spec["shape"] == [3, 12, 12]
    assert load_model({"transformers": VIT, **said}).spec["shape"] == [1, 8, 8]


def test_fresh_weights_come_from_the_callers_seed() -> None:
    for spec in SPECS.values():
        torch.manual_seed(5)
        one = load_model(spec)
        torch.manual_seed(5)
        other = load_model(spec)
        torch.manual_seed(6)
        third = load_model(spec)
        assert one.training
        assert same_logits(one, other)
        assert not same_logits(one, third)


def test_a_users_own_file_beside_the_recipe_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_models.py").write_text(
        "from torch import nn\n"
        "def net(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    model = load_model(
        {"factory": "my_own_models:net", "arguments": {"width": 4}, "size": 8, "channels": 1}
    )
    assert model.head_name == "2"
    assert model.spec["classes"] == 3
    assert str(tmp_path) not in sys.path


def test_a_head_is_found_only_where_it_gives_the_logits() -> None:
    assert load_model({"factory": "tests.models.hand_made:Wrapped"}).head_name == ""
    assert load_model({"factory": NET}).head_name == "4"
    convolution = {"factory": "torch.nn:Conv2d", "shape": [4, 1, 1]}
    arguments = {"in_channels": 4, "out_channels": 3, "kernel_size": 1}
    assert load_model({**convolution, "arguments": arguments}).head_name == ""


def test_a_graft_is_saved_and_made_again(tmp_path: Path) -> None:
    for name, spec in {"factory": SPECS["factory"], "vit": SPECS["transformers vit"]}.items():
        model = load_model(spec)
        tap, width = f"{model.head_name}:input", model.head().weight.shape[1]
        arguments = {"in_features": width, "out_features": 9}
        graft = {"class": "torch.nn:Linear", "arguments": arguments}
        grafted = model.grafted(nn.Linear(width, 9), tap, graft)
        save_model(grafted, tmp_path / name)
        again = load_model({"folder": str(tmp_path / name), "classes": 5})
        assert same_logits(grafted, again)
        save_model(again, tmp_path / "again")
        assert same_logits(grafted, load_model({"folder": str(tmp_path / "again")}))


def test_nothing_half_written_is_left_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    model = load_model(SPECS["zoo"])
    save_model(model, tmp_path)
    save_model(model, tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["model.safetensors", "notes.txt", "preceptor.json"]


def test_a_folder_that_was_cut_off_while_it_was_written_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, put = load_model(SPECS["transformers vit"]), os.replace
    for count in range(3):
        left = iter(range(count))

        def cut(source: Path, target: Path, left: Any = left) -> None:
            if next(left, None) is None:
                raise OSError("no space left")
            put(source, target)

        monkeypatch.setattr(os, "replace", cut)
        folder = tmp_path / str(count)
        with pytest.raises(StorageError, match="no space left"):
            save_model(model, folder)
        assert len(list(folder.iterdir())) == count
        if count < 2:
            with pytest.raises(ModelError, match=r"no preceptor.json and no config.json"):
                load_model({"folder": str(folder)})
        else:
            # Without its card, but whole in the form of transformers.
            assert same_logits(model, load_model({"folder": str(folder)}))


def test_a_disk_that_refuses_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="could not be written"):
        save_model(load_model(SPECS["zoo"]), tmp_path / "taken")


def test_a_folder_that_holds_something_else_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no preceptor.json and no config.json"):
        load_model({"folder": str(tmp_path)})
    save_model(load_model(SPECS["zoo"]), tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(StorageError, match="truncated"):
        load_model({"folder": str(tmp_path)})
    weights.unlink()
    with pytest.raises(StorageError, match="missing"):
        load_model({"folder": str(tmp_path)})
    save_model(load_model({**SPECS["zoo"], "zoo": "cnn-large"}), tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="another model"):
        load_model({"folder": str(tmp_path)})
    (tmp_path / "preceptor.json").write_text("{")
    with pytest.raises(StorageError, match="not what `save_model` writes"):
        load_model({"folder": str(tmp_path)})
    (tmp_path / "preceptor.json").write_text('{"format": 99, "spec": {}}')
    with pytest.raises(ModelError, match="format 99"):
        load_model({"folder": str(tmp_path)})


def test_a_model_of_unknown_origin_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not say how to make it again"):
        save_model(TappedModel(nn.Linear(2, 2)), tmp_path)


WRONG: dict[str, tuple[Mapping[str, Any], str]] = {
    "no kind": ({"zo": "resnet20"}, "Nearest: zoo"),
    "two kinds": ({"zoo": "resnet20", "timm": "x"}, "exactly one of"),
    "nothing": ({}, "exactly one of"),
    "unknown key": ({"zoo": "resnet20", "clases": 10}, "Nearest: classes"),
    "no classes": ({"zoo": "resnet20"}, "Add `classes`"),
    "other classes": ({"factory": NET, "classes": 10}, "3 classes apart.*`classes: 10`"),
    "wrong zoo name": ({"zoo": "wrn-16-3", "classes": 10}, "Nearest: wrn-16"),
    "wrong head": ({"factory": NET, "head": "5"}, "one linear layer"),
    "no module": ({"factory": "no_such_module:net"}, "no module 'no_such_module'"),
    "no function": ({"factory": "tests.models.hand_made:smal_net"}, "Nearest: small_net"),
    "no colon": ({"factory": "tests.models.hand_made"}, "package.module:name"),
    "wrong argument": ({"factory": NET, "arguments": {"with": 3}}, "unexpected keyword"),
    "no nn.Module": ({"factory": "tests.models.hand_made:not_a_module"}, "returned a int"),
    "wrong shape": ({"factory": NET, "shape": [3, 8, 8]}, "images of shape"),
    "wrong model type": ({"transformers": {"model_type": "vitt"}}, "Nearest: vit"),
    "no such folder": ({"transformers": "./no/such/folder"}, "Give a folder"),
}


@pytest.mark.parametrize(("spec", "words"), WRONG.values(), ids=WRONG.keys())
def test_one_thing_wrong_is_a_sentence(spec: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(spec)


def test_a_file_with_a_mistake_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_models.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"broken_models\.py"):
        load_model({"factory": "broken_models:net"})


HAS_TIMM = importlib.util.find_spec("timm") is not None


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed here")
def test_timm_where_it_is_absent_is_explained() -> None:
    with pytest.raises(ModelError, match=r"preceptor\[timm\].*torchvision"):
        load_model({"timm": "resnet18", "classes": 5})


@pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed here (optional extra)")
def test_a_timm_model_is_loaded_by_name_and_saved(tmp_path: Path) -> None:
    model = load_model({"timm": "resnet10t", "classes": 5, "channels": 1, "size": 32})
    assert model.head_name == "fc"
    save_model(model, tmp_path)
    assert same_logits(model, load_model({"folder": str(tmp_path)}))
    with pytest.raises(ModelError, match="Nearest: resnet18"):
        load_model({"timm": "resnet18x", "classes": 5})
