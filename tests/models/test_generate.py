import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import TopKLogitsWarper, TopPLogitsWarper

from preceptor.errors import DataError, ModelError, RecipeError
from preceptor.models.generate import Generated, generate, generate_mixed
from preceptor.models.sampling import Sampling, drawn
from preceptor.models.tapped import TappedModel
from tests.models.language import ARCHITECTURES, CLASSES, language_model

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [10, 11]]
SEEDS = [11, 12, 13, 14]


def _inner(model: TappedModel) -> Any:
    return model.module


def _said(found: Generated) -> list[list[int]]:
    return [ids.tolist() for ids in found.ids]


def _log_probs(model: TappedModel, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Of each response token, by one full forward pass without padding or cache."""
    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logits = _inner(model)(input_ids=ids, use_cache=False).logits[0].float()
    if model.vocabulary:
        logits = logits[:, : model.vocabulary]
    rows = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return rows.gather(-1, torch.tensor(response)[:, None]).squeeze(-1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_responses_are_those_of_transformers_own_generate(name: str):
    model = language_model(name)
    found = generate(model, PROMPTS, Sampling(9, temperature=0), seeds=SEEDS, ends=[])
    for prompt, ids in zip(PROMPTS, found.ids, strict=True):
        theirs = _inner(model).generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=9,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert ids.tolist() == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_recorded_log_probabilities_are_those_of_a_full_forward_pass(name: str):
    model = language_model(name)
    drawing = Sampling(12, temperature=0.7, top_p=0.9)
    found = generate(model, PROMPTS, drawing, seeds=SEEDS, ends=range(6), record=True)
    for prompt, ids, log_q in zip(PROMPTS, found.ids, found.log_q, strict=True):
        exact = _log_probs(model, prompt, ids.tolist())
        torch.testing.assert_close(torch.from_numpy(log_q), exact, rtol=1e-4, atol=1e-4)


def test_a_rows_tokens_depend_on_its_prompt_and_seed_alone():
    model = language_model()
    drawing = Sampling(14)
    torch.manual_seed(1)
    together = _said(generate(model, PROMPTS, drawing, seeds=SEEDS, ends=[3, 4, 5]))
    torch.manual_seed(2)
    for index, prompt in enumerate(PROMPTS):
        alone = generate(model, [prompt], drawing, seeds=[SEEDS[index]], ends=[3, 4, 5])
        assert _said(alone) == [together[index]]
    others = _said(generate(model, PROMPTS, drawing, seeds=[s + 1 for s in SEEDS], ends=[3, 4, 5]))
    assert others != together


def test_generation_leaves_generators_modes_and_gradients_alone():
    model = language_model("gpt2")
    model.train()
    _inner(model).transformer.h[0].eval()
    modes = [part.training for part in model.modules()]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    generate(model, PROMPTS, Sampling(4), seeds=SEEDS, ends=[])
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_dropout_does_not_write():
    model = language_model("gpt2")
    calm = _said(generate(model, PROMPTS, Sampling(8), seeds=SEEDS, ends=[]))
    model.train()
    assert _said(generate(model, PROMPTS, Sampling(8), seeds=SEEDS, ends=[])) == calm


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_cache_is_on_under_gradient_checkpointing_and_a_config_that_forbids_it(name: str):
    model = language_model(name)
    plain = _said(generate(model, PROMPTS, Sampling(8), seeds=SEEDS, ends=[]))
    module = _inner(model)
    module.activation_checkpointing_enable()
    module.config.use_cache = False
    model.train()
    widths: list[int] = []
    module.get_input_embeddings().register_forward_hook(
        lambda _module, given, _answer: widths.append(given[0].shape[1])
    )
    assert _said(generate(model, PROMPTS, Sampling(8), seeds=SEEDS, ends=[])) == plain
    assert widths == [5, *[1] * 7]
    assert module.is_activation_checkpointing
    assert module.config.use_cache is False


def test_padding_that_looks_like_an_end_changes_nothing():
    model = language_model()
    prompts = [[3, 3, 3, 9], [3], [7, 3]]
    found = [
        _said(generate(model, prompts, Sampling(10), seeds=SEEDS[:3], ends=[3], pad=pad))
        for pad in (0, 3)
    ]
    assert found[0] == found[1]


def test_a_response_ends_with_its_end_token_or_is_marked_as_cut():
    model = language_model()
    found = generate(model, PROMPTS * 4, Sampling(6), seeds=range(16), ends=[1, 2, 3, 4, 5, 6, 7])
    assert 0 < found.ended.sum() < 16
    for ids, ended in zip(found.ids, found.ended, strict=True):
        assert not set(ids[:-1].tolist()) & set(range(1, 8))
        assert (1 <= ids[-1] <= 7) == ended
        assert ended or len(ids) == 6


def test_a_response_that_ends_at_once_is_its_end_alone():
    model = language_model()
    found = generate(model, PROMPTS, Sampling(6), seeds=SEEDS, ends=range(CLASSES), record=True)
    assert [len(ids) for ids in found.ids] == [1, 1, 1, 1]
    assert found.ended.all()
    assert [len(log_q) for log_q in found.log_q] == [1, 1, 1, 1]


def test_no_prompts_are_no_responses():
    found = generate(language_model(), [], Sampling(6), seeds=[], ends=[])
    assert len(found) == 0


def test_rows_beyond_the_vocabulary_are_never_written():
    model = language_model(vocabulary=7)
    found = generate(model, PROMPTS * 8, Sampling(8), seeds=range(32), ends=[], record=True)
    assert max(int(ids.max()) for ids in found.ids) == 6
    exact = _log_probs(model, PROMPTS[0], found.ids[0].tolist())
    torch.testing.assert_close(torch.from_numpy(found.log_q[0]), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_an_adapter_writes_too():
    model = language_model()
    base = _said(generate(model, PROMPTS, Sampling(8, temperature=0), seeds=SEEDS, ends=[]))
    wrapped = get_peft_model(copy.deepcopy(_inner(model)), LoraConfig(r=2, task_type="CAUSAL_LM"))
    adapted = TappedModel(wrapped, causal=True)
    drawing = Sampling(8, temperature=0)
    assert _said(generate(adapted, PROMPTS, drawing, seeds=SEEDS, ends=[])) == base
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert _said(generate(adapted, PROMPTS, drawing, seeds=SEEDS, ends=[])) != base


def test_a_prompt_that_leaves_no_room_is_refused():
    with pytest.raises(DataError, match="come to 69 tokens: the LlamaForCausalLM sees 64"):
        generate(language_model(), PROMPTS, Sampling(64), seeds=SEEDS, ends=[])


def test_an_empty_prompt_and_a_missing_seed_are_refused():
    with pytest.raises(DataError, match="prompt 1 has no token"):
        generate(language_model(), [[1], []], Sampling(4), seeds=[1, 2], ends=[])
    with pytest.raises(DataError, match="2 prompts and 1 seeds"):
        generate(language_model(), [[1], [2]], Sampling(4), seeds=[1], ends=[])


def test_a_classifier_cannot_write():
    model = TappedModel(language_model().module)
    with pytest.raises(ModelError, match="not a causal language model"):
        generate(model, PROMPTS, Sampling(4), seeds=SEEDS, ends=[])


@pytest.mark.parametrize("said", [(0,), (9, -1.0), (9, 1.0, 0.0), (9, 1.0, 1.0, -1)])
def test_a_number_out_of_range_is_refused(said: tuple[Any, ...]):
    with pytest.raises(RecipeError, match="out of range"):
        Sampling(*said)


@pytest.mark.parametrize(
    "drawing",
    [Sampling(temperature=0.5), Sampling(top_k=5), Sampling(top_p=0.6), Sampling(9, 1.5, 0.8, 7)],
)
def test_truncation_is_that_of_transformers(drawing: Sampling):
    logits = torch.randn(5, 20) * 2
    theirs = logits / drawing.temperature
    none = torch.zeros(5, 1, dtype=torch.int64)
    if drawing.top_k:
        theirs = TopKLogitsWarper(drawing.top_k)(none, theirs)  # pyright: ignore
    if drawing.top_p < 1:
        theirs = TopPLogitsWarper(drawing.top_p)(none, theirs)  # pyright: ignore
    torch.testing.assert_close(drawing.probabilities(logits), theirs.softmax(-1))


def test_a_draw_falls_where_its_number_does_and_never_on_nothing():
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).repeat(5, 1)
    numbers = torch.tensor([0.0, 0.2499, 0.25, 0.9, 1 - 2**-53], dtype=torch.float64)
    assert drawn(probabilities, numbers).tolist() == [1, 1, 3, 3, 3]


def test_a_draw_among_many_classes_is_where_the_cumulated_probabilities_say():
    probabilities = torch.softmax(4 * torch.randn(64, 1000).double(), -1)
    probabilities[:, 300:600] = 0.0
    numbers = torch.rand(64, dtype=torch.float64)
    cumulated = probabilities.cumsum(-1)
    exact = torch.searchsorted(cumulated, numbers[:, None] * cumulated[:, -1:], right=True)
    assert drawn(probabilities, numbers).tolist() == exact.squeeze(-1).tolist()


def test_draws_follow_the_distribution():
    model = language_model(vocabulary=6)
    prompts = [[1, 2, 3]] * 4000
    drawing = Sampling(1, temperature=1.3)
    found = generate(model, prompts, drawing, seeds=range(4000), ends=[])
    seen = np.bincount(np.concatenate(found.ids), minlength=6)
    with torch.no_grad():
        logits = _inner(model)(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1, :6].double()
    expected = 4000 * torch.softmax(logits / 1.3, -1).numpy()
    assert chisquare(seen, expected).pvalue > 1e-3


def _mixed_expectation(models: list[TappedModel], prompt: list[int], share: float) -> np.ndarray:
    """The exact probability of each two tokens, [6 * 6]."""
    table = np.zeros((6, 6))
    for first in range(6):
        for second in range(6):
            each = [_log_probs(model, prompt, [first, second]).double().exp() for model in models]
            steps = share * each[1] + (1 - share) * each[0]
            table[first, second] = steps.prod().item()
    return table.ravel()


def test_mixed_sampling_follows_the_exact_mixture_at_every_step():
    student, teacher = (language_model(n, 3, vocabulary=6) for n in ("llama", "gpt2"))
    count = 6000
    found = generate_mixed(
        student,
        teacher,
        [[1, 2, 3]] * count,
        teacher_share=0.3,
        max_new=2,
        seeds=range(count),
        ends=[],
    )
    pairs = np.stack(found.ids)
    seen = np.bincount(pairs[:, 0] * 6 + pairs[:, 1], minlength=36)
    exact = _mixed_expectation([student, teacher], [1, 2, 3], 0.3)
    assert exact.sum() == pytest.approx(1, abs=1e-5)
    large = exact * count >= 5
    assert large.sum() > 10
    seen = np.append(seen[large], seen[~large].sum() + 5)
    exact = np.append(exact[large], exact[~large].sum() + 5 / count)
    assert chisquare(seen, exact / exact.sum() * seen.sum()).pvalue > 1e-3


def test_mixed_sampling_records_both_models_and_the_mixture():
    student, teacher = (language_model("gemma2", seed) for seed in (1, 2))
    found = generate_mixed(
        student, teacher, PROMPTS, teacher_share=0.2, max_new=12, seeds=SEEDS, ends=range(6)
    )
    each = zip(PROMPTS, found.ids, found.log_q, found.log_p, found.log_drawn, strict=True)
    for prompt, ids, log_q, log_p, log_drawn in each:
        exact_q = _log_probs(student, prompt, ids.tolist()).numpy()
        exact_p = _log_probs(teacher, prompt, ids.tolist()).numpy()
        np.testing.assert_allclose(log_q, exact_q, atol=1e-4)
        np.testing.assert_allclose(log_p, exact_p, atol=1e-4)
        mixed = np.log(0.2 * np.exp(exact_p) + 0.8 * np.exp(exact_q))
        np.testing.assert_allclose(log_drawn, mixed, atol=1e-4)


def test_a_mixture_of_different_vocabularies_or_of_one_writer_is_refused():
    student, teacher = language_model(vocabulary=5), language_model(vocabulary=6)

    def mixed(share: float) -> Generated:
        return generate_mixed(
            student, teacher, PROMPTS, teacher_share=share, max_new=2, seeds=SEEDS, ends=[]
        )

    with pytest.raises(ModelError, match="5 classes and the teacher 6"):
        mixed(0.2)
    with pytest.raises(ModelError, match="a mixture gives both"):
        mixed(0.0)
