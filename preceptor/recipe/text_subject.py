"""Text as a recipe's subject: see `recipe.subject`."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import nn

from preceptor.data.joined_source import JoinedSource, coverage_of
from preceptor.data.rows import fingerprint
from preceptor.data.source import Source
from preceptor.data.text import TextSet
from preceptor.data.tokenizers import same_ids
from preceptor.data.verifiers import final_answer
from preceptor.errors import RecipeError, TeacherFailure
from preceptor.evaluate.confidences import Confidences
from preceptor.evaluate.contamination import Contamination, of_text
from preceptor.evaluate.results import Losses, SeedResult
from preceptor.models.load import load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.recipe.answered import answered, require_able
from preceptor.recipe.data import TextData
from preceptor.recipe.drawing import Drawing
from preceptor.recipe.models import AnyModel
from preceptor.recipe.rollouts import DistillmRollouts, SequenceFields, SequenceRollouts
from preceptor.recipe.schema import Stage
from preceptor.recipe.subject import MOST_TRAINING, Answers, Subject, Taught, of_training
from preceptor.recipe.teachers import CachedFields
from preceptor.recipe.text_answers import (
    BESIDE,
    EVALUATION_BATCH,
    SIZES,
    SURENESS,
    WithLogits,
    chosen,
    parted,
    predicted,
    written,
)
from preceptor.recipe.texts import (
    DATA_SEED,
    language_model,
    parts_of,
    passage,
    rendering_of,
    require_room,
    require_tokens,
    tokenizer_of,
)
from preceptor.recipe.token_stores import cached_tokens
from preceptor.recipe.voice import Voice
from preceptor.recipe.writing import rollouts
from preceptor.students.bases import evenly
from preceptor.synthesis.adaptive import AdaptiveRollouts
from preceptor.teachers.base import Teacher
from preceptor.train.plan import Plan
from preceptor.types import Inputs, Needs

_LOOKED_AT = 200
"""Rows by which it is told how much two tokenisers share."""
_CHECKED = 64
"""Held-out rows on which a teacher shows that it knows anything."""


@final
class TextSubject(Subject):
    """Conversations, prompts with completions, or documents, as one tokenizer reads them."""

    def __init__(
        self,
        said: TextData,
        student: AnyModel,
        teachers: Sequence[AnyModel],
        readers: Mapping[str, Needs],
    ) -> None:
        """`readers` says what each method of the recipe reads, by name."""
        self.said = said
        self.parts = parts_of(said)
        self.tokenizer = tokenizer_of(said, student, self.parts.train)
        self.rendering = rendering_of(said, self.tokenizer)
        self.voice = Voice.of(said, self.tokenizer, teachers, readers)
        self.primary = "bits_per_byte" if said.verify is None else "accuracy"
        self.num_classes = self.voice.classes
        self.drawing = Drawing(said, self.parts.stream)
        self.num_examples = 0 if self.parts.stream else len(self.train)
        if self.voice.joining is not None:
            self.drawing.require_held("two tokenisers")

    @cached_property
    def train(self) -> TextSet:
        """The training part, rendered."""
        return TextSet(self.parts.train, self.rendering, self.voice.rendering, name="training")

    @cached_property
    def validation(self) -> TextSet:
        """The validation part, rendered."""
        return TextSet(
            self.parts.validation, self.rendering, self.voice.rendering, name="validation"
        )

    @cached_property
    def test(self) -> TextSet:
        """The test part, rendered."""
        return TextSet(self.parts.test, self.rendering, self.voice.rendering, name="test")

    @property
    def labels(self) -> np.ndarray:
        """The test rows' numbers."""
        return np.arange(len(self.test))

    @property
    def test_items(self) -> str:
        """Of what the rows say, and how much of it is scored; tokenizers may differ."""
        scored = hashlib.sha256(self.test.bytes(np.arange(len(self.test))).tobytes())
        return f"{fingerprint(self.test.rows)}{scored.hexdigest()}"

    def describe(self) -> str:
        """Sizes of the three parts, and the vocabulary."""
        trained = (
            f"{len(self.train)} train" if self.parts.stream is None else "a stream to train on"
        )
        sizes = f"{trained}, {len(self.validation)} validation, {len(self.test)} test"
        skipped = len(self.parts.skipped())
        left_out = f", {skipped} broken rows skipped" if skipped else ""
        which = "training tokens" if self.parts.stream is None else "tokens in its first rows"
        tokens = f"{int(self.train.lengths.sum()):,} {which} of {self.num_classes:,}"
        return f"{sizes} rows{left_out}, {tokens}{self.voice.sentence()}"

    def remarks(self) -> tuple[str, ...]:
        """Rows that were left out; how much of the text two tokenisers share."""
        if self.voice.joining is None:
            return self.left_out()
        rows = np.arange(min(_LOOKED_AT, len(self.train)))
        found = coverage_of(self.train, self._foreign, self.voice.joining, rows)
        told = f"two tokenisers: of {len(rows)} training rows, {found.sentence()}"
        return (*self.left_out(), told)

    def left_out(self) -> tuple[str, ...]:
        """What of the data was skipped as broken, or dropped as too long."""
        found = [
            f"{len(texts.dropped)} {part} rows are longer than {self.said.max_length} tokens and "
            f"were dropped, the first of them {texts.dropped[0]}"
            for part, texts in zip(
                ("training", "validation", "test"),
                (self.train, self.validation, self.test),
                strict=True,
            )
            if texts.dropped
        ]
        if skipped := self.parts.skipped():
            few = "; ".join(map(str, skipped[:3]))
            more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
            found.append(f"{len(skipped)} broken rows were left out: {few}{more}")
        return tuple(found)

    def contamination(self) -> Contamination:
        """By their words; of a stream, among its first rows."""
        return of_text(map(passage, self.parts.train), [*map(passage, self.parts.test)])

    def model(self, said: AnyModel, seed: int) -> TappedModel:
        """A language model with a row of its head for every token."""
        made = language_model(said, seed, *self.voice.of_model(said, self.tokenizer))
        return self._with_room(made, said)

    def loaded(self, said: AnyModel, place: str) -> TappedModel:
        """From a folder that a run saved, or that transformers loads."""
        tokenizer, _ = self.voice.of_model(said, self.tokenizer)
        return self._with_room(require_tokens(load_model({"folder": place}), tokenizer), said)

    def _with_room(self, model: TappedModel, said: AnyModel) -> TappedModel:
        """The model, whose context must hold every row that it reads as the student does."""
        if said not in self.voice.models:
            for texts in (self.train, self.validation, self.test):
                require_room(model, texts)
                if self.said.verify is not None and self.said.verify.by != "choice":
                    require_room(model, texts, self.said.verify.most)
        return model

    def save(self, model: TappedModel, folder: Path) -> None:
        """A folder that transformers and vLLM load, with the tokenizer."""
        save_model(model, folder, self.tokenizer)

    def calibration(self, count: int) -> list[Inputs]:
        """Training rows as the student reads them."""
        rows = evenly(len(self.train), min(count, len(self.train)))
        return [self.train.batch(part.tolist()).inputs for part in rows.split(EVALUATION_BATCH)]

    def loss(self, model: TappedModel) -> float:
        """Nats a token of held-out rows."""
        return self.nats(model, np.arange(min(_CHECKED, len(self.validation))))

    def require_same_ids(self, place: Path | None) -> str:
        """Every token of the student's is the same one of its teacher's, by its number."""
        other = self.voice.tokenizer if place is None else place
        return "" if other is None else same_ids(self.tokenizer, other)

    def source(self, stage: Stage, plan: Plan, seed: int, taught: Taught | None = None) -> Source:
        """The training rows, mixed with what the student writes where the stage says so."""
        self._check_packed(stage)
        if stage.rollouts is not None:
            self._check_written(next(iter(type(stage.rollouts).model_fields)))
        drawn = self.drawing.source(self.train, plan, seed)
        if isinstance(stage.rollouts, SequenceRollouts) and taught is not None:
            asked = stage.rollouts.sequence_kd
            require_able(asked, self.part("train", teacher=True), self.said.verify, taught)
            if not taught.rehearsal:
                return self._answered(asked, plan, seed, taught)
        elif stage.rollouts is not None and taught is not None:
            drawn = rollouts(stage.rollouts, self.train, self.drawing, plan, seed, taught)
        if self.voice.joining is None:
            return drawn
        return JoinedSource(drawn, self._foreign, self.voice.joining)

    @cached_property
    def _foreign(self) -> TextSet:
        """The training part as a teacher of another tokeniser reads it."""
        assert self.voice.foreign is not None
        return TextSet(self.parts.train, self.voice.foreign, name="training")

    def _answered(self, said: SequenceFields, plan: Plan, seed: int, taught: Taught) -> Source:
        """The teacher's answers, which are the same for every seed of the student."""
        reading = self.voice.reading or self.rendering
        rows = answered(said, self.parts.train, reading, self.said.verify, taught, DATA_SEED)
        texts = TextSet(rows, self.rendering, self.voice.rendering, name="written")
        return self.drawing.source(texts, plan, seed)

    def _check_written(self, rollouts: str) -> None:
        self.drawing.require_held(rollouts)
        first = self.parts.train[0]
        if first.form == "text":
            raise RecipeError(
                f"rollouts.{rollouts} with documents ({first.place})",
                "a document has no prompt that could be answered",
                "Give rows of `prompt` or `messages`, or leave `rollouts` out.",
            )

    def _check_packed(self, stage: Stage) -> None:
        written = stage.rollouts is not None and not isinstance(stage.rollouts, SequenceRollouts)
        if self.said.packed and (self.voice.joining is not None or written):
            raise RecipeError(
                f"data.packed with {'rollouts' if written else 'two tokenisers'}",
                "responses are written, and aligned, one row a sequence",
                "Leave one of the two out.",
            )

    def observe(self, stage: Stage, source: Source, student: TappedModel, step: int) -> None:
        """An adaptive schedule is told how the student does on validation rows."""
        if not isinstance(stage.rollouts, DistillmRollouts):
            return
        assert isinstance(source, AdaptiveRollouts)
        if step % stage.rollouts.distillm.validate_every == 0:
            source.observe(self.nats(student, np.arange(min(_CHECKED, len(self.validation)))))

    def plain_source(self, plan: Plan, seed: int) -> Source:
        """The training rows."""
        return self.drawing.source(self.train, plan, seed)

    def teacher_source(self, said: AnyModel, plan: Plan, seed: int) -> Source:
        """The training rows, as the teacher itself reads them."""
        tokenizer, _ = self.voice.of_model(said, self.tokenizer)
        texts = self.train
        if tokenizer is not self.tokenizer:
            texts = TextSet(self.parts.train, rendering_of(self.said, tokenizer), name="training")
        return self.drawing.source(texts, plan, seed)

    def unlabelled(self, stage: Stage, plan: Plan, seed: int) -> int:
        """None: every row is read by all arms."""
        del stage, plan, seed
        return 0

    def cached(self, folder: Path, teacher: Teacher, said: Any) -> Teacher:
        """The answers to every scored token of the training rows."""
        assert isinstance(said, CachedFields)
        assert said.keep is not None
        self.drawing.require_held("a cache")
        return cached_tokens(folder, teacher, self.train, self.tokenizer, said.keep)

    def check_teacher(self, teacher: Teacher) -> None:
        """It predicts held-out tokens better than one who knows nothing but how many there are."""
        texts = self.part("validation", teacher=True)
        rows = np.arange(min(_CHECKED, len(texts)))
        nll, chance = self.nats(teacher, rows), float(np.log(texts.vocabulary))
        if nll >= chance:
            raise TeacherFailure(
                f"the teacher needs {nll:.2f} nats a token of {len(rows)} held-out rows",
                f"guessing among {texts.vocabulary} tokens needs {chance:.2f}",
                "Check its weights, its tokenizer and its chat template.",
            )

    def nats(self, model: TappedModel | Teacher, rows: Any) -> float:
        """Nats a token of some validation rows."""
        texts = self.part("validation", isinstance(model, Teacher))
        return float(predicted(model, texts, rows, None)["token_nll"].mean())

    def answers(
        self,
        model: TappedModel | Teacher,
        part: str,
        device: torch.device,
        beside: Callable[[], Teacher | None],
    ) -> Answers:
        """One number a row and measure."""
        texts = self.part(part, isinstance(model, Teacher))
        if isinstance(model, TappedModel):
            model.to(device)
        rows = np.arange(len(texts) if part != "train" else self._most(len(texts)))
        other = None if self.voice.joining else beside()  # Ids of another vocabulary say nothing.
        sure = Confidences(len(rows))
        found = dict(predicted(model, texts, rows, other, sure))
        found["token_ece"] = sure.error_by_row()
        if part == "test":
            found |= {SURENESS: sure.bins(), SIZES: texts.bytes(rows).astype(np.float64)}
        if self.said.verify is not None and part != "train":
            said = self.said.verify
            found |= (chosen if said.by == "choice" else written)(model, texts, said)
        return {name: torch.from_numpy(numbers) for name, numbers in found.items()}

    def alike(self, model: TappedModel, other: Teacher) -> Mapping[str, np.ndarray]:
        """Token by token, where both read the same ones."""
        rows = np.arange(len(self.test))
        found = {} if self.voice.joining else predicted(model, self.test, rows, other)
        return {name: column for name, column in found.items() if name == "token_agreement"}

    def _most(self, rows: int) -> int:
        """So many of the training part's first rows are asked about."""
        return min(rows, len(self.test), MOST_TRAINING)

    def quality(self, answers: Answers) -> float:
        """The accuracy, or the bits saved."""
        mean = float(answers[self.primary].mean())
        return mean if self.primary == "accuracy" else -mean

    def seed_result(
        self,
        seed: int,
        answers: Mapping[str, Answers],
        steps: int,
        seconds: float,
        losses: Losses | None = None,
    ) -> SeedResult:
        """Measures of the test rows, and what was written to them."""
        test = answers["test"]
        items = {k: v.numpy() for k, v in test.items() if k not in BESIDE}
        beside = {k: test[k].numpy() for k in (SURENESS, SIZES) if k in test}
        texts, finals = parted(test), ()
        if self.said.verify is not None and texts:
            said = self.said.verify
            finals = tuple(final_answer(text, said.by, said.after, said.pattern) for text in texts)
        return SeedResult(
            seed,
            None,
            steps,
            seconds,
            losses=losses,
            items=items,
            train=of_training(answers.get("train")),
            finals=finals,
            texts=texts,
            reliability=beside.get(SURENESS),
            sizes=beside.get(SIZES),
        )

    def clusters(self) -> tuple[str, ...]:
        """The rows' groups, where there are any; a row without one stands alone."""
        groups = [self.test.row(row).group for row in range(len(self.test))]
        if not any(groups):
            return ()
        return tuple(each or f"row {k}" for k, each in enumerate(groups))

    def slices(self) -> dict[str, tuple[str, ...]]:
        """By the rows' tags, where there are any."""
        tags = tuple(self.test.row(row).tag or "none" for row in range(len(self.test)))
        return {"tag": tags} if set(tags) != {"none"} else {}

    def example(self) -> Any:
        """One test row."""
        return self.test.batch([0]).inputs

    def example_of_teacher(self) -> Any:
        """The same row in the teacher's own tokens."""
        return self.part("test", teacher=True).batch([0]).inputs

    def runnable(self, model: TappedModel) -> nn.Module:
        """With the logits of every position, as whoever serves it computes them."""
        return WithLogits(model)

    def part(self, part: str, teacher: bool) -> TextSet:
        """A part as the student reads it, or as a teacher with a voice of its own does."""
        if not teacher or self.voice.reading is None:
            return getattr(self, part)
        return TextSet(getattr(self.parts, part), self.voice.reading, name=part)
