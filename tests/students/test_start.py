from pathlib import Path
from typing import Any

import pytest
import torch

from preceptor.errors import ModelError, RecipeError
from preceptor.models.load import load_model, save_model
from preceptor.students.bases import embedding_moment, principal
from preceptor.students.start import PLANS, Plan, begin
from preceptor.students.weights import ModuleWeights
from tests.students.models import logits, model, parameters, seen, spec
from tests.students.trained import calibration, divergence, student, teacher

NARROW: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "head_dim": 4}
WIDE: dict[str, Any] = {"tie_word_embeddings": False}


def test_guide_is_the_embeddings_and_the_first_block_in_their_leading_directions() -> None:
    big = model("llama", 1)
    small = model("llama", 2, hidden_size=8, intermediate_size=12)
    drawn, theirs = parameters(small), parameters(big)
    report = begin(small, big, PLANS["guide"])
    own = parameters(small)
    moment = embedding_moment(ModuleWeights(big), seen(big))
    matrix = principal("guide", moment, 8, centred=False).matrix
    assert matrix is not None
    basis, block = matrix.float(), "model.layers.0."
    gain = theirs[f"{block}input_layernorm.weight"]
    query = theirs[f"{block}self_attn.q_proj.weight"] * gain @ basis
    gate = theirs[f"{block}mlp.gate_proj.weight"]
    gate = (gate * theirs[f"{block}post_attention_layernorm.weight"])[::2] @ basis
    # Four heads of four numbers in the teacher; of two in the student, so every second of each.
    rows = torch.arange(0, 16, 2)
    expected = {
        "model.embed_tokens.weight": theirs["model.embed_tokens.weight"] @ basis,
        f"{block}self_attn.q_proj.weight": query[rows] * 2**0.5,
        f"{block}self_attn.o_proj.weight": basis.T
        @ theirs[f"{block}self_attn.o_proj.weight"][:, rows],
        f"{block}mlp.gate_proj.weight": gate,
        f"{block}mlp.down_proj.weight": basis.T @ theirs[f"{block}mlp.down_proj.weight"][:, ::2],
        f"{block}input_layernorm.weight": torch.full((8,), 2**0.5),
    }
    for name, tensor in expected.items():
        torch.testing.assert_close(own[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    for name in (n for n in own if "layers.1" in n or n in ("lm_head.weight", "model.norm.weight")):
        assert torch.equal(own[name], drawn[name]), name
    assert report.depth == (0,)
    assert report.energy.keys() == {"embedding table"}
    assert report.energy["embedding table"] == pytest.approx(
        (moment @ matrix * matrix).sum().item() / moment.trace().item(), abs=1e-6
    )
    assert report.count()["random"] == 11


def test_guide_with_a_tied_head_gives_it_the_embeddings() -> None:
    big, small = model("qwen2", 1), model("qwen2", 2, hidden_size=8)
    begin(small, big, PLANS["guide"])
    inside: Any = small.module
    assert inside.lm_head.weight is inside.model.embed_tokens.weight


@pytest.mark.parametrize("basis", ["guide", "project", "random"])
@pytest.mark.parametrize("name", ["llama", "gemma", "gpt2"])
def test_a_dense_basis_of_full_width_is_exact(name: str, basis: Any) -> None:
    big, small = model(name, 1), model(name, 2, **WIDE)
    given = {"input_ids": torch.randint(61, (4, 16)), "attention_mask": torch.ones(4, 16).long()}
    report = begin(small, big, Plan(basis), calibration=[given])
    torch.testing.assert_close(logits(small), logits(big), rtol=0, atol=1e-4)
    assert report.energy["end"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("plan", ["guide", "select"])
def test_a_folder_is_read_as_the_teacher_that_wrote_it(plan: str, tmp_path: Path) -> None:
    big = model("qwen3", 1)
    inside: Any = big.module
    inside.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    sizes = {"hidden_size": 8, "num_hidden_layers": 1}
    from_memory, from_disk = model("qwen3", 2, **sizes), model("qwen3", 2, **sizes)
    begin(from_memory, big, PLANS[plan])
    report = begin(from_disk, tmp_path, PLANS[plan])
    own, other = parameters(from_disk), parameters(from_memory)
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert report.loss is None
    assert "unknown, the teacher was read and not run" in report.text()


def test_a_vision_transformers_file_calls_its_parts_by_older_names(tmp_path: Path) -> None:
    big = model("vit", 1)
    save_model(big, tmp_path)
    small = model("vit", 2)
    begin(small, tmp_path, Plan("select"))
    assert torch.equal(logits(small), logits(big))


def test_every_start_beats_a_random_one_and_the_order_is_the_expected() -> None:
    big = teacher("llama")
    losses, loss = {}, divergence("llama")
    plans = {**PLANS, "project alone": Plan("project"), "guide all": Plan("guide")}
    for name, plan in plans.items():
        report = begin(student("llama"), big, plan, calibration=calibration(), loss=loss)
        assert report.loss is not None
        assert report.random_loss == pytest.approx(loss(student("llama")))
        losses[name] = report.loss
    at_random = loss(student("llama"))
    assert losses["project"] < losses["project alone"] < losses["guide all"]
    assert losses["guide all"] < losses["select"] < at_random - 1
    # Behind the first block everything is random still.
    assert abs(losses["guide"] - at_random) < 0.2


def test_a_report_tells_a_reader_what_was_done() -> None:
    big, small = teacher("llama"), student("llama")
    loss = divergence("llama")
    report = begin(small, big, PLANS["project"], calibration=calibration(), loss=loss)
    assert report.depth == (0, 2)
    assert set(report.energy) == {
        *(f"block {n} {part}" for n in range(3) for part in ("attention", "mlp")),
        "end",
    }
    assert all(0 < share <= 1 for share in report.energy.values())
    assert len(report.repaired) == 4
    named = {origin.name for origin in report.origins}
    assert named == {name for name, _ in small.module.named_parameters()}
    text = report.text()
    for words in ("basis project: 16 of 32", "0 from 0, 1 from 2", "block 2 mlp"):
        assert words in text
    assert f"loss before training: {report.loss:.4f}" in text
    assert (
        "projected: 16 tensors\n  model.embed_tokens\n  model.layers.0-1.self_attn.q_proj" in text
    )


def test_pruning_takes_the_channels_and_neurons_that_activations_are_largest_in() -> None:
    big, small = model("llama", 1), model("llama", 2, **NARROW)
    with torch.no_grad():
        # Two neurons that write nothing, and channels that nobody reads strongly.
        big.module.get_parameter("model.layers.0.mlp.down_proj.weight")[:, [3, 7, 11, 13]] = 0
        for name, tensor in big.module.named_parameters():
            if "layernorm" in name:
                tensor[[0, 5, 9, 14]] = 1e-3
    given = {"input_ids": torch.randint(61, (4, 16)), "attention_mask": torch.ones(4, 16).long()}
    begin(small, big, PLANS["prune"], calibration=[given])
    own, theirs = parameters(small), parameters(big)
    kept = [n for n in range(16) if n not in (0, 5, 9, 14)]
    table = "model.embed_tokens.weight"
    assert torch.equal(own[table], theirs[table][:, kept])
    neurons = [n for n in range(24) if n not in (3, 7, 11, 13)]
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(own[name], theirs[name][neurons][:, kept])


def test_blocks_that_do_nothing_are_left_out_by_their_influence() -> None:
    big, small = model("llama", 1, num_hidden_layers=4), model("llama", 2)
    with torch.no_grad():
        for name, tensor in big.module.named_parameters():
            writer = "o_proj" in name or "down_proj" in name
            if writer and ("layers.1." in name or "layers.2." in name):
                tensor.mul_(1e-3)
    given = {"input_ids": torch.randint(61, (4, 16)), "attention_mask": torch.ones(4, 16).long()}
    report = begin(small, big, Plan("select", depth="influence"), calibration=[given])
    assert report.depth == (0, 3)
    torch.testing.assert_close(logits(small), logits(big), rtol=0, atol=0.05)


def test_what_reads_activations_is_refused_without_them(tmp_path: Path) -> None:
    big, small = model("llama", 1), model("llama", 2)
    save_model(big, tmp_path)
    for plan in (Plan("project"), Plan("prune"), Plan("select", depth="influence")):
        with pytest.raises(ModelError, match="reads activations, and the teacher is a folder"):
            begin(small, tmp_path, plan)
    with pytest.raises(ModelError, match="no calibration"):
        begin(small, big, Plan("select", repair=True))
    with pytest.raises(ModelError, match="one block is mapped"):
        begin(small, big, Plan("guide", blocks="first", repair=True))
    with pytest.raises(RecipeError, match="ridge"):
        Plan(ridge=0.0)


@pytest.mark.parametrize("name", ["bert", "olmo2", "gemma2", "gemma3_text"])
def test_a_dense_basis_is_refused_before_anything_is_written(name: str) -> None:
    big, small = model(name, 1), model(name, 2)
    before = parameters(small)
    for plan in ("guide", "random"):
        with pytest.raises(ModelError, match="mixes channels"):
            begin(small, big, PLANS[plan])
    assert all(torch.equal(parameters(small)[key], tensor) for key, tensor in before.items())


def test_a_start_is_the_same_every_time() -> None:
    def started() -> dict[str, torch.Tensor]:
        small = student("llama")
        begin(small, teacher("llama"), PLANS["project"], calibration=calibration())
        return parameters(small)

    first, second = started(), started()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_model(spec("llama")).training


def test_a_start_leaves_the_teacher_as_it_was() -> None:
    big = teacher("llama")
    before = parameters(big)
    begin(student("llama"), big, PLANS["project"], calibration=calibration())
    assert all(torch.equal(tensor, before[name]) for name, tensor in parameters(big).items())
    assert not big.training
