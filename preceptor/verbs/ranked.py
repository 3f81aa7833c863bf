"""What a ranking's folder comes to: its order, and how it changes with the student."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from preceptor.errors import RecipeError
from preceptor.recipe.candidate_texts import Texts
from preceptor.recipe.contest import training_of
from preceptor.recipe.ranking import RankingRecipe
from preceptor.selection.architectures import rank_students
from preceptor.selection.choices import Moved, moved
from preceptor.selection.features import Features
from preceptor.selection.leverage import LeverageRatio
from preceptor.selection.racing import Dropped, race
from preceptor.selection.ranking import Ranking
from preceptor.selection.ranking import rank as ordered
from preceptor.selection.store import FeatureStore
from preceptor.train.processes import main_process_first
from preceptor.verbs.chosen import Chosen, chosen
from preceptor.verbs.contest import Contest, Numbers
from preceptor.verbs.experiment import Experiment
from preceptor.verbs.progress import Progress
from preceptor.verbs.pupil import Pupil
from preceptor.verbs.ranking_folders import open_ranking, require_as_read


@final
@dataclass(frozen=True)
class Later:
    """The same candidates, asked of the student as it stood later.

    Args:
        student: the folder of its weights.
        ranking: the order then.
        chosen: what is chosen from it.
        moved: what changed since the ranking before it.
    """

    student: str
    ranking: Ranking
    chosen: Chosen
    moved: Moved


@final
@dataclass(frozen=True)
class Rank:
    """A finished ranking.

    Args:
        folder: the run's, with `ranking.json` and the features.
        ranking: of those that answered all prompts.
        dropped: whom a race left behind, the last to leave first.
        chosen: what is chosen from it.
        cautions: the ranking's own, and those of how the text was made.
        students: the student and others in order, by the best candidate's text; None of one.
        notes: what was changed in the texts because the recipe says so.
        guessing: candidates whose answers are nearly a guess, which GRACE takes for good ones.
        later: the rankings of the student as it stood later.
        looks: on how many prompts a race looked whom to drop; none where there was no race.
        taken: prompts whose gradients were taken now, counted for each candidate and student; 0
            where all were there.
        seconds: that it took, with what was trained.
    """

    folder: Path
    ranking: Ranking
    dropped: tuple[Dropped, ...]
    chosen: Chosen
    cautions: tuple[str, ...]
    students: Ranking | None = None
    notes: tuple[str, ...] = ()
    guessing: tuple[str, ...] = ()
    later: tuple[Later, ...] = ()
    looks: tuple[int, ...] = ()
    taken: int = 0
    seconds: float = 0.0

    @property
    def raced(self) -> list[str]:
        """What a race came to, in sentences."""
        if self.looks and not self.dropped:
            looks = " and ".join(map(str, self.looks))
            return [f"The race looked after {looks} prompts and dropped nobody."]
        return [
            f"{each.name} was dropped after {each.prompts} prompts, clearly behind {each.behind}."
            for each in self.dropped
        ]


def ranked_in(
    folder: Path,
    said: RankingRecipe,
    texts: Texts,
    progress: Progress,
    *,
    seed: int = 0,
    later: Sequence[Path] = (),
) -> Rank:
    """Train what is to be trained, let teachers write, take features, and order the candidates.

    Of several processes, all train together, one takes features, and the others read them.

    Args:
        folder: where everything lies, and is gone on with.
        said: the recipe.
        texts: what files hold.
        progress: what is shown.
        seed: of the student.
        later: folders of the same student's weights, or checkpoints, in the order of its training.

    Raises:
        RecipeError: a race is to be followed by later rankings; a source has changed since the
            folder was made.
    """
    started = time.perf_counter()
    for place in later:
        if not place.is_dir():
            raise RecipeError(
                f"the student in {place}",
                "there is no such folder",
                "Name a run's student (RUN/arms/distilled/seed-0/student), or a checkpoint.",
            )
    if later and said.race is not None:
        raise RecipeError(
            f"a race, and then the student in {later[0]}",
            "a race drops candidates, and orders are compared over all of them",
            "Leave race out.",
        )
    experiment = Experiment(training_of(said), folder, progress.watch)
    pupil = Pupil(said.student, experiment, folder, said.features, seed, progress.say)
    others = dict(_others(said, pupil))
    moments = [replace(pupil, at=place) for place in later]
    contest = Contest(said, experiment, texts, pupil.device)
    pupils = (pupil, *others.values(), *moments)
    for each in pupils:
        each.require_fit()
    contest.require_fit()
    require_as_read(folder, said, texts, experiment)
    progress.plan([cell for each in (*pupils, contest) for cell in each.cells()])
    for each in (*pupils, contest):
        each.ready()
    with main_process_first():
        found = _found(contest, pupil, others, moments)
    return replace(found, folder=folder, seconds=time.perf_counter() - started)


def _others(said: RankingRecipe, pupil: Pupil) -> Iterator[tuple[str, Pupil]]:
    """Further students, each with a folder and an experiment of its own."""
    for name, learner in said.students.items():
        alone = training_of(said.model_copy(update={"student": learner}), ())
        asked = said.model_copy(update={"student": learner})
        folder = open_ranking(asked, pupil.folder / "students" / name)
        experiment = replace(pupil.experiment, recipe=alone, folder=folder)
        yield name, replace(pupil, said=learner, experiment=experiment, folder=folder)


def _found(
    contest: Contest, pupil: Pupil, others: Mapping[str, Pupil], moments: Sequence[Pupil]
) -> Rank:
    said, prompts = contest.said, contest.prompts()
    cost = contest.parameters() if said.choose.cost == "parameters" else said.choose.cost
    assert not isinstance(cost, str)
    held = [contest.stores(each) for each in (pupil, *moments, *others.values())]
    ranking, dropped = _order(said, held[0], prompts)
    last, later = ranking, list[Later]()
    for each, stores in zip(moments, held[1:], strict=False):
        now, _ = _order(said, stores, prompts)
        picked = chosen(said, now, cost, guessing=contest.guessing)
        later.append(Later(str(each.at), now, picked, moved(last, now)))
        last = now
    students = None
    if others:
        own = [held[0], *held[1 + len(moments) :]]
        best = ranking.best.name
        asked = {
            name: _narrow(said, stores[best](prompts))
            for name, stores in zip(("student", *others), own, strict=True)
        }
        score = said.grace.of(LeverageRatio())
        students = rank_students(asked, score, seed=said.seed)
    cautions = (*contest.cautions(), *ranking.cautions)
    gone = [each.name for each in dropped]
    picked = chosen(said, ranking, cost, gone, contest.guessing)
    return Rank(
        folder=pupil.folder,
        ranking=ranking,
        dropped=dropped,
        chosen=picked,
        cautions=(*cautions, *picked.cautions),
        students=students,
        notes=contest.texts.notes,
        guessing=contest.guessing,
        later=tuple(later),
        looks=() if said.race is None else said.race.race(said.seed).looks(len(prompts))[:-1],
        taken=sum(store.taken for stores in held for store in stores.values()),
    )


def _narrow(said: RankingRecipe, features: Features) -> Features:
    return features if said.narrow is None else features.narrowed(said.narrow)


def _order(
    said: RankingRecipe, stores: Mapping[str, FeatureStore], prompts: Numbers
) -> tuple[Ranking, tuple[Dropped, ...]]:
    score, beside = said.scores()
    if said.race is None:
        features = {name: _narrow(said, store(prompts)) for name, store in stores.items()}
        return ordered(features, score, beside=beside, seed=said.seed), ()

    def ask(name: str, asked: Numbers) -> Features:
        return _narrow(said, stores[name](np.sort(asked)))

    plan = said.race.race(said.seed)
    raced = race(list(stores), prompts, ask, score, plan=plan, beside=beside)
    return raced.ranking, raced.dropped
