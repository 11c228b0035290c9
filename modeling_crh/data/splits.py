"""Cut a labelled dataset into train, validation, query and database, the same way on every machine."""

import numpy as np
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_seed, is_number
from modeling_crh.data.columns import count_unlabelled, is_multi_label, label_names, label_tensor
from modeling_crh.data.protocols import OFFICIAL, Protocol

QUERY_FRACTION = 0.2


def split_dataset(
    dataset: Dataset,
    query: Dataset | None = None,
    *,
    protocol: Protocol = OFFICIAL,
    validation_fraction: float = 0.1,
    query_fraction: float | None = None,
    seed: int = 0,
) -> DatasetDict:
    """Make the four splits of a retrieval experiment.

    `database` is what queries search: the official training set, or what is left after the queries are cut, unless the
    protocol says otherwise. `train` and `validation` are the two parts of the training images, which without a protocol
    are those of `database`; so model selection never sees a query. How rows are chosen: see `held_out_rows`.

    Args:
        dataset: A prepared dataset; the official training set if `query` is given.
        query: The official test set, with the features of `dataset`. Without one, queries are cut from `dataset`.
        protocol: Sizes to draw from both sets together; by default nothing is drawn and the two stay what they are.
        validation_fraction: Share of the training images to hold out for validation, above 0 and below 1.
        query_fraction: Share of `dataset` to cut as queries, above 0 and below 1; None is a fifth. Only where `query`
            is left out and `protocol` has no number of queries.
        seed: Decides which rows are drawn and held out.

    Returns:
        The splits `train`, `validation`, `query` and `database`.

    Raises:
        ValueError: If the two datasets differ in their features, there is only one class, a class has no sample in
            `dataset`, a split would be empty or `validation` have fewer than two rows (each is ranked against the
            others), `query_fraction` is given where nothing is cut by it, or `protocol` takes more images than there
            are.
    """
    rows = split_rows(
        dataset,
        query,
        protocol=protocol,
        validation_fraction=validation_fraction,
        query_fraction=query_fraction,
        seed=seed,
    )
    images = dataset if query is None else concatenate_datasets([dataset, query])
    return DatasetDict({name: images.select(chosen) for name, chosen in rows.items()})


