import math
from collections.abc import Mapping

import pytest
import torch
from safetensors.torch import load, save
from scipy.stats import chisquare

from preceptor.errors import DataError
from preceptor.objectives.base import Objective
from preceptor.objectives.crd import CRD, Memory, mixed
from preceptor.types import Batch, Context, Outputs, Progress, Signal, Term

LABELS = torch.tensor([0, 1, 0, 2, -1, 1, 0, -1, 2, 1])
OBJECTIVE = CRD(layers=(("s", "t"),), width=8, negatives=6)
IDS = torch.tensor([7, 0, 3, 5])
START = Progress(step=1, steps=10)


def features(seed: int, width: int, count: int = 4) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def built(labels: torch.Tensor = LABELS, seed: int = 0, objective: CRD = OBJECTIVE) -> Memory:
    torch.manual_seed(seed)
    student, teacher = features(10, 5, 2), features(11, 7, 2)
    return objective.auxiliary(
        Context(Outputs(student, {"s": student}), Signal(taps={"t": teacher}), 3, 10, labels)
    )


def term(
    aux: Memory,
    ids: torch.Tensor = IDS,
    student: torch.Tensor | None = None,
    teacher: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    objective: CRD = OBJECTIVE,
) -> Term:
    student = features(0, 5, len(ids)) if student is None else student
    teacher = features(1, 7, len(ids)) if teacher is None else teacher
    return objective.terms(
        Outputs(student, {"s": student}),
        Signal(taps={"t": teacher}),
        Batch(student, ids=ids, mask=mask),
        aux,
    )["crd"]


def step(aux: Memory, remembered: Mapping[str, torch.Tensor] | None = None) -> None:
    OBJECTIVE.advance(aux, term(aux).remember if remembered is None else remembered, {}, START)


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.square().sum().sqrt()


def by_loops(aux: Memory) -> list[float]:
    """The authors' quotients P / (P + k / n), one by one, with P = exp(u.v / tau) / Z."""
    losses, c = [], 6 / 10
    negatives = aux.negatives(IDS, 6)
    for row, id in enumerate(IDS.tolist()):
        u = unit(aux.student(features(0, 5)[row]))
        v = unit(aux.teacher(features(1, 7)[row]))
        loss = 0.0
        for side, (anchor, bank) in enumerate(((u, aux.teacher_bank), (v, aux.student_bank))):
            z = math.exp(aux.log_partition[side].item())
            p = [math.exp((anchor @ bank[j]).item() / 0.07) / z for j in [id, *negatives[row]]]
            loss -= math.log(p[0] / (p[0] + c))
            loss -= sum(math.log(c / (q + c)) for q in p[1:])
        losses.append(loss)
    return losses


def test_the_loss_is_the_authors_quotients_in_plain_loops():
    aux = built()
    assert term(aux).values.tolist() == pytest.approx(by_loops(aux), rel=1e-4)
    step(aux)
    assert term(aux).values.tolist() == pytest.approx(by_loops(aux), rel=1e-4)


def test_z_is_fixed_after_the_first_step_at_n_times_the_mean_over_its_batch():
    aux = built()
    negatives = aux.negatives(IDS, 6)
    products = [
        math.exp((unit(aux.student(x)) @ aux.teacher_bank[j]).item() / 0.07)
        for x, id, others in zip(features(0, 5), IDS, negatives, strict=True)
        for j in [id, *others]
    ]
    step(aux)
    expected = 10 * sum(products) / len(products)
    assert math.exp(aux.log_partition[0].item()) == pytest.approx(expected, rel=1e-4)
    before = aux.log_partition.clone()
    step(aux)
    assert torch.equal(aux.log_partition, before)


def test_memories_move_half_way_and_stay_on_the_sphere():
    aux = built()
    old = aux.teacher_bank.clone()
    new = [unit(aux.teacher(x)) for x in features(1, 7)]
    step(aux)
    for row, id in enumerate(IDS):
        torch.testing.assert_close(aux.teacher_bank[id], unit(old[id] / 2 + new[row] / 2))
    others = [i for i in range(10) if i not in IDS.tolist()]
    assert torch.equal(aux.teacher_bank[others], old[others])


def test_an_id_seen_twice_in_a_step_keeps_its_last_embedding():
    aux = built()
    old = aux.student_bank[3].clone()
    seen = term(aux, torch.tensor([3, 1, 3, 2])).remember
    step(aux, seen)
    torch.testing.assert_close(aux.student_bank[3], unit(old / 2 + seen["student"][2] / 2))


def test_a_negative_is_never_of_the_same_class_and_all_others_come_equally_often():
    aux = built()
    for id in range(10):
        drawn = aux.negatives(torch.tensor([id]), 4000)[0]
        counts = drawn.bincount(minlength=10)
        same = LABELS[id] == LABELS if LABELS[id] >= 0 else torch.arange(10) == id
        assert counts[same].sum() == 0
        assert chisquare(counts[~same].numpy()).pvalue > 1e-4


