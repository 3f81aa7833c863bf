"""Every method of the package keeps every promise of the contract."""

import pytest

from preceptor.testing import OBJECTIVE_CHECKS, Check, objective_cases

CASES = objective_cases()


@pytest.mark.parametrize("check", OBJECTIVE_CHECKS, ids=lambda check: check.__name__[6:])
@pytest.mark.parametrize("method", CASES)
def test_a_method_keeps_the_contract(method: str, check: Check) -> None:
    check(CASES[method])
