"""What all tests share: settings of hypothesis, and names that the examples in docstrings use."""

import gc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")


def pytest_collection_finish() -> None:
    """Leave what imports have made out of garbage collection: each training collects, for half a second and more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace: dict[str, Any]) -> None:
    """Give every docstring example `torch` and `np`."""
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np
