"""Rishabh Agarwal, Nino Vieillard, Yongchao Zhou, Piotr Stanczyk and others.

"On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes". ICLR 2024,
arXiv:2306.13649. Of it the divergence alone, for image classifiers.

A method of your own is one file like this one. A recipe names it by its import path, and
`check_objective` holds it to what every method promises:

    python examples/own_method.py        # about ten seconds on one core
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from preceptor import Batch, Needs, Objective, Outputs, Signal, Term, check_objective, distill
from preceptor.fields import OpenFraction, Positive
from preceptor.ops.divergences import jensen_shannon
from preceptor.recipe.load import recipe_of
from preceptor.types import Terms


@final
@dataclass(frozen=True)
class JensenShannon(Objective[nn.Module]):
    """T^2 (beta KL(p || m) + (1 - beta) KL(q || m)) with m = beta p + (1 - beta) q, equation 1.

    p is the teacher's distribution at temperature T, q the student's. Unlike the paper, at a
    temperature, with the factor T^2 that keeps the gradient's scale.

    Args:
        beta: the teacher's part of the mixture.
        temperature: T.
    """

    beta: OpenFraction = 0.5
    temperature: Positive = 4.0

    def needs(self) -> Needs:
        """Probabilities at T."""
        return Needs(
            kinds=frozenset({"probabilities"}),
            temperatures=frozenset({self.temperature}),
            linear=False,
        )

    def terms(self, student: Outputs, teacher: Signal, batch: Batch, aux: nn.Module) -> Terms:
        """One divergence a position."""
        del batch, aux
        p = teacher.whole.log_probs(self.temperature).detach()
        divergence = jensen_shannon(
            teacher=p, student=student.logits / self.temperature, beta=self.beta
        )
        return {self.name: Term(self.temperature**2 * divergence)}


RECIPE = {
    "name": "own-method",
    "seed": {"count": 3},
    "data": {"source": "digits", "labelled": 100, "unlabelled": "rest"},
    "teacher": {
        "model": {"zoo": "cnn-large"},
        "train": {"steps": 80, "optimizer": {"name": "adamw", "lr": 3e-3}},
    },
    "student": {"model": {"zoo": "cnn-small"}},
    "stages": [
        {
            "objective": [{"ce": {}}, {"own_method:JensenShannon": {"beta": 0.3}}],
            "plan": {"steps": 80, "optimizer": {"lr": 0.1}, "schedule": "cosine"},
        }
    ],
    "control": {"arms": ["control"]},
}


def main() -> None:
    check_objective(JensenShannon())
    print("JensenShannon keeps the contract")
    run = distill(recipe_of(RECIPE))
    print(run.report.verdict.headline)


if __name__ == "__main__":
    main()
