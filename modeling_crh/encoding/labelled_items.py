"""The base of the torch datasets of prepared rows: labels, epochs, and samples made a batch at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.data.columns import check_dataset, is_multi_label, label_names, label_tensor


class LabelledDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Map-style dataset of the inputs of a model and `labels`: base of `ImageDataset` and its siblings.

    The samples of a batch are made at once: torch's `DataLoader` calls `__getitems__`, and a subclass implements
    `inputs`. The epoch lies in shared memory, so worker processes that outlive an epoch see `set_epoch` too.

    Args:
        dataset: A prepared dataset, with a column `label` beside the one that the subclass reads.

    Attributes:
        labels: `(N,)` int64 with one class a row, -100 for none; or `(N, C)` float32 of 0 and 1.
        label_names: Names of the C classes, in the order of their ids.
        is_multi_label: Whether labels are `(N, C)`.

    Raises:
        ValueError: If `dataset` is no single split, is empty, or has no such column.
    """

    def __init__(self, dataset: Dataset) -> None:
        check_dataset(dataset)
        self.labels: Tensor = label_tensor(dataset)
        self.label_names = label_names(dataset)
        self.is_multi_label = is_multi_label(dataset)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def num_labels(self) -> int:
        """Number of classes, C."""
        return len(self.label_names)

    @property
    def epoch(self) -> int:
        """The epoch that samples are made for, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next samples are made for; `accelerate` and `CRHTrainer` call this."""
        if not is_whole(epoch) or epoch < 0:
            raise ValueError(f"`epoch` must be a whole number, 0 or larger, but got {epoch!r}.")
        self._epoch.fill_(epoch)

    def inputs(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Inputs of the model for some rows: each a tensor of `len(indices)` rows."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: see `__getitems__`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples, made at once.

        Returns:
            For each index its inputs, and `labels` as an int64 scalar or `(C,)` float32.

        Raises:
            IndexError: If an index is not from 0 to N-1.
        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"`index` must be from 0 to N-1={len(self) - 1}, but got {index}.")
        inputs = self.inputs(indices)
        return [
            {name: values[row] for name, values in inputs.items()} | {"labels": self.labels[index]}
            for row, index in enumerate(indices)
        ]
