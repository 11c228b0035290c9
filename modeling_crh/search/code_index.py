"""CodeIndex: what every index over packed codes can do."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modeling_crh.search.code_store import Distances, Positions


class CodeIndex(Protocol):
    """An index: `HammingIndex` in memory, or `LanceIndex` and `LanceView` in a table; see there."""

    @property
    def kind(self) -> str:
        """How it finds codes."""

    @property
    def num_bits(self) -> int:
        """`K`."""

    @property
    def model(self) -> str:
        """Of the codes."""

    @property
    def revision(self) -> str:
        """Of the model."""

    def __len__(self) -> int: ...

    def search_positions(
        self, packed_queries: Any, k: int = 10, *, rerank_logits: Any = None, num_candidates: int | None = None
    ) -> tuple[Positions, Distances]:
        """The `k` nearest items of each query."""

    def search_radius_positions(self, packed_queries: Any, radius: int) -> tuple[list[Positions], list[Distances]]:
        """All items within a radius of each query."""

    def records(self, positions: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Id, label and path of items."""
