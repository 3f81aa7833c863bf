import json

import pytest

from benchmarks.paired import Claim, Interval, at_most, conclude, reported

FOUND = Interval(0.5, 0.4, 0.6)


def test_a_target_that_is_missed_is_told_and_fails_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    claims = [
        reported("rho", FOUND, target=0.86, reached=False),
        reported("figure", FOUND),
        at_most("ratio", FOUND, 1.0),
    ]
    with pytest.raises(SystemExit) as left:
        conclude(claims)
    assert left.value.code == 0
    missed, figure, kept = map(json.loads, capsys.readouterr().out.splitlines())
    assert (missed["target"], missed["reached"]) == (0.86, False)
    assert "holds" not in missed
    assert set(figure) == {"claim", "value", "low", "high", "bound"}
    assert kept["holds"] is True


@pytest.mark.parametrize("bound", [0.3, None])
def test_what_was_promised_and_does_not_hold_fails(bound: float | None) -> None:
    with pytest.raises(SystemExit) as left:
        conclude([Claim("a promise", *FOUND, bound=bound, holds=False)])
    assert left.value.code == 1
