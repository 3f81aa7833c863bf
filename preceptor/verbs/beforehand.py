"""The teacher of a run that a ranking finds first; everything of it lies in RUN/ranking.

What was decided is written down, and a run that goes on does not decide anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from preceptor.evaluate.rankings import RankedTeacher, TeacherRanking
from preceptor.evaluate.report import Report, Value, typed
from preceptor.files import write_text
from preceptor.recipe.beforehand import (
    joined,
    possible,
    rank_of,
    ranking_in,
    taught_by,
    written_at,
)
from preceptor.recipe.candidate_texts import Texts
from preceptor.recipe.load import recipe_text
from preceptor.recipe.ranked import RankFields, Writes, named
from preceptor.recipe.schema import Recipe
from preceptor.recipe.teachers import AnyTeacher, LiveTeacher
from preceptor.selection.ranking import Ranking
from preceptor.train.processes import main_process_first
from preceptor.verbs.contest import require_enough
from preceptor.verbs.crowding import crowding, prompts_of
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.picking import Picking, passed_over
from preceptor.verbs.progress import Progress
from preceptor.verbs.ranked import Rank, ranked_in
from preceptor.verbs.ranking_folders import open_ranking
from preceptor.verbs.rehearsal import rehearse
from preceptor.verbs.standing import together


@final
@dataclass(frozen=True)
class Decided:
    """A recipe whose teachers are all named.

    Args:
        recipe: the run's, the chosen ones in the place of the ranking.
        rankings: how they were found; none where the recipe names its teacher.
        seconds: that it took, with what was trained for it.
    """

    recipe: Recipe
    rankings: tuple[TeacherRanking, ...] = ()
    seconds: float = 0.0

    def told(self, report: Report, recipe: Recipe) -> Report:
        """The report with the rankings, and the recipe as it was written."""
        if not self.rankings:
            return report
        phases = {**report.phases, "ranking": Value(self.seconds, None, None, 1, "seconds")}
        said = recipe_text(recipe)
        return replace(report, recipe=said, phases=phases, rankings=self.rankings)


@final
@dataclass(frozen=True)
class _Decision:
    """What is written down of one ranking: of each of `picked`, the candidate's name and whose."""

    ranking: TeacherRanking
    picked: tuple[str, ...]
    seconds: float


def decided(recipe: Recipe, folder: Path, progress: Progress) -> Decided:
    """Rank a recipe's candidates where it says so, and put the chosen ones in their place.

    With `every: stage`, the first seed's student is trained stage by stage, in the run's own
    folder, and asked again before each; a teacher goes on while it cannot be told from the best.

    Raises:
        as `preceptor.rank` does.
    """
    fields = rank_of(recipe)
    if fields is None:
        return Decided(recipe)
    decide = _Deciding(recipe, fields, folder, progress)
    first = decide.at(0, ())
    named_now, found = decide.first(first), [first]
    stages = range(1, len(recipe.stages)) if fields.every == "stage" else ()
    students: list[Path] = []
    for stage in stages:
        if recipe.stages[stage].teacher is not None:
            continue
        if not decide.place(stage).exists():
            students.append(decide.student(named_now, stage))
        else:
            students.append(decide.student_place(stage))
        found.append(decide.at(stage, students, found[-1].picked))
        named_now = decide.then(named_now, found[-1], stage)
    told = tuple(each.ranking for each in found)
    return Decided(named_now, told, sum(each.seconds for each in found))


