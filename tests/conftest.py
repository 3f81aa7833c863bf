"""Every test starts from the same random state, and the imports of them all are no garbage.

A million objects of torch and the test modules live as long as the process: the garbage collector
need not look through them again and again.
"""

import gc
import random
from collections.abc import Generator

import numpy as np
import pytest
import torch


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """From here on, only what tests make may be garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
