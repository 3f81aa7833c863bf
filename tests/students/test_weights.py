import json
from pathlib import Path
from typing import Any

import pytest
import torch

from preceptor.errors import ModelError, StorageError
from preceptor.models.load import save_model
from preceptor.students import weights as module
from preceptor.students.weights import FolderWeights, ModuleWeights, weights_of
from tests.students.models import model, parameters


def sharded(folder: Path) -> Any:
    teacher = model("llama", 3)
    inside: Any = teacher.module
    inside.save_pretrained(folder, max_shard_size="8KB")
    return teacher


def test_a_folder_in_several_files_is_read_as_the_module_that_wrote_it(tmp_path: Path) -> None:
    teacher = sharded(tmp_path)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    read = FolderWeights(tmp_path)
    for name, tensor in parameters(teacher).items():
        assert read.shapes()[name] == tuple(tensor.shape)
        assert torch.equal(read.read(name), tensor)
        assert torch.equal(read.read(name, slice(2, 5)), tensor[2:5])


def test_large_tensors_come_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = sharded(tmp_path)
    monkeypatch.setattr(module, "_SLICE", 100)
    for source in (FolderWeights(tmp_path), ModuleWeights(teacher)):
        parts = list(source.in_rows("model.embed_tokens.weight"))
        assert len(parts) == 11
        whole = torch.cat([part for _, part in parts])
        assert torch.equal(whole, parameters(teacher)["model.embed_tokens.weight"])


def test_what_is_no_folder_of_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        weights_of(tmp_path)


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    save_model(model("llama"), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(StorageError, match=r"model\.safetensors"):
        weights_of(tmp_path)
    sharded(tmp_path / "other")
    next((tmp_path / "other").glob("*-00001-*")).unlink()
    with pytest.raises(StorageError, match="00001"):
        FolderWeights(tmp_path / "other").shapes()


def test_a_module_in_memory_is_not_copied() -> None:
    teacher = model("gpt2")
    source = weights_of(teacher)
    inside: Any = teacher.module
    assert (
        source.read("transformer.wte.weight").data_ptr() == inside.transformer.wte.weight.data_ptr()
    )
    assert source.read("lm_head.weight").data_ptr() == inside.transformer.wte.weight.data_ptr()
