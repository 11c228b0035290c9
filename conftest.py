"""Names that the examples in docstrings use without importing them."""

from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace: dict[str, Any]) -> None:
    """Give every docstring example `torch` and `np`."""
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np
