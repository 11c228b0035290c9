"""Keep some classes out of training, to measure the retrieval of classes that a model has not seen."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_seed, is_number
from modeling_crh.data.columns import is_multi_label, label_feature, label_names, label_tensor

_TRAINING = ("train", "validation")


def seen_classes(dataset: Dataset, fraction: float, seed: int) -> list[int]:
    """Draw the classes that a model is trained on; the others are the unseen ones.

    Args:
        dataset: A prepared dataset with one label per row.
        fraction: Share of the classes that are unseen, above 0 and below 1; at least one class is.
        seed: Seed of the draw, 0 or larger.

    Returns:
        Class ids, ascending, at least two.

    Raises:
        ValueError: If `fraction` or `seed` is out of range, a row may have several labels, or fewer than two classes
            would be left.
    """
    check_seed(seed)
    if not is_number(fraction) or not 0 < fraction < 1:
        raise ValueError(f"`unseen_fraction` must be a number above 0 and below 1, but got {fraction!r}.")
    if is_multi_label(dataset):
        raise ValueError("`unseen_fraction` must be left out for data with several labels per row.")
    count = len(label_names(dataset))
    unseen = max(round(count * fraction), 1)
    if count - unseen < 2:
        raise ValueError(
            f"`unseen_fraction` must leave two classes to train on, but {fraction} of {count} leaves {count - unseen}."
        )
    kept: list[int] = sorted(np.random.default_rng(seed).permutation(count)[unseen:].tolist())
    return kept


def leave_out_classes(
    dataset: Dataset, rows: Mapping[str, NDArray[np.int64]], seen: Sequence[int]
) -> tuple[DatasetDict, dict[str, NDArray[np.int64]]]:
    """Make splits of which `train` and `validation` know and hold only some classes; rows without a label stay.

    Seen classes are numbered from 0 on in every split, and the others after them, in `query` and `database` alone.

    Args:
        dataset: A prepared dataset with one label per row.
        rows: Row numbers of each split, as `split_rows` gives them.
        seen: Ids of the classes to train on.

    Returns:
        The splits, and their row numbers.

    Raises:
        ValueError: If fewer than two rows are left for validation.
    """
    names, labels = label_names(dataset), label_tensor(dataset)
    order = [*seen, *sorted(set(range(len(names))) - set(seen))]
    place = torch.full((len(names) + 1,), -1)  # the last one is for rows without a label
    place[order] = torch.arange(len(names))
    ids = place[labels.clamp(min=-1)]
    in_training = (ids < len(seen)).numpy()
    searched = _with_labels(dataset, ids, [names[number] for number in order])
    trained = _with_labels(dataset, torch.where(ids < len(seen), ids, -1), [names[number] for number in seen])
    kept = {name: chosen[in_training[chosen]] if name in _TRAINING else chosen for name, chosen in rows.items()}
    if len(kept["validation"]) < 2:
        raise ValueError(
            "`unseen_fraction` must leave at least two rows for validation, but leaves "
            f"{len(kept['validation'])} of {len(rows['validation'])}."
        )
    parts = {name: (trained if name in _TRAINING else searched).select(chosen) for name, chosen in kept.items()}
    return DatasetDict(parts), kept


def _with_labels(dataset: Dataset, ids: Tensor, names: list[str]) -> Dataset:
    """Replace the column `label`, without a copy of the others, as a cast would make."""
    others = dataset.remove_columns("label")
    labelled: Dataset = others.add_column("label", ids.tolist(), feature=label_feature(names))
    return labelled
