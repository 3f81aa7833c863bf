import math

import pytest
import torch

from preceptor.errors import RecipeError
from preceptor.objectives.byot import BYOT, Exits
from preceptor.types import Batch, Context, Outputs, Signal, Terms

OBJECTIVE = BYOT(layers=(("a", "a"), ("b", "b"), ("c", "c")), temperature=2.0)
LABELS = torch.tensor([2, 0, 1, 2])


def outputs(count: int = 4, grad: bool = False) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 8), "b": (4, 4), "c": (6, 2)}
    taps = {
        name: torch.randn(count, c, s, s, generator=generator).requires_grad_(grad)
        for name, (c, s) in shapes.items()
    }
    return Outputs(torch.randn(count, 3, generator=generator).requires_grad_(grad), taps)


def built() -> Exits:
    torch.manual_seed(0)
    labels = torch.arange(4) % 3
    return OBJECTIVE.auxiliary(Context(outputs(2), Signal(), 3, 4, labels))


def terms(
    student: Outputs,
    aux: Exits,
    labels: torch.Tensor = LABELS,
    mask: torch.Tensor | None = None,
) -> Terms:
    return OBJECTIVE.terms(student, Signal(), Batch(student.logits, labels=labels, mask=mask), aux)


def test_the_three_terms_are_plain_sums_over_exits():
    student, aux = outputs(), built().eval()
    found = terms(student, aux)
    label, soft, feature = [0.0] * 4, [0.0] * 4, [0.0] * 4
    for features, logits in aux([student.tap("a"), student.tap("b")]):
        for b in range(4):
            q = torch.softmax(logits[b], 0).tolist()
            label[b] -= math.log(q[int(LABELS[b])])
            p = torch.softmax(student.logits[b] / 2, 0).tolist()
            q = torch.softmax(logits[b] / 2, 0).tolist()
            soft[b] += 4 * sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
            squares = [(x - y) ** 2 for x, y in zip(
                features[b].flatten().tolist(), student.tap("c")[b].flatten().tolist(), strict=True
            )]  # fmt: skip
            feature[b] += sum(squares) / 24
    assert found["byot.label"].values.tolist() == pytest.approx(label, rel=1e-4)
    assert found["byot.soft"].values.tolist() == pytest.approx(soft, rel=1e-4)
    assert found["byot.feature"].values.tolist() == pytest.approx(feature, rel=1e-4)
    assert [t.weight for t in found.values()] == pytest.approx([0.7, 0.3, 0.03])


def test_an_exit_that_equals_the_deepest_leaves_the_label_term_alone():
    student, aux = outputs(), built().eval()
    features, logits = aux([student.tap("a"), student.tap("b")])[0]
    one = BYOT(layers=(("a", "a"), ("c", "c")))
    single = Exits(("a", "c"), (3, 6), (2, 2), 3, 4).eval()
    single.load_state_dict({k: v for k, v in aux.state_dict().items() if k.split(".")[1] == "0"})
    same = Outputs(logits.detach(), {"a": student.tap("a"), "c": features.detach()})
    found = one.terms(same, Signal(), Batch(same.logits, labels=LABELS), single)
    assert found["byot.soft"].values.abs().max() < 1e-6
    assert found["byot.feature"].values.abs().max() == 0
    expected = torch.nn.functional.cross_entropy(logits, LABELS, reduction="none")
    torch.testing.assert_close(found["byot.label"].values, expected)


def test_the_deepest_exit_teaches_and_is_not_taught():
    student, aux = outputs(grad=True), built()
    sum(term.values.sum() for term in terms(student, aux).values()).backward()  # type: ignore
    assert student.logits.grad is None
    assert student.tap("c").grad is None
    for stage in ("a", "b"):
        grad = student.tap(stage).grad
        assert grad is not None
        assert grad.abs().sum() > 0


def test_nothing_of_a_teacher_is_read():
    needs = OBJECTIVE.needs()
    assert needs.student_taps == {"a", "b", "c"}
    assert not needs.teacher_taps
    assert not needs.kinds
    assert BYOT().needs().student_taps == {"auto"}
    assert not BYOT().needs().teacher_taps


def test_early_exits_give_logits_for_the_stages_before_the_deepest():
    student, aux = outputs(), built().eval()
    first, second = aux.exits(student)
    assert first.shape == second.shape == (4, 3)
    torch.testing.assert_close(second, aux([student.tap("a"), student.tap("b")])[1][1])


def test_an_example_without_a_label_counts_for_the_soft_terms_alone():
    labels = torch.tensor([2, -1, 1, 2])
    batch = Batch(outputs().logits, labels=labels)
    found = terms(outputs(), built(), labels)
    assert batch.mask(found["byot.label"].over).tolist() == [True, False, True, True]
    assert batch.mask(found["byot.soft"].over).all()
    assert found["byot.soft"].values[1] > 0


def test_a_masked_example_enters_no_statistic_even_as_nan():
    clean, aux = outputs(), built()
    spoilt = Outputs(
        torch.cat((clean.logits, torch.full((1, 3), torch.nan))),
        {n: torch.cat((t, torch.full_like(t[:1], torch.nan))) for n, t in clean.taps.items()},
    )
    mask = torch.tensor([True] * 4 + [False])
    found = terms(spoilt, aux, torch.cat((LABELS, LABELS[:1])), mask)
    for name, term in terms(clean, aux).items():
        torch.testing.assert_close(found[name].values, torch.cat((term.values, torch.zeros(1))))


def test_one_example_is_finite_while_training():
    found = terms(outputs(count=1), built().train(), LABELS[:1])
    assert all(term.values.isfinite().all() for term in found.values())


def test_one_stage_or_stages_out_of_order_are_refused():
    context = Context(outputs(2), Signal(), 3, 4, torch.arange(4) % 3)
    for layers in ((("a", "a"),), (("c", "c"), ("a", "a"))):
        with pytest.raises(RecipeError, match="at least two"):
            BYOT(layers=layers).auxiliary(context)
