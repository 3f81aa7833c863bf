"""On-policy distillation in a loop of your own: transformers' models, plain PyTorch, no `fit`.

The student continues a prompt, the teacher is asked about every token of what it wrote, and GKD's
divergence moves the student: an objective works on plain logits. Which positions count is said by
a mask; labels are not read.

    python examples/on_policy_loop.py        # about fifteen seconds on one core
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from preceptor import GKD

DIGITS, END, PROMPT, MOST = 10, 10, 4, 5


def llama(width: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=DIGITS + 1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=END,
    )
    return LlamaForCausalLM(config)


def prompts(count: int) -> Tensor:
    return torch.randint(DIGITS, (count, PROMPT))


def answered(numbers: Tensor) -> Tensor:
    """Digits, the same digits in order, and the end."""
    end = torch.full((len(numbers), 1), END)
    return torch.cat([numbers, numbers.sort(dim=1).values, end], dim=1)


def trained(model: LlamaForCausalLM, steps: int) -> LlamaForCausalLM:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        ids = answered(prompts(64))
        logits = model(ids).logits[:, PROMPT - 1 : -1]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, PROMPT:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def written(model: LlamaForCausalLM, numbers: Tensor, *, sample: bool) -> tuple[Tensor, Tensor]:
    """Prompts with what the model writes after them, and which positions predict a written token.

    The token that ends a response counts, whatever stands after it does not: the padding has the
    same id, so places decide and not ids.
    """
    writer: Any = model
    ids = writer.generate(
        numbers,
        attention_mask=torch.ones_like(numbers),
        max_new_tokens=MOST,
        do_sample=sample,
        **({"top_k": 0} if sample else {}),
    )
    ended = (ids[:, PROMPT:] == END).long().cumsum(dim=1)
    before = F.pad(ended, (1, 0))[:, :-1]
    counts = torch.zeros(len(ids), ids.shape[1] - 1, dtype=torch.bool)
    counts[:, PROMPT - 1 :] = before == 0
    return ids, counts


def right(model: LlamaForCausalLM, numbers: Tensor) -> float:
    ids, _ = written(model, numbers, sample=False)
    wanted = answered(numbers)
    ids = F.pad(ids, (0, wanted.shape[1] - ids.shape[1]), value=END)
    return float((ids == wanted).all(dim=1).float().mean())


def main() -> None:
    torch.set_num_threads(1)
    teacher, student = trained(llama(48, seed=0), 250), trained(llama(16, seed=1), 100)
    test = prompts(200)
    print(f"teacher {right(teacher, test):.0%}, student before {right(student, test):.0%}")
    objective = GKD(beta=0.9)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for _ in range(120):
        ids, counts = written(student, prompts(64), sample=True)
        with torch.no_grad():
            teacher_logits = teacher(ids).logits[:, :-1]
        loss = objective.on(
            student_logits=student(ids).logits[:, :-1], teacher_logits=teacher_logits, mask=counts
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"after learning from what it wrote itself {right(student, test):.0%}")


if __name__ == "__main__":
    main()
