"""Divide a labelled dataset into train, validation, query and database, reproducibly on every machine."""

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_whole, is_number
from modeling_crh.data.columns import label_names, label_tensor
from modeling_crh.losses import has_label, label_weights

QUERY_FRACTION, VALIDATION_FRACTION = 0.2, 0.1


@dataclass(frozen=True)
class Protocol:
    """Sizes of a division; the default is the official division.

    Args:
        num_query: Number of queries to draw from all images. None keeps the official test set.
        num_train: Number of training images to draw from the other images. None takes all other images.
        train_in_database: Whether the database holds the training images.

    Raises:
        ValueError: If a size is below 1, or the database would be empty.
    """

    num_query: int | None = None
    num_train: int | None = None
    train_in_database: bool = True

    def __post_init__(self) -> None:
        for name in ("num_query", "num_train"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be 1 or larger, but got {value}.")
        if self.num_train is None and not self.train_in_database:
            raise ValueError("`num_train` must be given where the database does not hold the training images.")


OFFICIAL = Protocol()


def split_rows(
    dataset: Dataset,
    query: Dataset | None = None,
    *,
    validation: Dataset | None = None,
    protocol: Protocol = OFFICIAL,
    validation_fraction: float | None = None,
    query_fraction: float | None = None,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Choose the rows of the splits `train`, `validation`, `query` and `database`.

    `database` holds all items but the queries, unless the protocol says otherwise. `train` and `validation` divide the
    training items, so that model selection never sees a query. `held_out_rows` describes how rows are drawn; a share is
    one of the rows with a label, since others are relevant to nothing and would count as queries without a hit.

    Args:
        dataset: A prepared dataset; the training set if `query` or `validation` is given.
        query: The test set, with the features of `dataset`. None cuts queries from `dataset`.
        validation: The validation set, with the features of `dataset`. None cuts one from the training items.
        protocol: Sizes to draw from both sets together; the default draws nothing and keeps the two sets.
        validation_fraction: Share of the training items to hold out for validation, above 0 and below 1. None is a
            tenth; it must be None with `validation`.
        query_fraction: Share of `dataset` to cut as queries, above 0 and below 1. None is a fifth; it must be None with
            `query`, or where `protocol` has a number of queries.
        seed: Seed of the rows that are drawn and held out.

    Returns:
        Ascending row numbers of `train`, `validation`, `query` and `database`. The rows of `validation`, and then the
        rows of `query`, are numbered after the last row of `dataset`.

    Raises:
        ValueError: If the datasets differ in their features, there is only one class, a class has no item in `dataset`,
            a split would be empty, `validation` would have fewer than two rows (each is ranked against the others), a
            share is given for a set that already exists, or `protocol` takes more items than there are.
    """
    _check_classes(dataset)
    sides = {"validation": validation, "query": query}
    given = [_labels_like(dataset, name, side) for name, side in sides.items() if side is not None]
    labels = torch.cat([label_tensor(dataset), *given])
    needed = (protocol.num_query or 0) + (protocol.num_train or 0)
    if needed >= len(labels):
        found = f"{needed} of the {len(labels)} that there are"
        raise ValueError(f"`protocol` must leave an item to search, but takes {found}.")
    cut_queries = query is None and protocol.num_query is None
    query_share = _share("query_fraction", query_fraction, QUERY_FRACTION, is_cut=cut_queries)
    share = _share("validation_fraction", validation_fraction, VALIDATION_FRACTION, is_cut=validation is None)
    every = np.arange(len(labels))
    training, held_out, queries = np.split(every, [len(dataset), len(every) - (0 if query is None else len(query))])
    if protocol.num_query is not None:
        training, queries = _draw(labels, every, protocol.num_query, seed)
    elif query is None:
        training, queries = _cut(labels, training, query_share, "query_fraction", seed, least=1)
    database = np.concatenate([training, held_out])
    if protocol.num_train is not None:
        training, others = _draw(labels, training, len(training) - protocol.num_train, seed)
        database = database if protocol.train_in_database else others
    if validation is None:
        training, held_out = _cut(labels, training, share, "validation_fraction", seed, least=2)
    return {"train": training, "validation": held_out, "query": queries, "database": database}


def held_out_rows(labels: Tensor, fraction: float, *, seed: int) -> NDArray[np.int64]:
    """Choose a stratified share of the rows; the same seed gives the same rows on every machine.

    Rows are shuffled, sorted by class (classes in shuffled order too), and taken at even steps. The total is
    rounded, but at least 1, and each class gives its own share of it, rounded up or down. A row with several labels
    counts as its rarest label (the smaller id if two are equally rare), and rows without a label form a class of their
    own. Finally every label without a remaining row gets one back, so a class of one sample is never held out.

    Args:
        labels: `(N,)` class ids, or `(N, C)` of 0 and 1.
        fraction: Share to hold out, above 0 and below 1.
        seed: Seed of the draw, 0 or larger.

    Returns:
        Row numbers, ascending.

    Raises:
        ValueError: If `fraction` is not between 0 and 1, `seed` is not a whole number from 0 up, or there are no rows.

    Example:
        >>> held_out_rows(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
        array([2, 4])
    """
    check_fraction("fraction", fraction)
    if len(labels) == 0:
        raise ValueError("`labels` must have at least one row, but has none.")
    return _choose(labels, max(round(len(labels) * fraction), 1), seed)


def _choose(labels: Tensor, total: int, seed: int) -> NDArray[np.int64]:
    """Choose `total` rows by the rule of `held_out_rows`."""
    check_whole("seed", seed, least=0)
    rows, ids = _pairs(labels)
    strata = _rarest_label(rows, ids, len(labels))
    generator = np.random.default_rng(seed)
    class_order = generator.permutation(int(strata.max()) + 1)
    order = generator.permutation(len(labels))
    order = order[np.argsort(class_order[strata[order]], kind="stable")]
    steps = (np.arange(total) * len(order) + generator.integers(len(order))) // total
    kept = np.ones(len(order), dtype=bool)
    kept[order[steps]] = False
    for label in np.setdiff1d(ids, ids[kept[rows]]):
        owners = rows[ids == label]
        if not kept[owners].any():  # an earlier label may have brought one back
            kept[owners[0]] = True
    return np.flatnonzero(~kept)


def _pairs(labels: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List every label of every row, as row numbers (ascending) and label ids."""
    if labels.ndim == 1:
        rows = np.flatnonzero(has_label(labels).numpy())
        return rows, labels.numpy()[rows]
    rows, ids = np.nonzero(labels.numpy())
    return rows, ids


def _rarest_label(rows: NDArray[np.int64], ids: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Find the rarest label of each row, `(num_rows,)`; a row without a label gets the id after the last."""
    counts = np.bincount(ids)
    strata = np.full(num_rows, len(counts))
    order = np.lexsort((ids, counts[ids]))[::-1]  # the rarest comes last, and assignment keeps the last
    strata[rows[order]] = ids[order]
    return strata


Parts = tuple[NDArray[np.int64], NDArray[np.int64]]


def _draw(labels: Tensor, rows: NDArray[np.int64], total: int, seed: int) -> Parts:
    """Draw `total` of `rows`; return the rows kept, with one of every class, and the rows drawn."""
    drawn = _choose(labels[torch.from_numpy(rows)], total, seed)
    return np.delete(rows, drawn), rows[drawn]


def _cut(labels: Tensor, rows: NDArray[np.int64], fraction: float, name: str, seed: int, *, least: int) -> Parts:
    """Draw a share of those `rows` that have a label; return the rows kept, and the rows held out."""
    labelled = rows[has_label(labels[torch.from_numpy(rows)]).numpy()]
    held_out = _draw(labels, labelled, max(round(len(labelled) * fraction), 1), seed)[1]
    if len(held_out) < least:
        rule = f"must hold out at least {least} of the {len(labelled)} labelled rows and leave one of every class"
        raise ValueError(f"`{name}` {rule}, but {fraction} holds out {len(held_out)}.")
    return np.setdiff1d(rows, held_out), held_out


def _share(name: str, fraction: float | None, default: float, *, is_cut: bool) -> float:
    if fraction is None:
        return default
    if not is_cut:
        raise ValueError(f"`{name}` must be left out where the data bring that part themselves, but got {fraction!r}.")
    check_fraction(name, fraction)
    return fraction


def check_fraction(name: str, fraction: float) -> None:
    """Check that a share of rows or classes lies between 0 and 1, with `name` in the error."""
    if not is_number(fraction) or not 0 < fraction < 1:
        raise ValueError(f"`{name}` must be a number above 0 and below 1, but got {fraction!r}.")


def _labels_like(dataset: Dataset, name: str, side: Dataset) -> Tensor:
    if side.features != dataset.features:
        found = f"{dict(side.features)} and {dict(dataset.features)}"
        raise ValueError(f"`{name}` must have the features of `dataset`, but got {found}.")
    if len(side) == 0:
        raise ValueError(f"`{name}` must hold at least one item, but is empty.")
    return label_tensor(side)


def _check_classes(dataset: Dataset) -> None:
    names = label_names(dataset)
    if len(names) < 2:
        raise ValueError(f"`dataset` must have at least two classes, but has only {names}.")
    is_there = label_weights(label_tensor(dataset), len(names)).any(0).tolist()
    if empty := [name for name, found in zip(names, is_there, strict=True) if not found]:
        others = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise ValueError(f"`dataset` must have a training item of every class, but has none of {empty[0]!r}{others}.")
