"""A small language model learns to sort letters from a larger one: rows, models, answers.

The same objects as a recipe makes: rows become a set of batches, a Llama of transformers shows its
hidden states and its head, and `fit` trains. At the end each model writes its answers.

    python examples/language_model.py        # about fifteen seconds on one core
"""

import random
from typing import Any

import torch

from preceptor import (
    CE,
    KD,
    Live,
    Nobody,
    OptimizerPlan,
    Plan,
    Rendering,
    Sampling,
    TappedModel,
    TextSet,
    TextSource,
    fit,
    generate,
    load_model,
    read_rows,
)
from preceptor.data.rows import Rows
from preceptor.data.tokenizers import character_tokenizer


def letters(count: int, seed: int) -> Rows:
    """Rows as a JSONL file would have them."""
    draw = random.Random(seed)
    words = ["".join(draw.sample("abcdefgh", 4)) for _ in range(count)]
    return read_rows(
        [{"prompt": f"{word}>", "completion": "".join(sorted(word))} for word in words]
    )


def llama(width: int, classes: int, seed: int) -> TappedModel:
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    torch.manual_seed(seed)
    return load_model({"causal": config, "classes": classes})


def accuracy(model: TappedModel, texts: TextSet) -> float:
    rows = range(len(texts))
    said = generate(
        model,
        texts.prompts(rows),
        Sampling(max_new=6, temperature=0.0),
        seeds=rows,
        ends={texts.rendering.tokenizer.eos_token_id},
    )
    answers = [texts.rendering.tokenizer.decode(ids, skip_special_tokens=True) for ids in said.ids]
    return sum(answers[i] == texts.row(i).completion for i in rows) / len(texts)


def main() -> None:
    rows, unseen = letters(800, seed=0), letters(100, seed=1)
    tokenizer = character_tokenizer(f"{row.prompt}{row.completion}" for row in rows)
    rendering = Rendering(tokenizer, max_length=16, plain=True)
    texts, test = TextSet(rows, rendering), TextSet(unseen, rendering)

    teacher = llama(48, len(tokenizer), seed=0)
    plan = Plan(200, optimizer=OptimizerPlan(name="adamw", lr=5e-3))
    for _ in fit(teacher, Nobody(), CE(), TextSource(texts, batch=32), plan):
        pass
    student = llama(16, len(tokenizer), seed=1)
    objective = 0.1 * CE() + 0.9 * KD(temperature=1)
    for losses in fit(student, Live(teacher), objective, TextSource(texts, batch=32), plan):
        if losses.step % 50 == 0:
            terms = ", ".join(f"{name} {value:.3f}" for name, value in losses.terms.items())
            print(f"step {losses.step}: {terms}")
    print(f"the teacher sorts {accuracy(teacher, test):.0%} of {len(test)} words")
    print(f"the student sorts {accuracy(student, test):.0%}")


if __name__ == "__main__":
    main()
