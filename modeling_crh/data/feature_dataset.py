"""A table of stored features as what a training loop reads."""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from modeling_crh.checks import check_seed
from modeling_crh.data.labelled_dataset import LabelledDataset
from modeling_crh.data.transforms import sample_draws


class FeatureDataset(LabelledDataset):
    """Map-style dataset of `features` and `labels`, all of it in memory.

    Where a row holds several views of one item, such as the features of augmented images, training sees one of them an
    epoch, chosen by `seed`, the epoch and the row alone; `first_view` keeps to the first, which is for evaluation.

    Args:
        dataset: Columns `features`, `(F,)` or `(V, F)` numbers a row, and `label`.
        first_view: Take the first view of every row in every epoch.
        seed: 0 or larger.

    Attributes:
        num_features: F.

    Raises:
        ValueError: If `seed` is no whole number from 0 up, `dataset` is empty, or its features are not finite numbers
            of one shape.

    Example:
        >>> from modeling_crh.data import prepare_table
        >>> table = Dataset.from_dict({"clip": [[0.0, 1.0], [1.0, 0.0]], "label": ["cat", "dog"]})
        >>> FeatureDataset(prepare_table(table, features_column="clip"))[1]
        {'features': tensor([1., 0.]), 'labels': tensor(1)}
    """

    def __init__(self, dataset: Dataset, *, first_view: bool = False, seed: int = 0) -> None:
        super().__init__(dataset)
        check_seed(seed)
        self._features = _feature_tensor(dataset)  # (N, V, F)
        self._first_view = first_view
        self.seed = seed

    @property
    def num_features(self) -> int:
        """Width of a row, F."""
        return self._features.shape[2]

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`features` of some rows, `(len(indices), F)` float32."""
        rows = torch.as_tensor(indices)
        num_views = self._features.shape[1]
        views = torch.zeros_like(rows)
        if num_views > 1 and not self._first_view:
            draws = [sample_draws(self.seed, self.epoch, index)[0] for index in indices]
            views = torch.tensor([int(draw * num_views) for draw in draws])
        return {"features": self._features[rows, views]}


def _feature_tensor(dataset: Dataset) -> Tensor:
    if "features" not in dataset.column_names:
        raise ValueError(f"`dataset` must have a column `features`, but has {dataset.column_names}.")
    try:
        features = np.asarray(dataset.with_format("numpy")[:]["features"], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`features` must hold numbers of one shape in every row, but do not: {error}") from error
    if features.ndim not in (2, 3) or 0 in features.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but are {features.shape} in all.")
    finite = np.isfinite(features).reshape(len(features), -1).all(1)
    if not finite.all():
        raise ValueError(f"`features` must be finite, but row {int(np.argmin(finite))} is not.")
    return torch.from_numpy(features.reshape(len(features), -1, features.shape[-1]))
