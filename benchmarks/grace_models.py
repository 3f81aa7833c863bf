"""Small language models of the reproduction: made, trained on rows of text, asked, written with.

Dimension key: n prompts, k samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from grace_problems import ALPHABET, LONGEST

from preceptor.data.chat import Rendering
from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.data.tokenizers import character_tokenizer
from preceptor.models.generate import generate
from preceptor.models.load import load_model
from preceptor.models.sampling import Sampling
from preceptor.models.tapped import TappedModel
from preceptor.objectives.ce import CE
from preceptor.teachers.nobody import Nobody
from preceptor.train.fit import fit
from preceptor.train.plan import OptimizerPlan, Plan, SchedulePlan

_AT_ONCE = 2048
"""Rows that are written together; of one length, so that nothing is padded."""


@dataclass(frozen=True)
class Training:
    """How long and how fast; AdamW, clipped at 1, cosine with a short warm-up."""

    steps: int
    batch: int
    lr: float

    def lasting(self, steps: int) -> "Training":
        """The same for another number of steps."""
        return replace(self, steps=steps)

    def plan(self) -> Plan:
        """As `fit` takes it."""
        return Plan(
            steps=self.steps,
            batch=self.batch,
            clip=1.0,
            optimizer=OptimizerPlan(name="adamw", lr=self.lr),
            schedule=SchedulePlan(name="cosine", warmup=0.05),
        )


@cache
def rendering() -> Rendering:
    """One token a character; prompt and working joined as they are, an end after them."""
    return Rendering(character_tokenizer([ALPHABET]), LONGEST, plain=True)


def model(architecture: str, width: int, seed: int) -> TappedModel:
    """Two layers of four heads with fresh weights: "llama", or "olmo2" with its late norms."""
    torch.manual_seed(seed)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 128}
    size = {"vocab_size": rendering().vocabulary}
    return load_model({"causal": {"model_type": architecture, **size, **shape, **heads, **ids}})


def trained(taught: TappedModel, rows: Sequence[Row], how: Training, seed: int) -> TappedModel:
    """The same model, after next-token training on the rows' responses (whole, of documents)."""
    source = TextSource(TextSet(rows, rendering()), batch=how.batch, seed=seed, bucket=8)
    for _ in fit(taught, Nobody(), CE(), source, how.plan(), seed=seed):
        pass
    return taught.eval()


def responses(
    writer: TappedModel, rows: Sequence[Row], each: int, temperature: float, seed: int
) -> list[list[str]]:
    """`each` responses to every prompt, without their end; those that find none are cut."""
    texts, made = TextSet(rows, rendering(), name="prompts"), rendering()
    assert made.end is not None
    prompts = [ids for ids in texts.prompts(range(len(rows))) for _ in range(each)]
    most = LONGEST - max(len(ids) for ids in prompts) - 1
    seeds = [seed * 10_000_019 + at for at in range(len(prompts))]
    found: list[str] = []
    for start in range(0, len(prompts), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        sampling = Sampling(most, temperature)
        told = generate(
            writer, prompts[part], sampling, seeds=seeds[part], ends=[made.end], pad=made.pad
        )
        found += [made.tokenizer.decode(ids, skip_special_tokens=True) for ids in told.ids]
    return [found[at : at + each] for at in range(0, len(found), each)]