def test_without_labels_every_other_example_is_a_negative():
    aux = built(labels=torch.empty(0, dtype=torch.int64))
    drawn = aux.negatives(torch.tensor([4]), 500)[0]
    assert sorted(set(drawn.tolist())) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_more_negatives_than_examples_are_drawn_again():
    assert built().negatives(IDS, 200).shape == (4, 200)


def test_an_example_meets_the_same_negatives_beside_whomever_and_others_in_the_next_step():
    aux = built()
    together = aux.negatives(IDS, 50)
    assert torch.equal(aux.negatives(IDS[2:3], 50)[0], together[2])
    step(aux)
    assert not torch.equal(aux.negatives(IDS, 50), together)
    assert not torch.equal(built(seed=1).negatives(IDS, 50), together)


def test_two_halves_are_the_whole_and_their_order_does_not_matter():
    aux = built()
    whole = term(aux)
    halves = [
        term(aux, IDS[rows], features(0, 5)[rows], features(1, 7)[rows])
        for rows in ([2, 3], [0, 1])
    ]
    torch.testing.assert_close(
        torch.cat((halves[1].values, halves[0].values)), whole.values, rtol=1e-5, atol=1e-5
    )
    moved = []
    for remembered in (
        whole.remember,
        {k: torch.cat([half.remember[k] for half in halves]) for k in whole.remember},
    ):
        aux = built()
        step(aux, remembered)
        moved.append(aux.state_dict())
    torch.testing.assert_close(moved[0], moved[1])


def test_a_saved_and_loaded_memory_goes_on_with_the_same_bits():
    aux = built()
    step(aux)
    again = built(seed=5)
    again.load_state_dict(load(save(dict(aux.state_dict()))))
    for memory in (aux, again):
        step(memory)
    assert torch.equal(term(aux).values, term(again).values)
    for name, tensor in aux.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_terms_change_nothing():
    aux = built()
    before = {name: tensor.clone() for name, tensor in aux.state_dict().items()}
    assert torch.equal(term(aux).values, term(aux).values)
    assert all(torch.equal(tensor, before[name]) for name, tensor in aux.state_dict().items())


def test_a_masked_example_changes_neither_loss_nor_memory():
    mask = torch.tensor([True, True, True, False])
    student = features(0, 5)
    student[3] = torch.nan
    memories = built(), built()
    found = term(memories[0], student=student, mask=mask)
    expected = term(memories[1], IDS[:3], features(0, 5)[:3], features(1, 7)[:3])
    torch.testing.assert_close(found.values, torch.cat((expected.values, torch.zeros(1))))
    step(memories[0], found.remember)
    step(memories[1], expected.remember)
    torch.testing.assert_close(memories[0].state_dict(), memories[1].state_dict())


def test_a_sum_hands_the_memory_what_its_own_term_remembered():
    loss: Objective = OBJECTIVE + 0.5 * OBJECTIVE
    torch.manual_seed(0)
    aux = torch.nn.ModuleList((built(), built()))
    remembered = {f"crd/{key}": tensor for key, tensor in term(built()).remember.items()}
    remembered |= {f"crd#2/{key}": tensor for key, tensor in term(built()).remember.items()}
    loss.advance(aux, remembered, {}, START)
    alone = built()
    step(alone, {f"crd/{key}": tensor for key, tensor in term(alone).remember.items()})
    for memory in aux:
        torch.testing.assert_close(memory.state_dict(), alone.state_dict())


def test_gradients_reach_the_student_and_both_embeddings_but_not_the_teacher():
    student, teacher = features(0, 5).requires_grad_(), features(1, 7).requires_grad_()
    aux = built()
    term(aux, student=student, teacher=teacher).values.sum().backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert all(p.grad is not None for p in aux.parameters())


def test_learning_brings_the_two_embeddings_of_an_example_together():
    torch.manual_seed(0)
    aux = built()
    student = features(0, 5)
    optimizer = torch.optim.SGD(aux.parameters(), lr=0.05)
    losses = []
    for _ in range(200):
        found = term(aux, student=student)
        losses.append(found.values.mean().item())
        optimizer.zero_grad()
        found.values.mean().backward()
        optimizer.step()
        step(aux, found.remember)
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])


def test_data_of_one_class_is_refused():
    with pytest.raises(DataError, match="of one class"):
        built(labels=torch.zeros(10, dtype=torch.int64))


def test_the_mixing_of_keys_is_the_published_one():
    # The first three numbers of SplitMix64 from seed 0, as its reference implementation prints.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    step_of = 0x9E3779B97F4A7C15
    keys = [(k * step_of) % 2**64 for k in range(3)]
    signed = torch.tensor([k - 2**64 if k >= 2**63 else k for k in keys])
    assert [k % 2**64 for k in mixed(signed).tolist()] == expected
