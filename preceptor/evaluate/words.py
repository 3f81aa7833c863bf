"""Numbers as words: how a value reads in a table or a sentence."""

from preceptor.evaluate.numerals import plain, signed
from preceptor.evaluate.report import Measured, Undefined


def in_words(value: Measured) -> str:
    """The estimate with its limits, in its unit; n/a and why where there is no number.

    >>> from preceptor.evaluate.report import Value
    >>> in_words(Value(0.925, 0.9, 0.945, 500, "fraction"))
    '92.5 % (90.0 to 94.5)'
    >>> in_words(Value(3800.0, 3800.0, 3800.0, 1, "parameters"))
    '3.8 k'
    >>> in_words(Undefined("it was not timed"))
    'n/a: it was not timed'
    """
    if isinstance(value, Undefined):
        return f"n/a: {value.why}"
    between = limits(value)
    return f"{estimate(value)} ({between})" if between else estimate(value)


def in_full(value: Measured) -> str:
    """As `in_words`; where a number has no limits, it says why.

    >>> from preceptor.evaluate.report import Value
    >>> in_full(Value(0.972, None, None, 1, "temperature"))
    '0.972 (one model)'
    """
    bare = not isinstance(value, Undefined) and not limits(value) and why(value)
    return f"{estimate(value)} ({why(value)})" if bare else in_words(value)


def estimate(value: Measured) -> str:
    """The estimate alone, in its unit.

    >>> from preceptor.evaluate.report import Value
    >>> estimate(Value(3e-9, None, None, 500, "p"))
    '< 0.0001'
    >>> estimate(Value(2.14e-5, 1e-5, 4e-5, 500, "nats"))
    '2.1e-5 nats'
    """
    if isinstance(value, Undefined):
        return "n/a"
    unit = _suffix(value.unit, value.estimate)
    return _number(value.estimate, value.unit, value.estimate) + (f" {unit}" if unit else "")


def limits(value: Measured) -> str:
    """The limits alone, empty where there are none or nothing lies between them.

    >>> from preceptor.evaluate.report import Value
    >>> limits(Value(0.036, 0.021, 0.05, 500, "difference"))
    '+2.1 to +5.0'
    >>> limits(Value(742.0, 600.0, 1030.0, 40, "tokens a second"))
    '600 to 1030'
    >>> limits(Value(2.14e-5, -1e-5, 0.00104, 500, "nats gained"))
    '−1e-5 to +0.001'
    """
    if isinstance(value, Undefined) or value.low is None or value.high is None:
        return ""
    low, high = (_number(limit, value.unit, value.estimate) for limit in (value.low, value.high))
    return f"{low} to {high}" if value.low < value.high else ""


def why(value: Measured) -> str:
    """What stands below a number that has no limits, or where there is none; often nothing.

    >>> from preceptor.evaluate.report import Value
    >>> why(Undefined("there is no teacher")), why(Value(1.2, None, None, 1, "temperature"))
    ('there is no teacher', 'one model')
    >>> why(Value(19.0, 19.0, 19.0, 120, "tokens"))
    'the same throughout'
    """
    if isinstance(value, Undefined):
        return value.why
    if value.low is None and value.n == 1 and value.unit != "p":
        return "one model"
    alike = value.n > 1 and value.low is not None and value.low == value.high
    return "the same throughout" if alike else ""


def _number(number: float, unit: str, scale: float) -> str:
    match unit:
        case "nats" | "bits" | "nats more" | "nats gained" | "bits gained" if _tiny(scale):
            return _two_figures(number, "+" if unit.endswith(("more", "gained")) else "")
        case "fraction" | "share" | "points":
            return plain(100 * number, 1)
        case "difference" | "difference of differences":
            return signed(100 * number, 1)
        case "p" if number < 0.00005:
            return "< 0.0001"
        case "p":
            return f"{number:.4f}" if number < 0.1 else f"{number:.2f}"
        case "parameters" | "bytes" | "operations" | "examples a second" | "tokens a second":
            return _three_figures(number / 1000 ** _power(scale))
        case "bits gained" | "nats gained" | "nats more" | "correlation more":
            return signed(number, 3)
        case "tokens":
            return f"{number:.1f}"
        case "tokens more":
            return signed(number, 1)
        case "steps":
            return f"{number:.0f}"
        case "seconds" if scale < 0.1:
            return _three_figures(1000 * number)
        case "seconds" | "times":
            return _three_figures(number)
        case _:
            return plain(number, 3)


def _tiny(number: float) -> bool:
    """Whether three places would show it as 0."""
    return 0 < abs(number) < 0.0005


def _two_figures(number: float, sign: str) -> str:
    """Of numbers however small: 2.1e-5."""
    return ("−" if number < 0 else sign) + f"{abs(number):.2g}".replace("e-0", "e-")


def _three_figures(number: float) -> str:
    """All figures of numbers from a thousand on: 1040, and not 1.04e+03."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:.0f}"


def _suffix(unit: str, scale: float) -> str:
    match unit:
        case "fraction" | "share":
            return "%"
        case "difference" | "difference of differences" | "points":
            return "points"
        case "parameters" | "operations":
            return ("", "k", "M", "G", "T")[_power(scale)]
        case "examples a second" | "tokens a second":
            return f"{('', 'k', 'M', 'G', 'T')[_power(scale)]} {unit}".strip()
        case "bytes":
            return ("B", "kB", "MB", "GB", "TB")[_power(scale)]
        case "seconds":
            return "ms" if scale < 0.1 else "s"
        case "times":
            return "×"
        case "nats" | "nats gained" | "nats more" | "token":
            return "nats"
        case "bits" | "bits gained":
            return "bits"
        case _:
            return ""


def _power(number: float) -> int:
    power = 0
    while abs(number) >= 1000 and power < 4:
        number, power = number / 1000, power + 1
    return power
