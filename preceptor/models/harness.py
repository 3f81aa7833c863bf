"""Any task of EleutherAI's lm-evaluation-harness on a model in memory, item by item.

A task is one of the harness's own YAML files, read from the disk with the data that it names, so
nothing is asked of a hub. The harness's own class scores: numbers are those that others publish.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from preceptor.errors import ModelError, RecipeError
from preceptor.models.causal import bare
from preceptor.models.dry import keeping_modes
from preceptor.models.quiet import quiet
from preceptor.models.tapped import TappedModel


@final
@dataclass(frozen=True)
class Harnessed:
    """What the harness found of one model on one task.

    Args:
        task: its name.
        items: one number an item, by metric, in the order of the task's items; "METRIC,FILTER"
            where a task filters answers in several ways.
        less: metrics of which less is better.
        totals: what the harness aggregated, by metric; also what has no number an item.
        version: of the harness.
    """

    task: str
    items: Mapping[str, Float[np.ndarray, " n"]]
    less: frozenset[str]
    totals: Mapping[str, float]
    version: str


def run_task(model: TappedModel, tokenizer: Any, task: Path, *, batch: int = 8) -> Harnessed:
    """Score a causal language model on a task.

    Args:
        model: a causal one; its modes are afterwards as before.
        tokenizer: its own, of transformers.
        task: a YAML file of the harness with a name under `task`; paths in it are relative to its
            folder.
        batch: examples at once.

    Errors:
        ModelError: no causal language model, or the harness is not installed.
        RecipeError: no such task.
    """
    if not model.causal:
        raise ModelError(
            f"a {type(model.module).__name__} was given to lm-evaluation-harness",
            "its tasks are for models that write text",
            "Give a causal language model.",
        )
    name = _name(task)
    with quiet("lm_eval"), keeping_modes(model), _tokens_alone(model), torch.no_grad():
        lm_eval, lm, manager = _harness()
        model.eval()
        with chdir(task.parent):
            found = lm_eval.simple_evaluate(
                model=lm(pretrained=bare(model.module), tokenizer=tokenizer, batch_size=batch),
                tasks=[name],
                task_manager=manager(include_path=".", include_defaults=False),
                bootstrap_iters=0,
                log_samples=True,
            )
    items = _items(found["samples"][name])
    higher = found.get("higher_is_better", {}).get(name, {})
    totals = {
        key.removesuffix(",none"): float(value)
        for key, value in found["results"][name].items()
        if isinstance(value, float) and "_stderr" not in key
    }
    less = frozenset(key for key in totals if higher.get(key.partition(",")[0]) is False)
    return Harnessed(name, items, less, totals, lm_eval.__version__)


def _name(task: Path) -> str:
    """The task's own name, out of its file; its other keys are the harness's business."""
    lines = task.read_text(encoding="utf-8").splitlines() if task.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("task:")]
    if len(names) != 1 or not names[0]:
        seen = "no line `task: NAME` is in it" if task.is_file() else "there is no such file"
        raise RecipeError(
            f"the task {task}", seen, "Give a task file of lm-evaluation-harness, TASK.yaml."
        )
    return names[0].strip("\"'")


def _harness() -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    try:
        import lm_eval  # pyright: ignore[reportMissingImports]
        from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ModelError(
            "a task of lm-evaluation-harness was asked for",
            f"it is not installed ({error})",
            "Install the optional extra: pip install 'preceptor[lm-eval]'.",
        ) from error
    return lm_eval, HFLM, TaskManager


def _items(samples: list[dict[str, Any]]) -> dict[str, Float[np.ndarray, " n"]]:
    """Numbers by metric, in the order of the documents; a list or a pair is no number."""
    filters = {each.get("filter", "none") for each in samples}
    found: dict[str, dict[int, float]] = {}
    for each in samples:
        for metric in each["metrics"]:
            value = each[metric]
            if isinstance(value, bool | int | float | np.number):
                key = metric if len(filters) == 1 else f"{metric},{each['filter']}"
                found.setdefault(key, {})[each["doc_id"]] = float(value)
    return {
        key: np.array([values[document] for document in sorted(values)])
        for key, values in found.items()
    }


@contextmanager
def _tokens_alone(model: TappedModel) -> Iterator[None]:
    """Rows of the head that no token has get no probability, as when the model was trained."""

    def masked(module: Any, given: Any, answer: Any) -> Any:
        del module, given
        logits: Tensor = answer.logits
        logits[..., model.vocabulary :] = -torch.inf
        return answer

    if not model.vocabulary:
        yield
        return
    handle = bare(model.module).register_forward_hook(masked)
    try:
        yield
    finally:
        handle.remove()
