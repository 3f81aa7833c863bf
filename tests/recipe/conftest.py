"""A recipe as short as one can be, as plain data."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

_SMALL: dict[str, Any] = {
    "data": {"source": "toy"},
    "teacher": {"model": {"zoo": "cnn-large"}, "train": {"steps": 2}},
    "student": {"model": {"zoo": "cnn-small"}},
    "stages": [{"objective": [{"ce": {}, "weight": 0.1}, {"kd": {}}], "plan": {"steps": 2}}],
}


@pytest.fixture
def small() -> Callable[..., dict[str, Any]]:
    """The recipe, with some of its sections replaced."""

    def replaced(**sections: Any) -> dict[str, Any]:
        return copy.deepcopy({**_SMALL, **sections})

    return replaced
