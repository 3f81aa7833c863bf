"""A learning rate for an arm, chosen on validation."""

from preceptor.verbs.experiment import Experiment


def tuned(experiment: Experiment, arm: str) -> float | None:
    """The learning rate with the best validation quality at the first seed, for one arm.

    Every arm tries the same rates once; None where the recipe tunes nothing.
    """
    tune = experiment.recipe.tune
    if tune is None:
        return None
    seed = experiment.recipe.seed.first
    found: dict[float, float] = {}
    for lr in tune.lr:
        cell = (
            experiment.plain(arm, seed, lr)
            if arm in experiment.recipe.control.arms
            else experiment.taught_as(arm).distilled(seed, lr)[-1]
        )
        answers = experiment.run(cell).answers[0]["validation"]
        found[lr] = experiment.subject.quality(answers)
    return max(found, key=lambda lr: found[lr])
