"""A pair of language models that is timed, on rows that need no download."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from preceptor.data.chat import Rendering
from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.data.text_source import TextSource
from preceptor.models.tapped import TappedModel

_END = "</s>"


@dataclass(frozen=True)
class Language:
    """Two Llamas over the same words, and rows of one length: what a word says changes no time.

    Args:
        vocabulary: words.
        student, teacher: widths; a model has `width // 64` heads.
        layers: of each.
        prompt, new: tokens of a prompt and of its response, the end token included.
        batch: rows a step.
    """

    vocabulary: int = 32_768
    student: int = 256
    teacher: int = 512
    layers: int = 4
    prompt: int = 32
    new: int = 96
    batch: int = 4

    def model(self, width: int, seed: int) -> TappedModel:
        """One of the two, freshly drawn; nothing ends a response before its time."""
        from transformers import AutoModelForCausalLM, LlamaConfig

        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=self.layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=None,
        )
        return TappedModel(AutoModelForCausalLM.from_config(config), causal=True)

    def pair(self) -> tuple[TappedModel, TappedModel]:
        """Teacher (in eval mode) and student; the same at every call."""
        return self.model(self.teacher, 1).eval(), self.model(self.student, 2)

    def tokenizer(self) -> Any:
        """One token a word; prompts and completions are joined as they are."""
        return _words(self.vocabulary)

    def source(self, rows: int = 32) -> TextSource:
        """Random words as training draws them."""
        drawn = np.random.default_rng(0).integers(
            1, self.vocabulary, size=(rows, self.prompt + self.new - 1)
        )
        texts = [" ".join(f"w{word}" for word in row) for row in drawn]
        cut = [text.split(" ") for text in texts]
        said = [
            Row(
                i,
                f"row {i}",
                prompt=" ".join(words[: self.prompt]),
                completion=" " + " ".join(words[self.prompt :]),
            )
            for i, words in enumerate(cut)
        ]
        rendering = Rendering(self.tokenizer(), self.prompt + self.new)
        return TextSource(TextSet(said, rendering), batch=self.batch)


@cache
def _words(count: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {_END: 0, **{f"w{i}": i for i in range(1, count)}}
    made = Tokenizer(models.WordLevel(known, unk_token=_END))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([_END])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=_END, pad_token=_END)
