"""A served teacher against a real server that scores with the same model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from preceptor import CE, KD, Plan, fit
from preceptor.data.client import Client
from preceptor.data.endpoint import Endpoint
from preceptor.data.packing import packed
from preceptor.data.source import Source
from preceptor.errors import (
    ModelError,
    NeedsError,
    ServerFailure,
    ServerRefusal,
    TeacherFailure,
)
from preceptor.models.tapped import TappedModel
from preceptor.teachers.base import Teacher
from preceptor.teachers.gap import served_gap
from preceptor.teachers.live import Live
from preceptor.teachers.prompt_scores import API, predictions
from preceptor.teachers.served import Served
from preceptor.types import Batch, Needs, Projected, Sampled, Signal, TopK
from tests.servers.scores import scoring
from tests.servers.serving import Reply, Request, Respond, Server, serving

V, K = 31, 5


def model(width: int = 16, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=V,
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.5,
        )
        return AutoModelForCausalLM.from_config(config).eval()


def live() -> Live:
    return Live(TappedModel(model(), causal=True))


@contextmanager
def asking(
    respond: Respond | None = None, k: int = K, api: API = "vllm"
) -> Iterator[tuple[Served, Server]]:
    with serving(respond or scoring(model())) as server:
        where = Endpoint(server.url, "m", timeout=20, retries=1, first_wait=0.01, concurrency=3)
        with Client(where) as client:
            yield Served(client, V, k, api), server


def batch_of(ids: Tensor, real: Tensor | None = None, prompt: int = 2, **more: Any) -> Batch:
    """Rows whose tokens after the first `prompt` real ones are scored."""
    real = torch.ones_like(ids) if real is None else real
    inputs = {"input_ids": ids, "attention_mask": real, **more.pop("inputs", {})}
    labels = torch.full_like(ids, -1)
    labels[:, :-1] = torch.where(real[:, 1:] > 0, ids[:, 1:], -1)
    labels[real == 0] = -1
    labels[real.cumsum(1) < prompt] = -1
    return Batch(inputs, labels=labels, mask=labels >= 0, ids=torch.arange(len(ids)), **more)


def some_ids(rows: int = 3, length: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def scored(signal: Signal, batch: Batch) -> TopK:
    found = signal.at(batch.mask("all").flatten().nonzero().squeeze(1)).distribution
    assert isinstance(found, TopK)
    return found


def dense(batch: Batch) -> Tensor:
    """The live model's log-probabilities at the positions that count."""
    index = batch.mask("all").flatten().nonzero().squeeze(1)
    return live().signal(batch).at(index).whole.log_probs(1.0)


@pytest.mark.parametrize("api", ["vllm", "sglang"])
def test_served_probabilities_are_those_of_the_live_model(api: API) -> None:
    batch = batch_of(some_ids())
    with asking(api=api) as (teacher, server):
        told = scored(teacher.signal(batch), batch)
        assert len(server.asked) == len(batch)
    expected = dense(batch).topk(K)
    assert torch.equal(told.ids, expected.indices)
    assert torch.allclose(told.log_p, expected.values, atol=1e-5)
    rest = dense(batch).exp().scatter(-1, expected.indices, 0.0).sum(-1)
    assert torch.allclose(told.log_tail.exp(), rest, atol=1e-5)
    assert (told.temperature, told.classes) == (1.0, V)


def test_what_predicted_a_token_is_read_at_the_position_before_it() -> None:
    # A sequence's second entry depends on its first token alone.
    one, other = some_ids(1), some_ids(1)
    other[0, 1:] = (other[0, 1:] + 3) % V
    with asking() as (teacher, _):
        told = [teacher.signal(batch_of(ids, prompt=1)).distribution for ids in (one, other)]
    first, second = (t.log_p[0] for t in told if isinstance(t, TopK))
    assert torch.allclose(first[0], second[0], atol=1e-6)
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_the_tokens_own_entry_beyond_the_k_largest_is_not_counted_twice_or_kept() -> None:
    batch = batch_of(some_ids())
    with asking(scoring(model(), with_own=True)) as (teacher, server):
        with_own = scored(teacher.signal(batch), batch)
        raw = [teacher.client.post("completions", _payload(r)) for r in list(server.asked)]
    longest = max(len(e) for a in raw for e in a["choices"][0]["prompt_logprobs"][1:])
    assert longest == K + 1  # vLLM did add some.
    expected = dense(batch).topk(K)
    assert torch.equal(with_own.ids, expected.indices)
    mass = with_own.log_p.exp().sum(-1) + with_own.log_tail.exp()
    assert torch.allclose(mass, torch.ones_like(mass), atol=1e-6)


