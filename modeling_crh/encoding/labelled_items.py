"""The base of the torch datasets of prepared rows: labels, epochs, and samples made a batch at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import is_whole
from modeling_crh.data.columns import check_dataset, is_multi_label, label_names, label_tensor
from modeling_crh.losses import has_label


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
        self._chances: NDArray[np.float64] | None = None
        self._drawn: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)

    def balance(self, seed: int) -> "LabelledDataset":
        """Draw the N samples of each epoch anew, with replacement, so that every class is as likely as any other.

        A row of several labels is as likely as the mean of its classes, and a row without a label is never drawn. The
        rows of an epoch depend on `seed` and the epoch alone.

        Returns:
            This dataset.

        Raises:
            ValueError: If no row has a label.
        """
        if not has_label(self.labels).any():
            raise ValueError("`balanced` must be left out for rows without any label.")
        counts = self.labels.sum(0) if self.is_multi_label else self.labels[self.labels >= 0].bincount()
        chances = 1 / counts.clamp(min=1).double()  # (C,)
        if self.is_multi_label:
            rows = (self.labels.double() @ chances) / self.labels.sum(1).clamp(min=1)
        else:
            rows = torch.where(self.labels >= 0, chances[self.labels.clamp(min=0)], 0.0)
        self._chances, self._seed = (rows / rows.sum()).numpy(), seed
        return self

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

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Make inputs of the model from some rows.

        Args:
            rows: Numbers of the rows.
            samples: Numbers of the samples, which random choices depend on; None takes the numbers of the rows.

        Returns:
            Tensors by name, each of `len(rows)` rows.
        """
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
        rows = self._rows(indices)
        inputs = self.inputs(rows, indices)
        return [
            {name: values[place] for name, values in inputs.items()} | {"labels": self.labels[row]}
            for place, row in enumerate(rows)
        ]

    def _rows(self, samples: Sequence[int]) -> Sequence[int]:
        """Return the rows of some samples of this epoch: the same numbers, unless samples are drawn."""
        if self._chances is None:
            return samples
        if self._drawn[0] != self.epoch:
            generator = np.random.default_rng([self._seed, self.epoch])
            self._drawn = self.epoch, generator.choice(len(self), len(self), p=self._chances)
        rows: list[int] = self._drawn[1][list(samples)].tolist()
        return rows
