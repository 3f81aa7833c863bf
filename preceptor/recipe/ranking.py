"""The recipe of a ranking: a student, its data, and who might teach it.

data: {...}          what the student reads, as in any recipe
student: {...}       as it starts; or trained on the data first, where `train` is said
candidates:
  texts: [...]       what teachers wrote, in files
  teachers: {...}    models that write here, or that answer images
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from preceptor.fields import Count, Index, NonNegative
from preceptor.recipe.data import AnyData, SentenceData, TextData
from preceptor.recipe.models import MODEL_KEYS, CausalModel, FolderModel
from preceptor.recipe.names import CandidateName, require_apart
from preceptor.recipe.problems import Invalid, invalid
from preceptor.recipe.ranked import (
    AnyCost,
    AnyWriter,
    FeatureFields,
    GraceFields,
    RaceFields,
    ScoreName,
    ServedWrites,
    Writes,
    named,
    require_narrower,
    require_within,
)
from preceptor.recipe.schema import Checkpoint, Student
from preceptor.recipe.section import Section
from preceptor.recipe.starts import InsideStart
from preceptor.recipe.teachers import AnyPlan, LiveTeacher
from preceptor.selection.ranking import EVERY_SCORE
from preceptor.selection.score import Score

_OF_TEXT = ("mean_length", "duplicate_rate")
"""Scores that say nothing of images."""


class WrittenTexts(Section):
    """A file of what one or more teachers wrote.

    A prompt may stand in several rows, each with another response.

    Args:
        source: a file of rows (.jsonl, .json, .csv, .tsv, .parquet), a folder or pattern of such,
            or a name on the Hugging Face hub.
        prompt: the column of prompts, or a pattern of columns: "{instruction} {input}".
        responses: each candidate's column of responses, or pattern: "{large[solution]}".
        broken: whether answers that cannot be used stop the ranking, or are skipped and counted.
        strip: take outer white space off the responses, and make their line ends one kind.
    """

    source: str
    prompt: str = "prompt"
    responses: Annotated[dict[CandidateName, str], Field(min_length=1)]
    broken: Literal["refuse", "skip"] = "refuse"
    strip: bool = False


class Candidates(Section):
    """Who might teach.

    Args:
        texts: files of what teachers wrote; all of them answer the same prompts.
        teachers: models by name. Where there are texts too, they answer the texts' prompts; else
            those of the training rows.
    """

    texts: tuple[WrittenTexts, ...] = ()
    teachers: dict[CandidateName, AnyWriter] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_differ(self) -> "Candidates":
        seen = list(self.teachers)
        for index, file in enumerate(self.texts):
            for name in file.responses:
                if name in seen:
                    place = ("texts", index, "responses", name)
                    raise invalid("", "another candidate has this name", "Rename one.", place)
                seen.append(name)
        if not seen:
            why = "nobody is named, and a ranking needs candidates"
            raise invalid("", why, "Add texts: [...], or teachers: {...}.")
        require_apart(seen, ("teachers",) if self.teachers else ("texts",))
        return self

    def families(self) -> dict[str, str]:
        """Every candidate's name, and whose it is: a teacher's temperatures are one family."""
        return {
            **{name: name for file in self.texts for name in file.responses},
            **{at: name for name, said in self.teachers.items() for at in named(name, said)},
        }


class Learner(Student):
    """Whose gradients are asked.

    Args:
        train: how it is trained on the labels of the data before; as it starts where not given.
    """

    train: AnyPlan | None = None

    @model_validator(mode="after")
    def _begins_before_any_teacher(self) -> "Learner":
        if isinstance(self.start, InsideStart):
            why = "the student is asked before there is a teacher to begin in"
            raise invalid(self.start.key, why, "Say random, or from: FOLDER.", ("start",))
        return self

    @model_validator(mode="after")
    def _adapters_start_as_they_are(self) -> "Learner":
        adapted = isinstance(self.model, CausalModel) and self.model.lora is not None
        if adapted and self.train is not None:
            why = "what is trained here is kept whole, and every weight's gradient would be asked"
            do = "Leave `train` out, or train the base in a run before and name its folder."
            raise invalid("", why, do, ("train",))
        return self


class ChoiceFields(Section):
    """What is chosen from the ranking, beside the best of all.

    Args:
        cost: of each candidate, in whatever unit, a price a token for one; or "parameters", which
            are counted of models that answer here.
        limit: the best of those that cost at most so much.
        families: of each candidate; the best of each. Temperatures of a teacher are one anyway.
        ensemble: so many of the top scorers, to teach together.
    """

    cost: AnyCost | None = None
    limit: NonNegative | None = None
    families: dict[CandidateName, str] = Field(default_factory=dict)
    ensemble: Count | None = None


class RankingRecipe(Section):
    """Everything a ranking is.

    Args:
        name: of the run's folder; the file's name where it comes from one.
        data: examples; of text also the tokenizer and how rows are rendered.
        student: who is to learn.
        students: other architectures, by name: they and `student` are ordered too, by what the
            best candidate's text is to each.
        candidates: who might teach it.
        score: by which they are ordered; the others are told beside it.
        features: how gradients are taken.
        prompts: how many candidates are compared on; all where there are fewer.
        responses: to each prompt at most.
        seed: of the prompts that are chosen, of draws, and of what teachers write.
        race: drop clear losers early; all answer every prompt where not given.
        grace: how GRACE reads the gradients.
        narrow: bring the sketches to so many numbers before they are scored; those kept stay wide.
        choose: what is chosen beside the best.
        threads: of the CPU; 0 for torch's own choice.
        checkpoint: how often the state of what is trained is written.

    Raises:
        RecipeError: with every mistake, its path, and what may stand there.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "ranking"
    data: AnyData
    student: Learner
    students: dict[CandidateName, Learner] = Field(default_factory=dict)
    candidates: Candidates
    score: ScoreName = "grace"
    features: FeatureFields = FeatureFields()
    prompts: Annotated[int, Field(ge=10)] = 512
    responses: Count = 4
    seed: Index = 0
    race: RaceFields | None = None
    grace: GraceFields = GraceFields()
    narrow: Count | None = None
    choose: ChoiceFields = ChoiceFields()
    threads: Index = 0
    checkpoint: Checkpoint = Checkpoint()

    @model_validator(mode="after")
    def _data_have_answers(self) -> "RankingRecipe":
        if isinstance(self.data, SentenceData):
            why = "an embedding is no answer whose loss has a gradient to compare"
            raise invalid("'sentences'", why, "Rank on kind: text, or on images.", ("data", "kind"))
        if isinstance(self.data, TextData):
            if self.data.streamed is not None:
                why = "candidates are compared on prompts that are all held"
                raise invalid("", why, "Leave it out.", ("data", "streamed"))
            self._learners_write()
            return self
        if self.candidates.texts:
            why = "the data are images, and nobody answers them with text"
            raise invalid("", why, "Name image models in teachers.", ("candidates", "texts"))
        if self.features.kind == "head":
            why = "hidden states and a head are told apart in causal language models"
            raise invalid("'head'", why, "Use factored or exact.", ("features", "kind"))
        if self.score in _OF_TEXT:
            why = "images are answered with probabilities, which have no length and no copies"
            raise invalid(repr(self.score), why, "Use grace or g_norm.", ("score",))
        for name, said in self.candidates.teachers.items():
            place = ("candidates", "teachers", name)
            if isinstance(said, ServedWrites):
                why = "a server writes text, and the data are images"
                raise invalid("", why, "Name image models.", (*place, "served"))
            if said.temperatures != (1.0,):
                why = "an image's answer is its teacher's probabilities; nothing is drawn"
                raise invalid("", why, "Leave it out.", (*place, "temperatures"))
        return self

    def _learners_write(self) -> None:
        others = {("students", name): learner for name, learner in self.students.items()}
        for place, learner in {("student",): self.student, **others}.items():
            if not isinstance(learner.model, CausalModel | FolderModel):
                key = next(key for key in MODEL_KEYS if hasattr(learner.model, key))
                why = "what teachers wrote is learned by causal language models"
                do = "Write model: {causal: NAME}, or {folder: ...} of one that a run saved."
                raise invalid(repr(key), why, do, (*place, "model"))

    @model_validator(mode="after")
    def _choices_name_candidates(self) -> "RankingRecipe":
        known = set(self.candidates.families().values())
        choose, do = self.choose, f"Name each once: {', '.join(sorted(known))}."
        there = len(self.candidates.families())
        if choose.ensemble is not None and choose.ensemble > there:
            why = f"there are {there} candidates"
            raise invalid(str(choose.ensemble), why, f"At most {there}.", ("choose", "ensemble"))
        missing, cost = "is a candidate, and is not told", choose.cost
        if isinstance(cost, str):
            cost = dict.fromkeys((name for name, _ in self.models()), 0.0)
            missing = "is no model that is loaded here, so that nobody can count"
            do = "Write what each costs: cost: {NAME: NUMBER}."
        said: tuple[tuple[str, Mapping[str, object] | None], ...] = (
            ("cost", cost),
            ("families", choose.families or None),
        )
        for key, told in said:
            if told is None:
                continue
            if self.race is not None:
                why = "a race drops whom this choice may admit"
                raise invalid("", why, "Leave race out.", ("choose", key))
            for name in sorted(known ^ set(told)):
                why = "is no candidate" if name in told else missing
                raise invalid("", f"{name} {why}", do, ("choose", key))
        try:
            require_within(choose.cost, choose.limit)
        except Invalid as error:
            raise Invalid(each.below(("choose",)) for each in error.mistakes) from None
        return self

    @model_validator(mode="after")
    def _prompts_have_room(self) -> "RankingRecipe":
        require_narrower(self.narrow, self.features)
        folds, place = self.grace.folds, ("grace", "folds")
        if self.prompts < folds:
            why = f"each fold needs a prompt, and prompts is {self.prompts}"
            raise invalid(str(folds), why, f"At most {self.prompts}.", place)
        if self.race is None:
            return self
        first, place = self.race.first, ("race", "first")
        if first >= self.prompts:
            why = f"all {self.prompts} prompts are asked at the first look, and nobody is dropped"
            raise invalid(str(first), why, f"At most {self.prompts // 2}, or no race.", place)
        if first < folds:
            why = f"the score cuts prompts into {folds} folds, at the first look too"
            raise invalid(str(first), why, f"At least {folds}.", place)
        return self

    @model_validator(mode="after")
    def _students_have_another_name(self) -> "RankingRecipe":
        if "student" in self.students:
            why = "this is the name of the one in `student`"
            raise invalid("", why, "Choose another name.", ("students", "student"))
        require_apart(self.students, ("students",))
        return self

    def scores(self) -> tuple[Score, tuple[Score, ...]]:
        """What candidates are ordered by, and the other scores."""
        every = tuple(self.grace.of(score) for score in EVERY_SCORE)
        own = next(score for score in every if score.name == self.score)
        told = every
        if not isinstance(self.data, TextData):
            told = tuple(score for score in told if score.name not in _OF_TEXT)
        return own, tuple(score for score in told if score is not own)

    def models(self) -> Iterator[tuple[str, LiveTeacher]]:
        """The models that answer here, by name."""
        teachers = self.candidates.teachers
        return ((n, said.teacher()) for n, said in teachers.items() if isinstance(said, Writes))
