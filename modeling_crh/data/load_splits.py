"""Load the four splits of a retrieval experiment, with labels as class ids."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from numpy.typing import NDArray

from modeling_crh.data.bad_rows import BadRow
from modeling_crh.data.benchmarks import BENCHMARKS
from modeling_crh.data.columns import count_unlabelled, label_names
from modeling_crh.data.open_source import open_data
from modeling_crh.data.prepared import prepare_part
from modeling_crh.data.protocols import OFFICIAL, find_protocol
from modeling_crh.data.splits import split_parts
from modeling_crh.data.unseen_classes import leave_out_classes, seen_classes
from modeling_crh.data_source import Data, DataSource, Division
from modeling_crh.runtime.terminal import say


@dataclass(frozen=True)
class LoadedSplits:
    """The splits of a data source.

    Attributes:
        splits: `train`, `validation`, `query` and `database`, each with `label` and `image`, `text` or `features`.
        bad_rows: Rows that were left out.
        rows: Row numbers of each split of a benchmark, as `split_rows` gives them; None for other data.
    """

    splits: DatasetDict
    bad_rows: list[BadRow]
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
        The splits, the rows that were left out, and the row numbers of a benchmark.

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
    rows = split_parts(
        parts,
        protocol=protocol,
        validation_fraction=division.validation_fraction,
        query_fraction=division.query_fraction,
        seed=division.seed,
    )
    together = concatenate_datasets(list(parts.values()))
    if division.unseen_fraction is None:
        splits = DatasetDict({name: together.select(chosen) for name, chosen in rows.items()})
    else:
        seen = seen_classes(together, division.unseen_fraction, division.seed)
        splits, rows = leave_out_classes(together, rows, seen)
        num_labels = len(label_names(together))
        say(f"{num_labels - len(seen):,} of {num_labels:,} classes are kept out of training.")
    unlabelled = count_unlabelled(together)
    if unlabelled:
        say(f"{unlabelled:,} of {len(together):,} rows have no label: they have no loss, and are relevant to no query.")
    return LoadedSplits(splits, bad_rows, rows if is_benchmark else None)


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
    others = opened.parts.keys() - parts
    if not {"all", "train"} & parts.keys():
        raise ValueError(f"`split` must name the split to train on, since none of {', '.join(opened.parts)} is train.")
    if others:
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
