"""Numbers as a reader sees them: with a real minus, a blank before the percent sign, and no -0."""


def plain(number: float, places: int) -> str:
    """So many decimal places.

    >>> plain(-0.0004, 3), plain(-1.5, 1)
    ('0.000', '−1.5')
    """
    return f"{round(number, places) + 0.0:.{places}f}".replace("-", "−")


def signed(number: float, places: int) -> str:
    """The same with its sign.

    >>> signed(-0.0004, 3), signed(-3.0, 1)
    ('+0.000', '−3.0')
    """
    return f"{round(number, places) + 0.0:+.{places}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in percent.

    >>> percent(0.698)
    '69.8 %'
    """
    return f"{plain(100 * share, 1)} %"
