"""Whether a teacher helps: every method on digits, the omitted digit, and where none helps.

Three presets are run, or gone on with where `--out` holds them already. The claims are those of
their reports: intervals over seeds and test items, paired with the control. For the omitted digit
one number is added to that class's logits, as Hinton et al. did; it is chosen on validation.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from paired import Claim, Interval, conclude, table
from safetensors.numpy import load_file

from preceptor import distill
from preceptor.evaluate.report import Report, Value
from preceptor.evaluate.significance import gap, means
from preceptor.ops.resampling import Crossed
from preceptor.recipe.images import image_data
from preceptor.recipe.load import load_recipe
from preceptor.recipe.schema import Data, Recipe, Seeds

OTHERS = 2
"""How many methods beside KD must gain."""

QUICK = ("logit_regression", "sp")
Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def recipe(name: str, quick: bool) -> Recipe:
    """A preset; in short, with three seeds and a few of the methods."""
    whole = load_recipe(name)
    if not quick:
        return whole
    few = {arm: way for arm, way in whole.variants.items() if arm in QUICK}
    return whole.model_copy(update={"seed": Seeds(count=3), "variants": few})


def points(value: Value) -> Interval:
    """A share in points of a hundred."""
    assert value.low is not None
    assert value.high is not None
    return Interval(100 * value.estimate, 100 * value.low, 100 * value.high)


def shown(value: Value, sign: str = "") -> str:
    """In points, with its interval."""
    estimate, low, high = points(value)
    return f"{estimate:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def methods(report: Report) -> tuple[str, list[Claim]]:
    """All arms, the best first; and which of them gain over the control."""
    rows: list[tuple[object, ...]] = []
    gains = {d.of: d.gain for d in report.differences if d.versus == "control"}
    for arm in report.arms:
        accuracy, seconds = arm.measures["accuracy"], arm.measures["seconds"]
        assert isinstance(accuracy, Value)
        assert isinstance(seconds, Value)
        gain = shown(gains[arm.name], "+") if arm.name in gains else ""
        unlabelled = arm.unlabelled or ""
        rows.append((arm.name, shown(accuracy), gain, unlabelled, f"{seconds.estimate:.1f}"))
    rows.sort(key=lambda row: -float(str(row[1]).partition(" ")[0]))
    heads = ("arm", "accuracy, %", "gain, points", "unlabelled", "seconds a seed")
    taught = {arm.name for arm in report.arms if arm.role == "student"}
    clear = [name for name in taught if (gains[name].low or 0) > 0 and name != report.student]
    kd, count = points(gains[report.student]), float(len(clear))
    claims = [
        Claim("gain of KD over the control, points, low end", *kd, bound=0, holds=kd.low > 0),
        Claim(
            f"other methods of {len(taught) - 1} whose gain's interval lies above 0",
            *(count, count, count),
            bound=OTHERS,
            holds=count >= OTHERS,
        ),
    ]
    return table(heads, rows), claims


class Answers(NamedTuple):
    """One student's logits for validation and test, [n, v] each."""

    validation: Logits
    test: Logits


def answers(folder: Path, arm: str, seeds: tuple[int, ...]) -> list[Answers]:
    """What an arm's students said, seed by seed."""
    found = [
        load_file(folder / "arms" / arm / f"seed-{s}" / "predictions.safetensors") for s in seeds
    ]
    return [Answers(one["0.validation"], one["0.test"]) for one in found]


def best_bias(logits: Logits, labels: Labels, of: int) -> float:
    """What to add to a class's logits for the most right answers.

    An item is answered with the class where the bias exceeds its margin. Between two margins
    nothing changes, so one bias between each two is tried; of several that are equally good the
    middle one is taken.
    """
    others = np.delete(logits, of, axis=1)
    margins = others.max(axis=1) - logits[:, of]
    edges = np.unique(margins)
    tried = np.concatenate([[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1]])
    rival = np.delete(np.arange(logits.shape[1]), of)[others.argmax(axis=1)]
    chosen = np.where(tried[:, None] > margins, of, rival)
    right = (chosen == labels).sum(axis=1)
    best = np.flatnonzero(right == right.max())
    return float(tried[best[len(best) // 2]])


def omitted(folder: Path, said: Recipe) -> tuple[str, list[Claim]]:
    """Accuracy on the omitted class and on all, as trained and with one bias."""
    assert isinstance(said.data, Data)
    (of,) = said.data.omit
    data = image_data(said.data)
    held, labels = data.validation.labels.numpy(), data.test.labels.numpy()
    rows: list[tuple[object, ...]] = []
    hits: dict[tuple[str, bool], NDArray[np.bool_]] = {}
    for arm in ("distilled", "control"):
        for biased in (False, True):
            right = []
            for one in answers(folder, arm, said.seed.values()):
                logits = one.test.copy()
                logits[:, of] += best_bias(one.validation, held, of) if biased else 0.0
                right.append(logits.argmax(axis=1) == labels)
            hits[arm, biased] = np.stack(right)
            here = hits[arm, biased][:, labels == of], hits[arm, biased]
            words = "one bias" if biased else "as trained"
            rows.append((f"{arm}, {words}", *(shown(_mean(each)) for each in here)))
    first, second = (hits[arm, True][:, labels == of] for arm in ("distilled", "control"))
    more = points(gap(first, second, _draws(first)))
    claim = f"accuracy on the omitted digit with one bias, above the control's, points ({of})"
    heads = ("student", f"accuracy on {of}, %", "on all digits, %")
    return table(heads, rows), [Claim(claim, *more, bound=0, holds=more.low > 0)]


def _mean(hits: NDArray[np.bool_]) -> Value:
    column = {"accuracy": hits.astype(float)}
    return means(column, {"accuracy": "fraction"}, _draws(hits))["accuracy"]


def _draws(hits: NDArray[np.bool_]) -> Crossed:
    return Crossed(hits.shape[0], hits.shape[1], np.random.default_rng(0))


def no_help(report: Report) -> Claim:
    """The verdict where the teacher has nothing to add."""
    difference = report.difference(report.student, "control")
    assert difference is not None
    kind = report.verdict.kind
    words = f"gain where every label is known, points: the verdict is {kind!r}"
    holds = kind in ("no difference seen", "hurt")
    return Claim(words, *points(difference.gain), bound=None, holds=holds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three seeds and a few methods")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are kept")
    args = parser.parse_args()
    claims: list[Claim] = []
    suffix = "-quick" if args.quick else ""
    ran = {}
    for name in ("digits-methods", "digits-omitted", "digits-saturated"):
        said = recipe(name, args.quick)
        ran[name] = said, distill(said, out=args.out / f"{name}{suffix}", show=sys.stderr.isatty())
    text, found = methods(ran["digits-methods"][1].report)
    print(text, end="\n\n")
    claims += found
    said, run = ran["digits-omitted"]
    text, found = omitted(run.folder, said)
    print(text, end="\n\n")
    claims += found
    saturated = ran["digits-saturated"][1].report
    print(saturated.verdict.headline, end="\n\n")
    conclude([*claims, no_help(saturated)])


if __name__ == "__main__":
    main()
