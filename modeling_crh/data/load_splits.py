"""Load the four splits of a retrieval experiment, with labels as class ids, and keep some classes out of training."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.checks import check_whole
from modeling_crh.data.benchmarks import BENCHMARKS, find_protocol
from modeling_crh.data.columns import count_unlabelled, is_multi_label, label_feature, label_names, label_tensor
from modeling_crh.data.open_source import open_data
from modeling_crh.data.prepared import prepare_part
from modeling_crh.data.rows import BadRow
from modeling_crh.data.splits import OFFICIAL, check_fraction, split_rows
from modeling_crh.data_source import Data, DataSource, Division
from modeling_crh.runtime.terminal import say


@dataclass(frozen=True)
class LoadedSplits:
    """The splits of a data source.

    Attributes:
        splits: `train`, `validation`, `query` and `database`, each with `label` and `image`, `text` or `features`.
        bad_rows: Rows that were left out.
        digest: Digest of the labels and of the division, which tells whether either has changed.
        rows: Row numbers of each split of a benchmark, as `split_rows` gives them; None for other data.
    """

    splits: DatasetDict
    bad_rows: list[BadRow]
    digest: str
    rows: dict[str, NDArray[np.int64]] | None = None


def load_splits(dataset: Data, **options: Any) -> LoadedSplits:
    """Load data and divide them into the splits of a retrieval experiment.

    Data that are already divided stay so: folders or tables named `train`, `val` (or `validation`) and `test` (or
    `query`), splits of a dataset, or the official sets of a benchmark. Otherwise a fifth of the rows become queries,
    and a tenth of the other rows the validation set.

    Args:
        dataset: A benchmark, a folder, tables, a saved dataset, the Hub id of a dataset, or a dataset object.
        **options: Other fields of `DataSource` and `Division`.

    Returns:
        The splits, the rows that were left out, a digest of the division, and the row numbers of a benchmark.

    Raises:
        FileNotFoundError: If `dataset` does not exist.
        ValueError: If the data cannot be read, have no labels, or cannot be divided; or, without `skip_bad`, if a row
            cannot be read.

    Example:
        >>> load_splits("fashion_mnist_sample").splits.num_rows
        {'train': 5400, 'validation': 600, 'query': 1000, 'database': 6000}
    """
    names = {entry.name for entry in fields(DataSource)}
    source = DataSource(dataset=dataset, **{name: value for name, value in options.items() if name in names})
    division = Division(**{name: value for name, value in options.items() if name not in names})
    is_benchmark = isinstance(dataset, str) and dataset in BENCHMARKS
    protocol = find_protocol(str(dataset), division.protocol) if is_benchmark else OFFICIAL
    if not is_benchmark and division.protocol != "official":
        raise ValueError(f"`protocol` must be given with a benchmark only, but got {division.protocol!r}.")
    parts, bad_rows = read_parts(source)
    rows = split_rows(
        parts["all"] if "all" in parts else parts["train"],
        parts.get("query"),
        validation=parts.get("validation"),
        protocol=protocol,
        validation_fraction=division.validation_fraction,
        query_fraction=division.query_fraction,
        seed=division.seed,
    )
    together = concatenate_datasets(list(parts.values()))
    splits = DatasetDict({name: together.select(chosen) for name, chosen in rows.items()})
    if division.unseen_fraction is not None:
        seen = seen_classes(together, division.unseen_fraction, division.seed)
        splits, rows = leave_out_classes(together, rows, seen)
        num_labels = len(label_names(together))
        say(f"{num_labels - len(seen):,} of {num_labels:,} classes are kept out of training.")
    if unlabelled := count_unlabelled(together):
        say(f"{unlabelled:,} of {len(together):,} rows have no label: they have no loss, and are relevant to no query.")
    digest = hashlib.sha256(label_tensor(together).numpy().tobytes())
    for name, chosen in rows.items():
        digest.update(name.encode() + np.ascontiguousarray(chosen).tobytes())
    return LoadedSplits(splits, bad_rows, digest.hexdigest(), rows if is_benchmark else None)


def load_benchmark(
    name: str,
    data_dir: str | Path | None = None,
    *,
    protocol: str = "official",
    validation_fraction: float | None = None,
    seed: int = 0,
) -> DatasetDict:
    """Load a benchmark, by default in its official division: test set as `query`, training set as `database`.

    Args:
        name: A key of `BENCHMARKS`.
        data_dir: Folder of the official files. None loads them from the Hub, or the bundled sample; `nabirds`,
            `coco_2014` and `emoji` need a folder.
        protocol: Division into training images, queries and database; `modeling_crh.data.benchmarks` has the table.
        validation_fraction: Share of the training images to hold out for choosing the best epoch. None is a tenth.
        seed: Seed of the rows that are drawn and held out.

    Returns:
        The splits `train`, `validation`, `query` and `database` with the columns `image` and `label`; emoji also have
        `vendor`, `group`, `subgroup` and `name`.

    Raises:
        FileNotFoundError: If `data_dir` or a file in it is missing.
        ValueError: If the benchmark or its `protocol` does not exist, or a file is damaged.

    Example:
        >>> splits = load_benchmark("fashion_mnist_sample")
        >>> splits.num_rows
        {'train': 5400, 'validation': 600, 'query': 1000, 'database': 6000}
        >>> load_benchmark("fashion_mnist_sample", protocol="disjoint").num_rows
        {'train': 2700, 'validation': 300, 'query': 1000, 'database': 3000}
    """
    if name not in BENCHMARKS:
        raise ValueError(f"`name` must be one of {', '.join(sorted(BENCHMARKS))}, but got {name!r}.")
    settings: dict[str, Any] = {"protocol": protocol, "validation_fraction": validation_fraction, "seed": seed}
    return load_splits(name, data_dir=data_dir, **settings).splits


def read_parts(source: DataSource) -> tuple[dict[str, Dataset], list[BadRow]]:
    """Read data before any division.

    Args:
        source: Data source to read.

    Returns:
        Prepared rows by part: `all`; or `train`, with `validation`, `query` or both. And the rows that were left out.

    Raises:
        FileNotFoundError: If the source does not exist.
        ValueError: If the source cannot be read, see `load_splits`.
    """
    opened = open_data(source)
    parts = {name: part for name, part in opened.parts.items() if name in ("all", "train", "validation", "query")}
    if not {"all", "train"} & parts.keys():
        raise ValueError(f"`split` must name the split to train on, since none of {', '.join(opened.parts)} is train.")
    if others := opened.parts.keys() - parts:
        say(f"Passed over the splits {', '.join(sorted(others))} of {opened.name}.")
    if isinstance(source.dataset, str) and source.dataset in BENCHMARKS and opened.kind == "image":
        return {name: part.whole() for name, part in parts.items()}, []
    prepared: dict[str, Dataset] = {}
    bad_rows: list[BadRow] = []
    for name, part in parts.items():
        known = label_names(next(iter(prepared.values()))) if prepared else None
        rules: dict[str, Any] = {"skip_bad": source.skip_bad, "allow_urls": opened.allow_urls}
        prepared[name], left_out = prepare_part(part, opened.columns, opened.name, known, **rules)
        bad_rows += left_out
    return prepared, bad_rows


_TRAINING = ("train", "validation")


def seen_classes(dataset: Dataset, fraction: float, seed: int) -> list[int]:
    """Draw the classes that a model is trained on, at least two ids, ascending; the others are the unseen ones.

    Args:
        dataset: A prepared dataset with one label per row.
        fraction: Share of the classes that are unseen, above 0 and below 1; at least one class is.
        seed: Seed of the draw, 0 or larger.

    Raises:
        ValueError: If `fraction` or `seed` is out of range, a row may have several labels, or fewer than two classes
            would be left.
    """
    check_whole("seed", seed, least=0)
    check_fraction("unseen_fraction", fraction)
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
        rows: Row numbers of each split, as `split_rows` gives them; those that are left come back beside the splits.
        seen: Ids of the classes to train on.

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