@final
@dataclass(frozen=True)
class _Deciding:
    """The rankings of a run, one file each."""

    recipe: Recipe
    fields: RankFields
    run: Path
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.run / "ranking"

    def place(self, stage: int) -> Path:
        """What was decided before a stage, counted from 0."""
        return self.folder / f"before-stage-{stage + 1}.json"

    def student_place(self, stage: int) -> Path:
        """The student as it comes to a stage."""
        return self.folder / "student-before" / f"stage-{stage + 1}"

    def at(self, stage: int, students: Sequence[Path], before: tuple[str, ...] = ()) -> _Decision:
        """What was, or is now, decided before a stage; `before` taught until then."""
        if not self.place(stage).exists():
            found = self._rank(students)
            with main_process_first() as main:
                if main:
                    told = json.dumps(asdict(self._decision(found, stage, before)), indent=1)
                    write_text(self.place(stage), told)
        return typed(_Decision, json.loads(self.place(stage).read_text()))

    def _rank(self, students: Sequence[Path]) -> Rank:
        said = ranking_in(self.recipe, self.fields)
        if not students:
            for one in possible(self.recipe):
                rehearse(Experiment(one, self.run, self.progress.watch))
        open_ranking(said, self.folder)
        seed = self.recipe.seed.first
        return ranked_in(self.folder, said, Texts(), self.progress, seed=seed, later=students)

    def _decision(self, found: Rank, stage: int, before: tuple[str, ...]) -> _Decision:
        ranking, chosen = found.ranking, found.chosen
        sentences = found.raced
        cautions = found.cautions
        if found.later:
            ranking, chosen = found.later[-1].ranking, found.later[-1].chosen
            alike = found.later[-1].moved.spearman
            sentences.append(f"The rank correlation with the order before is {alike:.2f}.")
            cautions = tuple(new for new in ranking.cautions if new not in found.cautions)
        able = [name for name in chosen.admitted if name not in found.guessing]
        sentences += passed_over(chosen.admitted, able)
        picked = Picking(self.fields, ranking, able or chosen.admitted, chosen, found.dropped)
        names, decision = picked.now(before)
        if len(names) > 1:
            sentences.append(f"Together: {', '.join(names)}.")
        if before:
            sentences.append(f"{decision}.")
        moment = f"before stage {stage + 1}" if stage else "before the run"
        told = TeacherRanking(
            moment=moment,
            score=ranking.score,
            better=ranking.better,
            prompts=ranking.prompts,
            seed=self.recipe.seed.first,
            candidates=tuple(_ranked(ranking)),
            chosen=names,
            sentences=(*chosen.sentences(), *sentences),
            cautions=(*together(cautions, ranking.names), *picked.cautions(names)),
            decision=decision,
        )
        return _Decision(told, names, found.seconds)

    def first(self, found: _Decision) -> Recipe:
        """The recipe with its teacher."""
        recipe = taught_by(self.recipe, [self._teacher(name) for name in found.picked])
        return self._drawn(recipe, found, 0)

    def then(self, recipe: Recipe, found: _Decision, stage: int) -> Recipe:
        """The recipe with a later stage's own teacher."""
        teacher = joined([self._teacher(name) for name in found.picked])
        stages = list(recipe.stages)
        if teacher != recipe.teacher:
            stages[stage] = stages[stage].model_copy(update={"teacher": teacher})
        whole = recipe.model_copy(update={"stages": tuple(stages)})
        return self._drawn(whole, found, stage)

    def _drawn(self, recipe: Recipe, found: _Decision, stage: int) -> Recipe:
        name, temperature = self._whose()[found.picked[0]]
        return written_at(recipe, self.fields.of[name], temperature, stage)

    def _whose(self) -> dict[str, tuple[str, float]]:
        """Every candidate's teacher and temperature."""
        return {
            at: (name, temperature)
            for name, said in self.fields.of.items()
            for at, temperature in named(name, said).items()
        }

    def _teacher(self, candidate: str) -> AnyTeacher:
        """Who answers for a candidate; what the ranking trained is not trained again."""
        name, _ = self._whose()[candidate]
        said = self.fields.of[name]
        if isinstance(said, Writes) and said.train is not None:
            trained = self.folder / "teachers" / name / "student"
            return LiveTeacher(model=said.model, load=str(trained))
        return said.teacher()

    def student(self, recipe: Recipe, stage: int) -> Path:
        """The first seed's student as the stages before leave it; trains them."""
        place = self.student_place(stage)
        experiment = Experiment(recipe, self.run, self.progress.watch)
        student = experiment.until(recipe.seed.first, stage)
        with main_process_first() as main:
            if main:
                experiment.subject.save(student, place)
        return place


def _ranked(ranking: Ranking) -> list[RankedTeacher]:
    return [
        RankedTeacher(
            name=each.name,
            score=each.score.estimate,
            low=each.score.low,
            high=each.score.high,
            best=each.probability_best,
            tied=each.tied,
            beside=dict(each.beside),
        )
        for each in ranking.candidates
    ]


def ranked_lines(recipe: Recipe) -> list[str]:
    """What `preceptor check` says of a ranking to come.

    Raises:
        DataError: there are too few prompts for it.
    """
    fields = rank_of(recipe)
    if fields is None:
        return []
    names = [at for name, said in fields.of.items() for at in named(name, said)]
    limit = "" if fields.limit is None else f" that cost at most {fields.limit:g}"
    limit += " parameters" if fields.cost == "parameters" else ""
    say = (
        f"teacher: {'the best ' + str(fields.ensemble) if fields.ensemble > 1 else 'the best'} of "
        f"{', '.join(names)}{limit} by {fields.score}, found before the run for the student of "
        f"seed {recipe.seed.first}"
    )
    lines = [say]
    if trained := [n for n, s in fields.of.items() if isinstance(s, Writes) and s.train]:
        lines.append(f"  trained once, for ranking and run: {', '.join(trained)}")
    if fields.limit is not None and isinstance(fields.cost, Mapping):
        cheap = [name for name in fields.of if fields.cost.get(name, 0.0) <= fields.limit]
        if len(cheap) < fields.ensemble:
            count = f"{len(cheap)} of them cost{'s' if len(cheap) == 1 else ''}"
            lines.append(
                f"  ! {fields.ensemble} are to teach together, and {count} at most "
                f"{fields.limit:g}: {', '.join(cheap)}"
            )
    if fields.every == "stage":
        lines.append("  ranked again before each further stage")
    ranking = ranking_in(recipe, fields)
    there = prompts_of(ranking, Texts())
    require_enough(ranking, ranking.prompts if there is None else there)
    told = crowding(ranking, Texts(), there)
    return [*lines, *(f"  ! {sentence}" for sentence in told)]
