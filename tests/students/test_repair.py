import numpy as np
import pytest
import torch

from preceptor.students.repair import Fit
from preceptor.students.start import PLANS, Plan, begin
from tests.models.encoders import encoder
from tests.students.models import logits, model
from tests.students.trained import calibration, divergence, student, teacher

PLENTY = [
    {"input_ids": torch.randint(61, (16, 16), generator=torch.Generator().manual_seed(seed))}
    for seed in range(3)
]
for _inputs in PLENTY:
    _inputs["attention_mask"] = torch.ones_like(_inputs["input_ids"])


def test_a_fit_is_ridge_regression_towards_where_it_starts() -> None:
    given, target = torch.randn(40, 6), torch.randn(40, 3)
    start, ridge = torch.randn(3, 6), 0.05
    fit = Fit.of(6, 3)
    fit.add(given[:25], target[:25])
    fit.add(given[25:], target[25:])
    held = ridge * given.square().sum(0).mean().item()
    # The same as more rows of data that ask for the start itself.
    rows = np.vstack([given.numpy(), np.sqrt(held) * np.eye(6)])
    asked = np.vstack([target.numpy(), np.sqrt(held) * start.numpy().T])
    expected = np.linalg.lstsq(rows, asked, rcond=None)[0].T
    solved = fit.solved(start, ridge)
    np.testing.assert_allclose(solved.numpy(), expected, rtol=1e-4, atol=1e-5)
    left = (given @ solved.float().T - target).square().sum() / target.square().sum()
    assert fit.error(solved) == pytest.approx(left.item(), rel=1e-5)
    assert fit.error(solved) <= fit.error(start)


def test_a_bias_is_not_held() -> None:
    given = torch.cat([torch.randn(50, 2), torch.ones(50, 1)], 1)
    target = torch.full((50, 1), 7.0)
    fit = Fit.of(3, 1)
    fit.add(given, target)
    solved = fit.solved(torch.zeros(1, 3), 1e3, free=1)
    assert solved[0, 2].item() == pytest.approx(7.0, abs=0.05)


def test_what_is_never_given_leaves_the_weight_as_it_was() -> None:
    given = torch.randn(50, 3)
    given[:, 1] = 0
    fit = Fit.of(3, 2)
    fit.add(given, torch.randn(50, 2))
    start = torch.randn(2, 3)
    torch.testing.assert_close(fit.solved(start, 0.01)[:, 1], start[:, 1].double())


@pytest.mark.parametrize("name", ["llama", "olmo2", "gemma3_text", "gpt2", "bert"])
def test_neurons_that_were_said_twice_are_made_up_for(name: str) -> None:
    """Each second neuron is a copy of the one before: half of them hold all there is to know."""
    big = model(name, 1)
    inner = {"n_inner": 32} if name == "gpt2" else {"intermediate_size": 12}
    with torch.no_grad():
        for key, tensor in big.module.named_parameters():
            if any(part in key for part in ("up_proj", "gate_proj", "intermediate.dense")):
                tensor[1::2] = tensor[::2]
            if "c_fc" in key:
                tensor[..., 1::2] = tensor[..., ::2]
    plain, repaired = model(name, 2, **inner), model(name, 2, **inner)
    begin(plain, big, Plan("select"))
    report = begin(repaired, big, Plan("select", repair=True, ridge=1e-6), calibration=PLENTY)
    gap = (logits(repaired) - logits(big)).abs().max()
    assert gap < 1e-2 < (logits(plain) - logits(big)).abs().max()
    assert all(writer.after <= writer.before + 1e-9 for writer in report.repaired)


@pytest.mark.parametrize("name", ["llama", "bert", "olmo2"])
def test_a_student_of_full_size_needs_no_repair(name: str) -> None:
    big, small = model(name, 1), model(name, 2)
    report = begin(small, big, Plan("select", repair=True), calibration=PLENTY)
    assert all(writer.before < 1e-6 for writer in report.repaired)
    torch.testing.assert_close(logits(small), logits(big), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["vit", "zoo vit"])
def test_images_repair_too(name: str) -> None:
    big = model(name, 1)
    small = model(name, 2, **({"depth": 1} if name == "zoo vit" else {"num_hidden_layers": 1}))
    pixels = [torch.rand(32, 1, 8, 8) for _ in range(3)]
    report = begin(small, big, PLANS["project"], calibration=pixels)
    # One block now stands for two, and writes where the second wrote.
    down = report.repaired[-1]
    assert down.after < 0.5 * down.before


def test_repair_lowers_the_loss_of_every_start() -> None:
    for name, basis in (("llama", "project"), ("llama", "select")):
        losses = []
        for repair in (False, True):
            plan = Plan(basis, repair=repair)  # pyright: ignore[reportArgumentType]
            report = begin(
                student(name), teacher(name), plan, calibration=calibration(), loss=divergence(name)
            )
            assert report.loss is not None
            losses.append(report.loss)
        assert losses[1] < losses[0]


def test_padding_is_not_fitted_to() -> None:
    def started(pad: int) -> torch.Tensor:
        small, given = student("llama"), []
        for inputs in calibration():
            ids = torch.cat([inputs["input_ids"], torch.full((32, 5), pad)], 1)  # pyright: ignore
            mask = torch.ones_like(ids)
            mask[:, -5:] = 0
            given.append({"input_ids": ids, "attention_mask": mask})
        begin(small, teacher("llama"), PLANS["project"], calibration=given)
        return small.module.get_parameter("model.layers.1.mlp.down_proj.weight").detach()

    torch.testing.assert_close(started(3), started(7), rtol=1e-4, atol=1e-5)


def test_a_sentence_encoders_last_map_leads_back_to_the_teachers_embeddings() -> None:
    big = encoder(1).eval()
    small = encoder(2, config={"hidden_size": 8, "num_attention_heads": 2}, dimension=16).eval()
    given = [{"input_ids": torch.randint(300, (64, 8)), "attention_mask": torch.ones(64, 8).long()}]
    given[0]["attention_mask"][:, 6:] = 0
    report = begin(small, big, Plan("prune", repair=True), calibration=given)
    last = report.repaired[-1]
    assert last.name == "embedding.dense"
    assert last.after < last.before
    with torch.no_grad():
        own, aim = small(given[0]).logits, big(given[0]).logits
    assert (own * aim).sum(1).mean() > 0.9