def _payload(request: Request) -> dict[str, Any]:
    return {n: v for n, v in request.payload.items() if n != "model"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_never_sent_and_moves_nothing(side: str) -> None:
    ids, real = some_ids(), torch.ones(3, 9, dtype=torch.int64)
    for row, padded in enumerate((0, 2, 4)):
        where = slice(0, padded) if side == "left" else slice(9 - padded, 9)
        real[row, where], ids[row, where] = 0, 7
    batch = batch_of(ids, real)
    with asking() as (teacher, server):
        told = scored(teacher.signal(batch), batch)
        assert sorted(len(r.payload["prompt"]) for r in server.asked) == [5, 7, 9]
        rows = []
        for row in range(3):
            alone = batch_of(ids[row, real[row] > 0][None])
            rows.append(scored(teacher.signal(alone), alone))
    assert torch.equal(told.ids, torch.cat([r.ids for r in rows]))
    assert torch.equal(told.log_p, torch.cat([r.log_p for r in rows]))


def test_packed_sequences_are_asked_for_apart() -> None:
    ids, real = some_ids(3, 8), torch.ones(3, 8, dtype=torch.int64)
    real[0, 5:], real[2, 6:] = 0, 0
    apart = batch_of(ids, real)
    together = packed(apart, [[0, 2], [1]], length=16)
    with asking() as (teacher, server):
        told = scored(teacher.signal(together), together)
        assert sorted(len(r.payload["prompt"]) for r in server.asked) == [5, 6, 8]
        expected = teacher.signal(apart).distribution
    assert isinstance(expected, TopK)
    rows = [expected.log_p[row][apart.mask("all")[row]] for row in (0, 2, 1)]
    assert torch.equal(told.log_p, torch.cat(rows))


def test_rows_that_score_nothing_are_not_asked_for() -> None:
    batch = batch_of(some_ids(3))
    quiet = batch.mask("all").clone()
    quiet[1] = False
    batch = Batch(**{**batch.fields(), "mask": quiet})
    with asking() as (teacher, server):
        told = teacher.signal(batch).distribution
        assert len(server.asked) == 2
    assert isinstance(told, TopK)
    assert bool((told.ids[1] == -1).all())
    assert torch.equal(told.log_tail[1].exp(), torch.ones(9))


def test_another_prompt_for_the_teacher_is_answered_at_the_students_positions() -> None:
    ids = some_ids(2, 6)
    longer = torch.cat([some_ids(2, 3, seed=9), ids], dim=1)
    mask = batch_of(ids).mask("all")
    places = torch.where(mask, torch.arange(6) + 3, -1)
    theirs = {"input_ids": longer, "attention_mask": torch.ones_like(longer)}
    batch = batch_of(ids, teacher_inputs=theirs, teacher_positions=places)
    with asking() as (teacher, server):
        told = scored(teacher.signal(batch), batch)
        assert [len(r.payload["prompt"]) for r in server.asked] == [9, 9]
    expected = dense(batch).topk(K)
    assert torch.equal(told.ids, expected.indices)
    assert torch.allclose(told.log_p, expected.values, atol=1e-5)


def test_all_classes_leave_no_rest() -> None:
    batch = batch_of(some_ids(1))
    with asking(scoring(model(), cap=V), k=V) as (teacher, _):
        told = scored(teacher.signal(batch), batch)
    assert bool((told.log_tail == -torch.inf).all())


def test_more_than_the_server_allows_is_refused_with_the_flag_that_allows_it() -> None:
    with (
        asking(k=25) as (teacher, _),
        pytest.raises(NeedsError, match=r"max allowed: 20.*--max-logprobs 25"),
    ):
        teacher.signal(batch_of(some_ids()))


def test_other_refusals_stay_what_they_are() -> None:
    with (
        asking(lambda _: Reply.json({"message": "context length is 4"}, 400)) as (teacher, _),
        pytest.raises(ServerRefusal, match="context length is 4"),
    ):
        teacher.signal(batch_of(some_ids()))


def test_a_server_without_prompt_log_probabilities_is_recognised() -> None:
    silent = Reply.json({"choices": [{"text": "x", "finish_reason": "length"}]})
    with (
        asking(lambda _: silent) as (teacher, _),
        pytest.raises(ServerFailure, match="transformers serve"),
    ):
        teacher.signal(batch_of(some_ids()))


Spoil = Callable[[list[Any]], list[Any]]


def halved(told: list[Any]) -> list[Any]:
    for entry in told[1:]:
        for value in entry.values():
            value["logprob"] = value["logprob"] / 9 + 1
    return told


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda told: [told[0], *told[:-1]], "does not name it"),
        (lambda told: [None, *told], r"told of 10 tokens and was asked about 9"),
        (halved, "add up to"),
    ],
    ids=["shifted by one", "one token more", "no log-probabilities"],
)
def test_an_answer_about_something_else_is_refused(spoil: Spoil, sentence: str) -> None:
    honest = scoring(model())

    def spoilt(request: Request) -> Reply:
        import json

        answer = json.loads(honest(request).body)
        choice = answer["choices"][0]
        choice["prompt_logprobs"] = spoil(choice["prompt_logprobs"])
        return Reply.json(answer)

    with asking(spoilt) as (teacher, _), pytest.raises(TeacherFailure, match=sentence):
        teacher.signal(batch_of(torch.arange(9)[None] * 3))


