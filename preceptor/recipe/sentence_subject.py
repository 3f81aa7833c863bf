"""Sentences as a recipe's subject: see `recipe.subject`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from preceptor.data.graded import read_graded
from preceptor.data.prose import python_topics
from preceptor.data.reading import read_rows
from preceptor.data.rows import Rows
from preceptor.data.sentences import Pair, SentenceSet, SentenceSource, distinct, neighbours
from preceptor.data.splitting import split_rows
from preceptor.data.tokenizers import id_count, load_tokenizer, same_ids
from preceptor.errors import DataError, ModelError, RecipeError, TeacherFailure
from preceptor.evaluate.contamination import Contamination, Passage, of_text
from preceptor.evaluate.results import Losses, SeedResult
from preceptor.evaluate.retrieval import Embeddings, cosines, pair_cosines, retrieval_scores
from preceptor.models.encoders import EMBEDDING, located
from preceptor.models.load import load_model, save_model
from preceptor.models.tapped import TappedModel
from preceptor.objectives.base import Objective
from preceptor.objectives.nt_xent import NTXent
from preceptor.recipe.data import SentenceData, Splits
from preceptor.recipe.models import AnyModel, EncoderModel, FolderModel
from preceptor.recipe.schema import Recipe, Stage
from preceptor.recipe.stores import teacher_hash
from preceptor.recipe.subject import MOST_TRAINING, Answers, Subject, Taught, of_training
from preceptor.recipe.texts import DATA_SEED
from preceptor.students.bases import evenly
from preceptor.teachers.base import Teacher
from preceptor.teachers.cached_embeddings import CachedEmbeddings
from preceptor.teachers.live import Live
from preceptor.teachers.store import Store
from preceptor.teachers.writing import write_store
from preceptor.train.plan import Plan
from preceptor.train.processes import main_process_first
from preceptor.types import Inputs

EVALUATION_BATCH = 64

_GRADED = "graded"
"""The part of graded pairs, and what their similarities are called among answers."""

_FEWEST_PASSAGES = 20
"""Fewer are too few to be drawn from: intervals hold for these passages alone."""

_ENOUGH = 64
"""With fewer pairs, chance could explain what a fair teacher finds."""

_BY_CHANCE = 4
"""Whoever guesses finds more of any number of neighbours once in three hundred times."""


@final
class SentenceSubject(Subject):
    """Neighbouring sentences, as one tokenizer reads them."""

    primary = "accuracy"

    def __init__(self, said: SentenceData, recipe: Recipe, models: Sequence[AnyModel]) -> None:
        """`models` are those of all live teachers."""
        self.said = said
        self.contrast = _contrast(recipe)
        for arm in recipe.control.arms:
            self.untaught(arm, recipe.control.smoothing)
        self.tokenizer = _tokenizer(said, (recipe.student.model, *models))
        parts = dict(zip(("train", "validation", "test"), _parts(said), strict=True))
        limits = {"train": said.limit, "test": said.test_limit}
        self.parts: dict[str, SentenceSet] = {}
        graded = () if said.graded is None else read_graded(said.graded)
        seen = {sentence for pair in graded for sentence in (pair.first, pair.second)}
        # What is held out first: a sentence that stands in two documents is never trained on.
        for name in reversed(parts):
            found = tuple(distinct(neighbours(parts[name]), seen))[: limits.get(name)]
            self.parts[name] = SentenceSet(found, self.tokenizer, said.max_length, name=name)
        if graded:
            pairs = [Pair(each.first, each.second, each.place) for each in graded]
            self.parts[_GRADED] = SentenceSet(pairs, self.tokenizer, said.max_length, name=_GRADED)
        self._score = {each.place: each.score for each in graded}
        self.num_examples = 2 * len(self.parts["train"])
        self.num_classes = self.model(recipe.student.model, 0).spec["classes"]
        self._beside: dict[str, tuple[Teacher, Embeddings]] = {}

    @property
    def labels(self) -> np.ndarray:
        """The test pairs' numbers."""
        return np.arange(len(self.parts["test"]))

    @property
    def test_items(self) -> str:
        """Of every token of every sentence."""
        return self.parts["test"].fingerprint

    def describe(self) -> str:
        """Sizes of the three parts, and what was left out."""
        sizes = ", ".join(f"{len(self.parts[name])} {name}" for name in reversed(self.parts))
        out = sum(part.left_out for part in self.parts.values())
        longer = f", {out} with a sentence of more than {self.said.max_length} tokens left out"
        return f"pairs of sentences: {sizes}{longer if out else ''}"

    def untaught(self, arm: str, smoothing: float) -> Objective[Any]:
        """The student's own contrast between neighbours and others."""
        del smoothing
        if arm == "smoothing":
            raise RecipeError(
                "control.arms: smoothing, of sentences",
                "label smoothing spreads a target over classes, and sentences have none",
                "Write control: {arms: [control, longer]}.",
            )
        return self.contrast

    def contamination(self) -> Contamination:
        """By their words: no sentence of the test part is trained on as it is."""
        train, test = (
            [
                Passage(pair.place, sentence, sentence)
                for name in names
                for pair in (self.parts[name].pairs if name in self.parts else ())
                for sentence in (pair.first, pair.second)
            ]
            for names in (("train",), ("test", _GRADED))
        )
        return of_text(train, test)

    def clusters(self) -> tuple[str, ...]:
        """By the passage that a pair is from, where there are enough of them to be drawn."""
        places = tuple(pair.place for pair in self.parts["test"].pairs)
        return places if _FEWEST_PASSAGES <= len(set(places)) < len(places) else ()

    def grades(self) -> np.ndarray | None:
        """Of the pairs that are short enough."""
        if _GRADED not in self.parts:
            return None
        return np.array([self._score[pair.place] for pair in self.parts[_GRADED].pairs])

    def model(self, said: AnyModel, seed: int) -> TappedModel:
        """An encoder with a vector for every token."""
        if not isinstance(said, EncoderModel | FolderModel):
            kind = next(iter(type(said).model_fields))
            raise ModelError(
                f"a {kind} model was asked to embed sentences",
                "sentences are read by encoders",
                "Write model: {encoder: NAME}, or {folder: ...} of one that a run saved.",
            )
        spec: dict[str, Any] = said.said()
        if isinstance(said, EncoderModel) and isinstance(said.encoder, dict):
            spec["encoder"] = {"vocab_size": id_count(self.tokenizer), **said.encoder}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return load_model(spec)

    def loaded(self, said: AnyModel, place: str) -> TappedModel:
        """From a folder that a run saved."""
        del said
        return load_model({"folder": place})

    def saved(self, folder: Path) -> TappedModel:
        """One that a run saved, or an encoder as its ecosystem has it."""
        named = "folder" if (folder / "preceptor.json").is_file() else "encoder"
        return load_model({named: str(folder)})

    def save(self, model: TappedModel, folder: Path) -> None:
        """A folder that transformers and sentence-transformers load, with the tokenizer."""
        save_model(model, folder, self.tokenizer)

    def calibration(self, count: int) -> list[Inputs]:
        """Pairs of training sentences."""
        sentences = self.parts["train"]
        rows = evenly(len(sentences), min(count, len(sentences)))
        return [sentences.batch(part.numpy()).inputs for part in rows.split(EVALUATION_BATCH)]

    def loss(self, model: TappedModel) -> float:
        """The share of the others that lie nearer to a held-out sentence than its neighbour."""
        found = cosines(*self._embeddings(model, "validation", None))
        own = found.diagonal()[:, None]
        # As near as the neighbour is half of nearer, and one of these is the neighbour itself.
        nearer = ((found > own).sum(axis=1) + (found >= own).sum(axis=1) - 1) / 2
        return float(nearer.mean() / max(len(found) - 1, 1))

    def require_same_ids(self, place: Path | None) -> str:
        """The models of a recipe agree already."""
        return "" if place is None else same_ids(self.tokenizer, place)

    def source(
        self, stage: Stage, plan: Plan, seed: int, taught: Taught | None = None
    ) -> SentenceSource:
        """Pairs of neighbours."""
        del stage, taught
        return self._source(plan, seed, self.num_classes)

    def plain_source(self, plan: Plan, seed: int) -> SentenceSource:
        """The same pairs."""
        return self._source(plan, seed, self.num_classes)

    def teacher_source(self, said: AnyModel, plan: Plan, seed: int) -> SentenceSource:
        """The same pairs, for whoever has embeddings of another width."""
        return self._source(plan, seed, self.model(said, 0).spec["classes"])

    def _source(self, plan: Plan, seed: int, width: int) -> SentenceSource:
        return SentenceSource(self.parts["train"], batch=plan.batch, width=width, seed=seed)

    def unlabelled(self, stage: Stage, plan: Plan, seed: int) -> int:
        """None: every sentence is read by all arms."""
        del stage, plan, seed
        return 0

    def cached(self, folder: Path, teacher: Teacher, said: Any) -> Teacher:
        """The teacher's embedding of every training sentence, written where it is not yet."""
        del said
        sentences = self.parts["train"]
        names = teacher_hash(teacher), sentences.fingerprint
        every = np.arange(len(sentences))
        batches = (
            sentences.batch(every[start : start + EVALUATION_BATCH])
            for start in range(0, len(every), EVALUATION_BATCH)
        )
        with main_process_first() as main:
            if main:
                write_store(folder, teacher, batches, teacher_hash=names[0], data_hash=names[1])
        store = Store.open(folder)
        store.expect(teacher=names[0], data=names[1])
        return CachedEmbeddings(store, EMBEDDING)

    def check_teacher(self, teacher: Teacher) -> None:
        """It finds neighbours more often than by chance, among held-out sentences.

        Where they are too few to tell anything, training ones stand beside them.
        """
        each = [self._embeddings(teacher, "validation", None)]
        if len(self.parts["validation"]) < _ENOUGH:
            each.append(self._embeddings(teacher, "train", None, most=_ENOUGH))
        first, second = (np.concatenate(sides) for sides in zip(*each, strict=True))
        right = int(retrieval_scores((first, second))["accuracy"].sum())
        if right <= _BY_CHANCE:
            raise TeacherFailure(
                f"the teacher finds {right} of {len(first)} sentences' neighbours",
                "guessing finds about one",
                "Check its weights, its pooling and its tokenizer.",
            )

    def answers(
        self,
        model: TappedModel | Teacher,
        part: str,
        device: torch.device,
        beside: Callable[[], Teacher | None],
    ) -> Answers:
        """One number a pair and measure."""
        own, other = self._embeddings(model, part, device, self._most(part)), beside()
        master = None if other is None or other is model else self._of_teacher(other, part)
        found = retrieval_scores(own, master)
        if part == "test" and _GRADED in self.parts:
            found = {**found, _GRADED: pair_cosines(self._embeddings(model, _GRADED, device))}
        return {name: torch.from_numpy(numbers) for name, numbers in found.items()}

    def alike(self, model: TappedModel, other: Teacher) -> Mapping[str, np.ndarray]:
        """Whether both find the same sentence first."""
        each = (self._embeddings(one, "test", None) for one in (model, other))
        return {"agreement": retrieval_scores(*each)["agreement"]}

    def quality(self, answers: Answers) -> float:
        """The accuracy."""
        return float(answers["accuracy"].mean())

    def seed_result(
        self,
        seed: int,
        answers: Mapping[str, Answers],
        steps: int,
        seconds: float,
        losses: Losses | None = None,
    ) -> SeedResult:
        """Measures of the test pairs."""
        items = {name: numbers.numpy() for name, numbers in answers["test"].items()}
        graded = items.pop(_GRADED, None)
        train = of_training(answers.get("train"))
        return SeedResult(
            seed, None, steps, seconds, losses=losses, items=items, train=train, graded=graded
        )

    def example(self) -> Any:
        """One test sentence."""
        return self.parts["test"].batch(np.arange(1)).rows(0, 1).inputs

    def _most(self, part: str) -> int | None:
        """Of the training part so many pairs are asked about; all of the others."""
        return min(MOST_TRAINING, len(self.parts["test"])) if part == "train" else None

    def _of_teacher(self, teacher: Teacher, part: str) -> Embeddings:
        """Asked once: a fixed teacher stands beside every arm."""
        held = self._beside.get(part)
        if held is None or held[0] is not teacher:
            found = self._embeddings(teacher, part, None, self._most(part))
            held = self._beside[part] = teacher, found
        return held[1]

    @torch.no_grad()
    def _embeddings(
        self,
        model: TappedModel | Teacher,
        part: str,
        device: torch.device | None,
        most: int | None = None,
    ) -> Embeddings:
        sentences = self.parts[part]
        count = min(len(sentences), most or len(sentences))
        encoder = model.model if isinstance(model, Live) else model
        if not isinstance(encoder, TappedModel):
            raise TeacherFailure(
                f"the teacher {type(model).__name__} was asked for embeddings of sentences",
                "only one live encoder has any",
                "Write teacher: {model: {encoder: NAME}}.",
            )
        if device is not None:
            encoder.to(device)
        encoder.eval()
        here = next(encoder.parameters()).device
        each: list[Tensor] = []
        for start in range(0, count, EVALUATION_BATCH):
            pairs = np.arange(start, min(start + EVALUATION_BATCH, count))
            each.append(encoder(sentences.batch(pairs).to(here).inputs).logits.float().cpu())
        every = torch.cat(each).numpy()
        return every[::2], every[1::2]


