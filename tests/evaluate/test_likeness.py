import dataclasses

import numpy as np
import pytest
import torch

from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.likeness import likeness
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Report, Undefined, Value
from preceptor.evaluate.results import Likeness
from preceptor.models.load import load_model


def model(name, seed):
    torch.manual_seed(seed)
    grey = {"mean": [0.5], "std": [0.25]}
    return load_model({"zoo": name, "classes": 4, "channels": 1, "size": 8, **grey}).eval()


def batches(count=80):
    generator = torch.Generator().manual_seed(0)
    return list(torch.rand(count, 1, 8, 8, generator=generator).split(32))


def test_a_model_is_like_itself_and_less_like_another():
    own = model("cnn-small", 0)
    same, other = (likeness(own, each, batches()) for each in (own, model("cnn-small", 1)))
    assert same is not None
    assert other is not None
    np.testing.assert_allclose(np.diagonal(same.cka), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(same.procrustes), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(same.error), 0.0, atol=1e-5)
    np.testing.assert_allclose(same.student_rank, same.teacher_rank)
    assert other.cka[-1, -1] < 0.999
    assert other.examples == 80
    assert not own.training


def test_maps_of_models_of_any_depth_are_compared_and_few_examples_are_not():
    found = likeness(model("cnn-small", 0), model("cnn-large", 1), batches())
    assert found is not None
    assert found.cka.shape == (len(found.student), len(found.teacher))
    assert (found.error > 0).all()
    assert likeness(model("cnn-small", 0), model("cnn-large", 1), batches(30)) is None


def test_the_jackknifed_error_is_the_spread_over_other_examples():
    generator = torch.Generator().manual_seed(3)
    pairs = model("cnn-small", 0), model("cnn-large", 1)
    many = [likeness(*pairs, [torch.rand(60, 1, 8, 8, generator=generator)]) for _ in range(12)]
    spread = np.std([each.cka[0, 0] for each in many if each], ddof=1)
    said = np.mean([each.error[0, 0] for each in many if each])
    assert said == pytest.approx(spread, rel=0.6)


def compared(result, value=0.5):
    """The result with the same three layers for every student."""

    def seen(arm):
        shift = 0.0 if arm.name == "distilled" else 0.2
        seeds = []
        for k, one in enumerate(arm.seeds):
            cka = np.full((2, 3), value - shift + 0.01 * k)
            cka[1, 2] = np.nan
            layers = Likeness(
                ("<a>", "b"), ("x", "y", "z"), cka, cka * 0 + 0.02, cka, cka[:, 0], cka[0], 200
            )
            seeds.append(dataclasses.replace(one, layers=layers))
        return dataclasses.replace(arm, seeds=tuple(seeds))

    return dataclasses.replace(result, arms=tuple(map(seen, result.arms)))


def test_layers_stand_in_the_report_with_intervals_beside_the_controls(result):
    report = build_report(compared(result))
    first, last = report.layers
    assert (first.student, first.teacher, last.teacher) == ("<a>", "y", "z")
    own, control = first.cka["distilled"], first.cka["control"]
    assert isinstance(own, Value)
    assert isinstance(control, Value)
    assert own.high is not None
    assert own.estimate - control.estimate == pytest.approx(0.2)
    # Four seeds 0.01 apart, t of three degrees of freedom, beside 1.96 times 0.02 over examples.
    over_seeds = 3.18245 * np.std([0, 0.01, 0.02, 0.03], ddof=1) / 2
    assert own.high - own.estimate == pytest.approx(np.hypot(over_seeds, 1.959964 * 0.02), rel=1e-4)
    assert isinstance(last.cka["distilled"], Undefined)
    assert isinstance(first.rank["teacher"], Value)
    page = render_html(report)
    assert "layer by layer" in page
    assert "<a>" not in page.split("<h2>Pictures", 1)[1]
    assert Report.from_json(report.to_json()) == report


def test_without_layers_nothing_is_said_of_them(report):
    assert report.layers == ()
    assert "layer by layer" not in render_html(report)
