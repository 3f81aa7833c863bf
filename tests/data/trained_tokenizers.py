"""Different tokenisers of the same texts, trained on the spot: what tests of two of them share."""

import json
from functools import cache
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "the answer is 1234 + 5678 = 6912, so the answer is 6912.",
    "12 times 12 is 144; 144 and 12 make 156. 1000 2000 3000",
    "naïve café: 中文字符 🙂 straße, the café is naïve",
    "def answer(x):\n    return x + 12\n\n  two  spaces",
    "The sum of 5678 and 1234 is 6912. The end.",
] * 4


@cache
def bpe(
    *, vocabulary: int = 330, digits: bool = False, end: str = "<eos>", bos: bool = False
) -> Any:
    """A byte-level BPE; `digits` splits numerals into digits, else they are merged."""
    made = Tokenizer(models.BPE())
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    made.decoder = decoders.ByteLevel()
    special = [end, "<bos>"] if bos else [end]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", made.token_to_id("<bos>"))]
        )
    names = {"bos_token": "<bos>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, **names)


@cache
def characters() -> Any:
    """One token a character; what it does not know is `<unk>`."""
    alphabet = sorted({c for text in TEXTS for c in text} | set("abcdefghijklmnopqrstuvwxyz?!"))
    vocabulary = {token: i for i, token in enumerate(["</s>", "<unk>", *alphabet])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["</s>", "<unk>"])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")


@cache
def sentencepiece_like() -> Any:
    """Metaspace marks, byte fallback for rare characters, a space before the first word."""
    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>", "</s>"], show_progress=False, limit_alphabet=40
    )
    learned.train_from_iterator(TEXTS, trainer)
    model = json.loads(learned.to_str())["model"]
    known = dict(model["vocab"])
    known |= {f"<0x{byte:02X}>": len(known) + byte for byte in range(256)}
    merges = [tuple(merge) for merge in model["merges"]]
    made = Tokenizer(models.BPE(known, merges, unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1),
        ]
    )
    made.add_special_tokens(["<unk>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")


@cache
def wordpiece() -> Any:
    """BERT's: lower case, spaces lost, `##` for what continues a word."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=160, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", sep_token="[SEP]", cls_token="[CLS]"
    )


def ids(tokenizer: Any, text: str) -> list[int]:
    """A text's tokens and nothing else."""
    return tokenizer.encode(text, add_special_tokens=False)
