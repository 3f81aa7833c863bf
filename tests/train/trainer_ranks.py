"""Run by test_trainer.py under torchrun: what transformers' Trainer makes of two processes."""

import sys
from pathlib import Path

from safetensors.torch import save_file

from tests.train.sentences import language_model
from tests.train.test_trainer import trainer_of


def main(out: Path) -> None:
    student = language_model(1)
    trainer, _ = trainer_of(student, out / "trainer", accumulate=2, processes=2)
    trainer.train()
    if trainer.is_world_process_zero():
        tensors = {n: p.detach().clone() for n, p in student.module.named_parameters()}
        save_file(tensors, out / "student.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
