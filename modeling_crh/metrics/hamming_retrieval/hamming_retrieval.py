"""Provide the retrieval figures as a module of `evaluate`, loaded from this folder by `evaluate.load`."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor

from modeling_crh.codes import unpack_codes
from modeling_crh.metrics import retrieval_figures

_DESCRIPTION = """
Figures of a Hamming ranking. The headline is `map`: the expected average precision over all orders of the items at
equal distance, which depends on nothing but the codes. `map_convention` is what papers print: a stable sort, so ties
keep database order.
"""

_INPUTS = """
Args:
    predictions: Codes of the queries, each K entries -1 or +1, or K / 8 bytes with `packed=True`.
    references: Labels of the queries, each a class number, or C entries 0 or 1.
    database_codes: Codes of the database, `(N, K)` or `(N, K / 8)`. Without it every query ranks the other queries.
    database_labels: Labels of the database, `(N,)` or `(N, C)`.
    packed: Whether codes are bytes, in the bit order of `numpy.packbits`.
    top_k: Numbers of places for precision and recall.
    top_r: Numbers of places for the convention.
    radius: Radius in bits, for the precision of a lookup.

Returns:
    Figures of `modeling_crh.metrics.retrieval_figures`: `map`, `map_lower`, `map_upper`, `map_at_r`,
    `map_convention`, `precision_at_10`, `recall_at_10`, `precision_within_radius_2`, `queries`,
    `queries_without_relevant`, `database`.
"""

_CITATION = """
@inproceedings{mcsherry2008computing,
  title = {Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores},
  author = {McSherry, Frank and Najork, Marc},
  booktitle = {European Conference on Information Retrieval},
  year = {2008}
}
"""


class HammingRetrieval(evaluate.Metric):
    """All figures of `retrieval_figures`, for queries that may be added batch by batch.

    Example:
        >>> import evaluate
        >>> from modeling_crh.metrics import HAMMING_RETRIEVAL
        >>> metric = evaluate.load(HAMMING_RETRIEVAL)
        >>> figures = metric.compute(predictions=[[1, 1], [1, -1], [-1, -1]], references=[0, 1, 0], top_k=[1])
        >>> figures["map"]
        0.3333333333333333
    """

    def _info(self) -> evaluate.MetricInfo:
        codes = datasets.Sequence(datasets.Value("int16"))  # holds -1 and +1 as well as bytes
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features(predictions=codes, references=datasets.Value("int64")),
                datasets.Features(predictions=codes, references=datasets.Sequence(datasets.Value("int8"))),
            ],
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add a batch, as `evaluate` does, but refuse fractions, which the types of the features would cut off."""
        whole = {"predictions": _whole("predictions", predictions), "references": _whole("references", references)}
        super().add_batch(**whole, **kwargs)  # type: ignore[no-untyped-call]

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one query, see `add_batch`."""
        whole = {"prediction": _whole("prediction", prediction), "reference": _whole("reference", reference)}
        super().add(**whole, **kwargs)  # type: ignore[no-untyped-call]

    def _compute(  # type: ignore[override]  # evaluate hands on the arguments of `compute` by name
        self,
        predictions: Any,
        references: Any,
        database_codes: Any = None,
        database_labels: Any = None,
        packed: bool = False,
        top_k: Sequence[int] = (10,),
        top_r: Sequence[int] = (),
        radius: int = 2,
    ) -> dict[str, float]:
        if (database_codes is None) != (database_labels is None):
            missing = "database_codes" if database_codes is None else "database_labels"
            raise ValueError(f"`database_codes` and `database_labels` must come together, but `{missing}` is missing.")
        codes, labels = _codes(predictions, packed), torch.as_tensor(references)
        alone = database_codes is None
        database = (codes, labels) if alone else (_codes(database_codes, packed), torch.as_tensor(database_labels))
        case = (codes, database[0], labels, database[1])
        return retrieval_figures(*case, leave_one_out=alone, top_k=top_k, top_r=top_r, radius=radius)


def _whole(name: str, values: Any) -> Any:
    """Refuse fractions, and return floats and truth values as whole numbers; all else is as `evaluate` takes it."""
    stacked = isinstance(values, list | tuple) and len(values) > 0 and isinstance(values[0], Tensor)
    table = torch.stack([*values]).cpu() if stacked else values.cpu() if isinstance(values, Tensor) else values
    numbers = np.asarray(table) if values is not None else np.empty(0)
    if numbers.dtype.kind == "f" and (wrong := numbers[numbers != np.rint(numbers)]).size:
        raise ValueError(f"`{name}` must be whole numbers, but hold {wrong[0]:.4g}.")
    return numbers.astype(np.int64) if values is not None and numbers.dtype.kind in "fb" else table


def _codes(codes: Any, packed: bool) -> Tensor:
    table = torch.as_tensor(codes)
    if not packed:
        return table
    wrong = table[(table < 0) | (table > 255)]
    if len(wrong):
        raise ValueError(
            f"`packed` must be False unless codes are bytes from 0 to 255, but they hold {wrong[0].item()}."
        )
    return unpack_codes(table.to(torch.uint8))
