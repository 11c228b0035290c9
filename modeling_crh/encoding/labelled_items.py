"""Torch datasets of prepared rows, for training and evaluation: inputs of a model made a batch at a time, and labels.

Images, which are augmented, have a module of their own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase, SequenceFeatureExtractor

from modeling_crh.checks import check_whole
from modeling_crh.data.columns import check_dataset, is_multi_label, label_names, label_tensor, without_decoding
from modeling_crh.data.prepared import numbers_of
from modeling_crh.encoding.inputs import make_inputs
from modeling_crh.losses import has_label
from modeling_crh.sounds import read_sound

NUM_DRAWS = 15


def sample_draws(seed: int, epoch: int, index: int) -> NDArray[np.float64]:
    """Draw uniform numbers for one sample of one epoch, from a counter-based generator.

    Args:
        seed: Seed, 0 or larger.
        epoch: Number of the epoch, 0 or larger.
        index: Number of the sample in its dataset.

    Returns:
        `(15,)` from 0 (inclusive) to 1 (exclusive).

    Example:
        >>> bool((sample_draws(0, 1, 2) == sample_draws(0, 1, 2)).all())
        True
        >>> bool((sample_draws(0, 1, 2) == sample_draws(0, 2, 1)).any())
        False
    """
    counter = [0, index, epoch, 0]  # the generator uses the first word as its own counter
    return np.random.Generator(np.random.Philox(key=seed, counter=counter)).random(NUM_DRAWS)


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
        self._epoch.fill_(check_whole("epoch", epoch, least=0))

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


class SoundDataset(LabelledDataset):
    """Map-style dataset of what a feature extractor makes of sounds, and `labels`; see `sound_inputs` for its padding.

    Args:
        dataset: A prepared dataset with the columns `audio` and `label`.
        feature_extractor: Feature extractor of the model.

    Raises:
        ValueError: If `dataset` is empty or has no sounds, the first of them is broken, or `feature_extractor` cannot
            work.
        ModuleNotFoundError: If the package that decodes sound is not installed.
    """

    def __init__(self, dataset: Dataset, feature_extractor: SequenceFeatureExtractor) -> None:
        super().__init__(dataset)
        self._sounds = without_decoding(dataset, "audio")
        self._feature_extractor = feature_extractor
        self.inputs([0])  # wrong settings fail here

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`input_values` or `input_features`, and perhaps `attention_mask`, each of `len(rows)` rows.

        Raises:
            ValueError: If a sound cannot be decoded.
        """
        sounds = [read_sound(self._sounds[row]["audio"], f"row {row}") for row in rows]
        return make_inputs(sounds, self._feature_extractor)


class TextDataset(LabelledDataset):
    """Map-style dataset of tokens and `labels`; the texts of a batch are padded to the longest of them.

    Args:
        dataset: A prepared dataset with the columns `text` and `label`.
        tokenizer: Tokenizer of the model; it must be able to pad.

    Raises:
        ValueError: If `dataset` is empty, a text is missing, or the tokenizer has no padding token.
    """

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(dataset)
        if "text" not in dataset.column_names:
            raise ValueError(f"`dataset` must have a column `text`, but has {dataset.column_names}.")
        if tokenizer.pad_token is None:
            raise ValueError("`tokenizer` must have a padding token, but has none.")
        self._texts: list[str] = list(dataset["text"])
        for row, text in enumerate(self._texts):
            if not isinstance(text, str):
                raise ValueError(f"`text` must be a string, but row {row} has {text!r}.")
        self._tokenizer = tokenizer

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and what else the tokenizer gives, each `(len(rows), T)`."""
        return make_inputs([self._texts[row] for row in rows], self._tokenizer)


class FeatureDataset(LabelledDataset):
    """Map-style dataset of `features` and `labels`, all of it in memory.

    Where a row holds several views of one item, such as the features of augmented images, training sees one of them an
    epoch, chosen by `seed`, the epoch and the row alone; `first_view` keeps to the first, which is for evaluation.

    Args:
        dataset: A prepared dataset with the columns `features`, `(F,)` or `(V, F)` numbers a row, and `label`.
        first_view: Take the first view of every row in every epoch.
        seed: Seed of the choice of views, 0 or larger.

    Raises:
        ValueError: If `seed` is no whole number from 0 up, `dataset` is empty, or its features are not finite numbers
            of one shape.

    Example:
        >>> from modeling_crh.data import prepare_dataset
        >>> table = Dataset.from_dict({"clip": [[0.0, 1.0], [1.0, 0.0]], "label": ["cat", "dog"]})
        >>> FeatureDataset(prepare_dataset(table, features_column="clip"))[1]
        {'features': tensor([1., 0.]), 'labels': tensor(1)}
    """

    def __init__(self, dataset: Dataset, *, first_view: bool = False, seed: int = 0) -> None:
        super().__init__(dataset)
        check_whole("seed", seed, least=0)
        self._features = _feature_tensor(dataset)  # (N, V, F)
        self._first_view = first_view
        self.seed = seed

    def inputs(self, rows: Sequence[int], samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """`features` of some rows, `(len(rows), F)` float32; `samples` number the choices of a view."""
        num_views = self._features.shape[1]
        views = [0] * len(rows)
        if num_views > 1 and not self._first_view:
            samples = rows if samples is None else samples
            views = [int(sample_draws(self.seed, self.epoch, sample)[0] * num_views) for sample in samples]
        return {"features": self._features[torch.as_tensor(rows), torch.as_tensor(views)]}


def _feature_tensor(dataset: Dataset) -> Tensor:
    if "features" not in dataset.column_names:
        raise ValueError(f"`dataset` must have a column `features`, but has {dataset.column_names}.")
    if (features := numbers_of(dataset.with_format("arrow")[:]["features"])) is None:
        try:
            features = np.asarray(dataset.with_format(None)[:]["features"], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`features` must hold numbers of one shape in every row, but do not: {error}") from error
    if features.ndim not in (2, 3) or 0 in features.shape:
        raise ValueError(f"`features` must hold (F,) or (V, F) numbers a row, but are {features.shape} in all.")
    finite = np.isfinite(features).reshape(len(features), -1).all(1)
    if not finite.all():
        raise ValueError(f"`features` must be finite, but row {int(np.argmin(finite))} is not.")
    writable = np.require(features, requirements="W")  # what Arrow holds is read-only, which torch warns of
    return torch.from_numpy(writable.reshape(len(features), -1, features.shape[-1]))
