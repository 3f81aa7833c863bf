"""TRL's own training step of its GKD trainer, on batches that cost it nothing."""

# pyright: reportMissingImports=false
# TRL is installed in the environment that `on_policy.py` makes, and nowhere else.

from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from datasets import Dataset
from language_setting import Language
from trl.experimental.gkd import GKDConfig, GKDTrainer


def steps(setting: Language, share: float, *, recompute: bool) -> Iterator[float]:
    """The peer's steps: its collator's batches, its loss, its generation, its optimizer.

    Args:
        setting: models, rows and lengths.
        share: lambda.
        recompute: gradient checkpointing, which its configuration has on; generation then has
            no key-value cache.
    """
    trainer = _trainer(setting, share, recompute)
    optimizer = trainer.create_optimizer()
    model = trainer.model
    model.train()
    batches = [trainer.data_collator(rows) for rows in _rows(setting)]
    while True:
        for batch in batches:
            inputs = {name: tensor.clone() for name, tensor in batch.items()}
            count = torch.tensor(setting.batch * setting.new)
            loss = trainer.training_step(model, inputs, num_items_in_batch=count)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            yield float(loss)


def _trainer(setting: Language, share: float, recompute: bool) -> Any:
    teacher, student = setting.pair()
    config = GKDConfig(
        output_dir=str(Path(mkdtemp(prefix="trl-"))),
        use_cpu=True,
        lmbda=share,
        beta=0.5,
        temperature=1.0,
        max_new_tokens=setting.new,
        max_length=setting.prompt + setting.new,
        per_device_train_batch_size=setting.batch,
        gradient_accumulation_steps=1,
        gradient_checkpointing=recompute,
        bf16=False,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
    )
    return GKDTrainer(
        model=student.module,
        teacher_model=teacher.module,
        args=config,
        train_dataset=Dataset.from_list([row for rows in _rows(setting) for row in rows]),
        processing_class=setting.tokenizer(),
    )


def _rows(setting: Language) -> list[list[dict[str, Any]]]:
    """The same tokens as ours, batch by batch."""
    source = setting.source()
    batches: list[list[dict[str, Any]]] = []
    for step in range(source.steps_per_epoch):
        drawn = source.drawn(step)
        prompts, responses = source.texts.prompts(drawn), source.texts.responses(drawn)
        batches.append(
            [
                {
                    "prompt": "",
                    "input_ids": [*prompt.tolist(), *response.tolist()],
                    "completion_mask": [0] * len(prompt) + [1] * len(response),
                }
                for prompt, response in zip(prompts, responses, strict=True)
            ]
        )
    return batches