def split_rows(
    dataset: Dataset,
    query: Dataset | None = None,
    *,
    protocol: Protocol = OFFICIAL,
    validation_fraction: float = 0.1,
    query_fraction: float | None = None,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Which rows `split_dataset`, which takes the same arguments and raises the same errors, puts into which split.

    Returns:
        `train`, `validation`, `query` and `database` to row numbers, ascending. The rows of the argument `query` count
        on from the last one of `dataset`.
    """
    _check_classes(dataset)
    labels = (
        label_tensor(dataset) if query is None else torch.cat([label_tensor(dataset), _query_labels(dataset, query)])
    )
    _check_sizes(protocol, len(labels))
    if query_fraction is not None and (query is not None or protocol.num_query is not None):
        raise ValueError(
            f"`query_fraction` must be left out where the data bring queries of their own, but got {query_fraction!r}."
        )
    every = np.arange(len(labels))
    if protocol.num_query is not None:
        rest, queries = _draw(labels, every, protocol.num_query, seed)
    elif query is not None:
        rest, queries = every[: len(dataset)], every[len(dataset) :]
    else:
        share = QUERY_FRACTION if query_fraction is None else query_fraction
        rest, queries = _cut(labels, every, share, "query_fraction", seed, least=1)
    training, others = rest, rest[:0]
    if protocol.num_train is not None:
        training, others = _draw(labels, rest, len(rest) - protocol.num_train, seed)
    train, validation = _cut(labels, training, validation_fraction, "validation_fraction", seed, least=2)
    return {
        "train": train,
        "validation": validation,
        "query": queries,
        "database": rest if protocol.train_in_database else others,
    }


def held_out_rows(labels: Tensor, fraction: float, *, seed: int) -> NDArray[np.int64]:
    """Choose a stratified share of the rows; the same seed gives the same rows on every machine.

    Rows are shuffled, sorted by class (classes in shuffled order too), and taken at even steps. The total is
    rounded, but at least 1, and each class gives its own share of it, rounded up or down. A row with several labels
    counts as its rarest label (the smaller id if two are equally rare), and rows without a label form a class of their
    own. At the end every label that would have no row left gets one back, so a class of one sample is never held out.

    Args:
        labels: `(N,)` class ids, or `(N, C)` of 0 and 1.
        fraction: Share to hold out, above 0 and below 1.
        seed: Of the generator, 0 or larger.

    Returns:
        Row numbers, ascending.

    Raises:
        ValueError: If `fraction` is not between 0 and 1, `seed` is no whole number from 0 up, or there are no rows.

    Example:
        >>> held_out_rows(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
        array([2, 4])
    """
    _check_fraction("fraction", fraction)
    if len(labels) == 0:
        raise ValueError("`labels` must have at least one row, but has none.")
    return _choose(labels, max(round(len(labels) * fraction), 1), seed)


def _choose(labels: Tensor, total: int, seed: int) -> NDArray[np.int64]:
    """What `held_out_rows` does, for a number of rows rather than a share."""
    check_seed(seed)
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
    """Every label of every row, as row numbers (ascending) and label ids."""
    if labels.ndim == 1:
        return np.arange(len(labels)), labels.numpy()
    rows, ids = np.nonzero(labels.numpy())
    return rows, ids


def _rarest_label(rows: NDArray[np.int64], ids: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Rarest label of each row, `(num_rows,)`; a row without one gets the id after the last."""
    counts = np.bincount(ids)
    strata = np.full(num_rows, len(counts))
    order = np.lexsort((ids, counts[ids]))[::-1]  # the rarest last, which is what assignment keeps
    strata[rows[order]] = ids[order]
    return strata


def _draw(
    labels: Tensor, rows: NDArray[np.int64], total: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a number of `rows`: what is kept, with a row of every class, and what is drawn."""
    drawn = _choose(labels[torch.from_numpy(rows)], total, seed)
    return np.delete(rows, drawn), rows[drawn]


def _cut(
    labels: Tensor, rows: NDArray[np.int64], fraction: float, argument: str, seed: int, *, least: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a share of `rows`: what is kept, and what is held out."""
    _check_fraction(argument, fraction)
    kept, held_out = _draw(labels, rows, max(round(len(rows) * fraction), 1), seed)
    if len(held_out) < least:
        raise ValueError(
            f"`{argument}` must hold out at least {least} of the {len(rows)} rows and leave one of every class, "
            f"but {fraction} holds out {len(held_out)}."
        )
    return kept, held_out


def _check_fraction(argument: str, fraction: float) -> None:
    if not is_number(fraction) or not 0 < fraction < 1:
        raise ValueError(f"`{argument}` must be a number above 0 and below 1, but got {fraction!r}.")


def _query_labels(dataset: Dataset, query: Dataset) -> Tensor:
    if query.features != dataset.features:
        raise ValueError(
            f"`query` must have the features of `dataset`, but got {dict(query.features)} and {dict(dataset.features)}."
        )
    if len(query) == 0:
        raise ValueError("`query` must hold at least one image, but is empty.")
    return label_tensor(query)


def _check_sizes(protocol: Protocol, num_images: int) -> None:
    needed = (protocol.num_query or 0) + (protocol.num_train or 0)
    if needed >= num_images:
        raise ValueError(
            f"`protocol` must leave an item to search, but takes {needed} of the {num_images} that there are."
        )


def _check_classes(dataset: Dataset) -> None:
    names = label_names(dataset)
    if len(names) < 2:
        raise ValueError(f"`dataset` must have at least two classes, but has only {names}.")
    labels = label_tensor(dataset)
    counts = labels.sum(0).numpy() if is_multi_label(dataset) else np.bincount(labels.numpy(), minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        others = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise ValueError(f"`dataset` must have a training item of every class, but has none of {empty[0]!r}{others}.")
    if count_unlabelled(dataset) == len(dataset):
        raise ValueError("`dataset` must have a labelled item, but no row has a label.")
