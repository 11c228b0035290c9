"""A small report: three classes of 8 bits, two searches, and a log of two epochs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modeling_crh.metrics import PrecisionRecallCurve
from modeling_crh.report import Neighbour, ReportContent, SearchResult, write_report

HISTORY = [
    {"loss": 2.0, "learning_rate": 1e-4, "epoch": 1.0, "step": 5},
    {"eval_map": 0.4, "eval_map_lower": 0.3, "eval_map_upper": 0.5, "eval_centers_moved": 1.0, "epoch": 1.0},
    {"loss": 1.0, "learning_rate": 1e-5, "epoch": 2.0, "step": 10},
    {"eval_map": 0.6, "eval_map_lower": 0.5, "eval_map_upper": 0.7, "eval_centers_moved": 0.0, "epoch": 2.0},
    {"train_loss": 1.5, "train_runtime": 3.0, "epoch": 2.0},
]
FIGURES = {"map": 0.625, "map_lower": 0.5, "map_upper": 0.75, "precision_at_10": 0.3, "queries": 1000}


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Give an image drawn from a seed."""

    def draw(height: int = 6, width: int = 6, seed: int = 0) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return draw


@pytest.fixture(scope="session")
def make_content(picture: Callable[..., NDArray[np.uint8]]) -> Callable[..., ReportContent]:
    """Give the small report, with any field changed."""
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randint(2, (3, 8), generator=generator) * 2 - 1 for _ in range(2))
    found = [("coat", 0, True), ("bag", 1, False), ("coat", 1, True)]
    neighbours = tuple(Neighbour(picture(seed=row), (name,), *rest) for row, (name, *rest) in enumerate(found))
    steps = torch.linspace(0, 1, 9, dtype=torch.float64)
    fields: dict[str, Any] = {
        "title": "Three classes",
        "summary": {"data set": "toy", "seed": 0, "seconds": 12.3456},
        "figures": FIGURES,
        "history": HISTORY,
        "curve": PrecisionRecallCurve(torch.arange(9), 1 - 0.7 * steps, steps),
        "centers_before": before,
        "centers_after": after,
        "label_names": ["coat", "bag", "shoe"],
        "results": [SearchResult(picture(), ("coat",), neighbours), SearchResult(picture(), (), neighbours[1:])],
    }
    return lambda **changes: ReportContent(**fields | changes)


@pytest.fixture(scope="session")
def report(make_content: Callable[..., ReportContent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the small report once and give the path of its page."""
    return write_report(make_content(), tmp_path_factory.mktemp("run") / "report")
