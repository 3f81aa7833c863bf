"""Tokenizers and templates for tests."""

from collections.abc import Sequence
from typing import Any

from preceptor.data.rows import Row
from preceptor.data.tokenizers import bpe_tokenizer, character_tokenizer

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A turn's end, then a line's end that nobody generates."""

THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% endif %}"
)
"""As Qwen3's: the last turn thinks, earlier ones have forgotten that they did."""


def characters(template: str | None = CHATML) -> Any:
    """One token for each printable ASCII character."""
    tokenizer = character_tokenizer(["".join(map(chr, range(32, 127))) + "\n"])
    tokenizer.chat_template = template
    return tokenizer


def pieces(template: str | None = CHATML, size: int = 400) -> Any:
    """Byte pairs, some of which join a blank and a word."""
    text = "the sum of two and three is five, and the answer is yes. " * 20
    tokenizer = bpe_tokenizer([text, "hello there, how are you? " * 20], size)
    tokenizer.chat_template = template
    return tokenizer


def turns(*said: str, roles: Sequence[str] = ("user", "assistant")) -> tuple[dict[str, str], ...]:
    """A conversation whose roles take turns."""
    return tuple({"role": roles[i % len(roles)], "content": text} for i, text in enumerate(said))


def chat(*said: str, number: int = 0, **more: Any) -> Row:
    """A row of turns, user first."""
    return Row(number, f"chat.jsonl:{number + 1}", messages=turns(*said), **more)


def ask(prompt: str, completion: str | None = None, number: int = 0, **more: Any) -> Row:
    """A row of a prompt and perhaps its completion."""
    return Row(number, f"ask.jsonl:{number + 1}", prompt=prompt, completion=completion, **more)


def document(text: str, number: int = 0) -> Row:
    """A row of text."""
    return Row(number, f"text.txt:{number + 1}", text=text)