def _contrast(recipe: Recipe) -> NTXent:
    """The contrast that the student's own arm mixes in, so that the control has the same."""
    parts = [part.part for stage in recipe.stages for part in stage.objective.parts()]
    return next((part for part in parts if isinstance(part, NTXent)), NTXent())


def _tokenizer(said: SentenceData, models: Sequence[AnyModel]) -> Any:
    """The data's, or a model's own, which all models that have one must share."""
    named = [
        model.encoder if isinstance(model, EncoderModel) else model.folder
        for model in models
        if isinstance(model, EncoderModel | FolderModel)
    ]
    own = [source for source in named if isinstance(source, str)]
    sources = [said.tokenizer, *own] if said.tokenizer is not None else own
    if not sources:
        raise DataError(
            "no encoder of the recipe brings a tokenizer",
            "somebody must say which text becomes which ids",
            "Add data.tokenizer: a folder, a hub name, or package:NAME/FOLDER.",
        )
    loaded = {source: load_tokenizer(located(source)) for source in dict.fromkeys(sources)}
    first, *others = loaded.items()
    for source, other in others:
        if other.get_vocab() != first[1].get_vocab():
            raise DataError(
                f"the tokenizers of {first[0]} and {source} differ",
                "student and teacher read one batch of ids",
                "Use encoders of one tokenizer, or a student made from a configuration.",
            )
    return first[1]


def _parts(said: SentenceData) -> tuple[Rows, Rows, Rows]:
    """Whole passages for training, for choices and for the final numbers."""
    if isinstance(said.source, Splits):
        train, test = _read(said, said.source.train), _read(said, said.source.test, "test")
        rest, held, _ = split_rows(train, validation=said.validation, test=0.0, seed=DATA_SEED)
        return rest, held, test
    rows = python_topics() if said.source == "prose" else _read(said, said.source)
    return split_rows(rows, validation=said.validation, test=said.test, seed=DATA_SEED)


def _read(said: SentenceData, source: str, part: str = "train") -> Rows:
    return read_rows(source, columns=said.columns, documents=said.documents, split=part)
