"""Rows of a recipe's text become batches: streamed, packed, sorted by length."""

from pathlib import Path
from typing import Any

import pytest
import torch

from preceptor.data.text_stream import TextStream
from preceptor.errors import PreceptorError
from preceptor.recipe.load import recipe_of
from preceptor.recipe.models import CausalModel
from preceptor.recipe.text_subject import TextSubject
from preceptor.train.plan import Plan
from preceptor.verbs.check import check
from tests.verbs.small import ran
from tests.verbs.text import ADAM, sums, written_recipe


def tokenizer_folder(folder: Path) -> str:
    """A tokenizer of its own, as a stream needs one."""
    from preceptor.data.tokenizers import character_tokenizer

    character_tokenizer(["0123456789+="]).save_pretrained(folder)
    return str(folder)


def streamed(folder: Path, **data: Any) -> dict[str, Any]:
    recipe = written_recipe(sums(folder / "train.jsonl"))
    test = sums(folder / "test.jsonl", 30)
    recipe["data"] |= {
        "source": {"train": str(folder / "train.jsonl"), "test": str(test)},
        "tokenizer": tokenizer_folder(folder / "tokenizer"),
        "streamed": 16,
        **data,
    }
    return recipe


def subject_of(recipe: dict[str, Any]) -> TextSubject:
    read = recipe_of(recipe)
    model = read.student.model
    assert isinstance(model, CausalModel)
    return TextSubject(read.data, model, [], {})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_over_a_stream_ends_with_a_report(tmp_path: Path, packed: bool) -> None:
    recipe = streamed(tmp_path, packed=packed)
    assert "a stream to train on, 3 validation, 27 test rows" in str(
        check(recipe_of(recipe), deep=True)
    )
    report = ran(recipe, tmp_path / "run")
    own, control = (set(report.arm(name).measures) for name in ("distilled", "control"))
    assert own - control == {"flips_won", "flips_lost", "asymmetry"}, "measured against the control"
    assert control <= own


def test_of_a_stream_only_the_first_rows_are_held(tmp_path: Path) -> None:
    subject = subject_of(streamed(tmp_path))
    source = subject.plain_source(Plan(steps=10, batch=12), seed=0)
    assert (len(subject.train), subject.num_examples) == (16, 0)
    seen = torch.cat([source.take().ids for _ in range(10)])
    assert isinstance(source, TextStream)
    assert seen.unique().tolist() == list(range(120))


def test_a_packed_stream_holds_the_same_positions_in_fewer_sequences(tmp_path: Path) -> None:
    apart, together = (
        subject_of(streamed(tmp_path, packed=packed)).plain_source(Plan(steps=9, batch=12), 0)
        for packed in (False, True)
    )
    for _ in range(9):
        one, other = apart.take(), together.take()
        places = [
            sorted(
                zip(
                    batch.extra["row"][batch.mask("all")].tolist(),
                    batch.extra["offset"][batch.mask("all")].tolist(),
                    batch.labels[batch.mask("all")].tolist(),
                    strict=True,
                )
            )
            for batch in (one, other)
        ]
        assert places[0] == places[1]
        assert len(other.labels) < len(one.labels)


def test_processes_share_a_packed_stream(tmp_path: Path) -> None:
    recipe, plan = streamed(tmp_path, packed=True), Plan(steps=9, batch=12)
    alone, *ranks = (subject_of(recipe).plain_source(plan, 0) for _ in range(3))
    whole, parts = alone.take(), [source.take(rank, 2) for rank, source in enumerate(ranks)]
    assert len({tuple(part.labels.shape) for part in parts}) == 1
    rows = torch.cat([part.extra["row"][part.mask("all")] for part in parts])
    assert sorted(rows.tolist()) == sorted(whole.extra["row"][whole.mask("all")].tolist())


@pytest.mark.parametrize(
    ("data", "stage", "words"),
    [
        ({"source": "rows.jsonl"}, {}, "cannot be divided into parts first"),
        ({"tokenizer": {"characters": True}}, {}, "made from the whole training text"),
        ({"bucket": 4}, {}, "buckets of 4 steps"),
        ({}, {"plan": {"epochs": 1, "batch": 8, "optimizer": ADAM}}, "Say plan.steps"),
        ({}, {"rollouts": {"gkd": {"most": 3}}}, "gkd with data.streamed"),
    ],
)
def test_what_a_stream_cannot_give_is_refused_in_words(
    tmp_path: Path, data: dict[str, Any], stage: dict[str, Any], words: str
) -> None:
    recipe = streamed(tmp_path, **data)
    recipe["stages"][0] |= stage
    with pytest.raises(PreceptorError) as refused:
        check(recipe_of(recipe), deep=True)
    assert words in str(refused.value)


def test_a_cache_of_a_stream_is_refused_in_words(tmp_path: Path) -> None:
    recipe = streamed(tmp_path)
    recipe["teacher"] = {
        "cached": {
            "teacher": recipe["teacher"],
            "folder": str(tmp_path / "cache"),
            "keep": {"top_k": 4},
        }
    }
    with pytest.raises(PreceptorError, match=r"a cache with data\.streamed"):
        ran(recipe, tmp_path / "run")


def test_rows_of_like_length_share_a_batch(tmp_path: Path) -> None:
    texts = [{"text": "1" * (1 + i % 20)} for i in range(80)]
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{t["text"]}"}}\n' for t in texts))
    recipe = written_recipe(tmp_path / "texts.jsonl")
    del recipe["data"]["verify"]
    room = []
    for bucket in (1, 8):
        recipe["data"]["bucket"] = bucket
        source = subject_of(recipe).plain_source(Plan(steps=8, batch=8), 0)
        room.append(sum(source.take().labels.numel() for _ in range(8)))
    assert room[1] < 0.8 * room[0]


def test_the_parts_of_a_set_on_the_hub_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def give(*names: Any, split: str, streaming: bool) -> Any:
        asked.append((*names, split, streaming))
        return datasets.Dataset.from_list([{"text": f"{i}+{i}="} for i in range(20)])

    monkeypatch.setattr(datasets, "load_dataset", give)
    recipe = written_recipe(sums(tmp_path / "unused.jsonl"))
    del recipe["data"]["verify"]
    for source in ("owner/name:en", "owner/name:en@train[:10%]"):
        recipe["data"]["source"] = {"train": source, "test": "owner/name:en"}
        subject_of(recipe)
    assert asked == [
        ("owner/name", "en", "test", False),
        ("owner/name", "en", "train", False),
        ("owner/name", "en", "test", False),
        ("owner/name", "en", "train[:10%]", False),
    ]
