"""A study's numbers in words: where one has no limits, how many tasks there are."""

from preceptor.evaluate import words
from preceptor.evaluate.report import Measured, Value
from preceptor.ops.correlations import FEWEST_UNITS


def why(value: Measured) -> str:
    """Why a number has no limits, or there is none; often nothing. Limits are counted in tasks.

    >>> why(Value(0.05, None, None, 2, "difference"))
    '2 tasks: too few for limits'
    """
    if not isinstance(value, Value) or value.low is not None or value.unit == "p":
        return words.why(value)
    if value.n < FEWEST_UNITS:
        return f"{value.n} task{'s' if value.n > 1 else ''}: too few for limits"
    return "most draws of tasks have no correlation"


def in_full(value: Measured) -> str:
    """The estimate with its limits, or with the reason why it has none.

    >>> in_full(Value(0.05, None, None, 2, "difference"))
    '+5.0 points (2 tasks: too few for limits)'
    """
    bare = isinstance(value, Value) and not words.limits(value) and why(value)
    return f"{words.estimate(value)} ({why(value)})" if bare else words.in_words(value)