def test_a_probability_of_zero_has_no_entry() -> None:
    told = [None, {"4": {"logprob": -0.0}, "2": {"logprob": -9999.0}}]
    answer = {"choices": [{"prompt_logprobs": told}]}
    assert predictions("vllm", answer, [1, 4], 2) == [[(0.0, 4)]]


def test_a_larger_vocabulary_at_the_server_is_refused() -> None:
    with asking() as (teacher, _):
        small = Served(teacher.client, 4, 3)
        with pytest.raises(ModelError, match="vocabulary has 4 tokens"):
            small.signal(batch_of(some_ids() % 4))


def test_a_last_position_that_counts_is_refused() -> None:
    batch = batch_of(some_ids())
    every = Batch(**{**batch.fields(), "mask": torch.ones_like(batch.mask("all"))})
    with asking() as (teacher, _), pytest.raises(NeedsError, match="position 8 of row 0"):
        teacher.signal(every)


def test_it_offers_bins_at_temperature_one() -> None:
    with asking() as (teacher, _):
        offers = teacher.offers()
        assert not KD(temperature=1).needs().unmet_by(offers)
        assert KD(temperature=2).needs().unmet_by(offers)
        assert offers.kinds == {"bins"}


def test_the_gap_to_the_live_model_is_small_and_to_another_is_not() -> None:
    batch = batch_of(some_ids())
    with asking() as (teacher, _):
        same = served_gap(teacher, live(), batch)
        cut = served_gap(teacher, LargestOf(live(), K), batch)
        other = served_gap(teacher, Live(TappedModel(model(seed=1), causal=True)), batch)
        itself = served_gap(teacher, teacher, batch)
        with pytest.raises(NeedsError, match="something else than probabilities"):
            served_gap(teacher, Draws(), batch)
    assert same.mean <= same.largest < 1e-5
    assert same.positions == int(batch.mask("all").sum())
    assert cut.largest < 1e-5
    assert itself.largest == 0
    assert other.largest > 0.5
    assert batch.mask("all")[other.row, other.position]


@final
class LargestOf(Teacher):
    """A live teacher that shows its k largest probabilities alone."""

    def __init__(self, teacher: Live, k: int) -> None:
        self.teacher, self.k = teacher, k

    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"bins"}), temperatures=frozenset({1.0}))

    def signal(self, batch: Batch) -> Signal:
        whole = self.teacher.signal(batch).whole
        assert isinstance(whole, Projected)
        log_p = whole.log_probs(1.0)
        best = log_p.topk(self.k)
        rest = log_p.scatter(-1, best.indices, -torch.inf).logsumexp(-1)
        return Signal(TopK(best.indices, best.values, rest, 1.0, V))


@final
class Draws(Teacher):
    def offers(self) -> Needs:
        return Needs(kinds=frozenset({"draws"}))

    def signal(self, batch: Batch) -> Signal:
        shape = batch.mask("all").shape
        zeros = torch.zeros(*shape, 1, dtype=torch.int64)
        return Signal(Sampled(zeros, zeros + 1, torch.zeros(shape), 1.0, V))


class Rows(Source):
    """Eight rows of nine tokens a step, the last two of some padded away."""

    num_classes, num_examples = V, 64

    @property
    def labels(self) -> Tensor:
        return torch.full((64,), -1)

    @property
    def steps_per_epoch(self) -> int:
        return 8

    def __init__(self) -> None:
        self.step = 0

    def take(self, rank: int = 0, world: int = 1) -> Batch:
        assert (rank, world) == (0, 1)
        self.step += 1
        return self._made(self.step, 8)

    def sample(self, count: int = 2) -> Batch:
        return self._made(0, count)

    def _made(self, seed: int, count: int) -> Batch:
        real = torch.ones(count, 9, dtype=torch.int64)
        real[::2, 7:] = 0
        return batch_of(some_ids(count, 9, seed), real)

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def curve(teacher: Teacher) -> list[float]:
    student = TappedModel(model(width=8, seed=3), causal=True)
    plan = Plan(steps=4, batch=8)
    losses = fit(student, teacher, 0.3 * CE() + 0.7 * KD(temperature=1), Rows(), plan)
    return [loss.total for loss in losses]


def test_training_from_a_server_is_training_from_the_live_models_largest() -> None:
    expected = curve(LargestOf(live(), K))
    with asking() as (teacher, _):
        found = curve(teacher)
    assert found == pytest.approx(expected, rel=1e-5)
    assert found[0] != pytest.approx(found[-1], rel=1e-3)
