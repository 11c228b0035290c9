"""Options that name and divide data, declared once for the command line, recipes and Python."""

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the help of the commands needs no datasets
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

Data: TypeAlias = "str | Dataset | DatasetDict | IterableDataset | IterableDatasetDict"
"""The name of a data source, or a dataset object."""


def _option(help: str, shown: str, default: Any = None) -> Any:
    """Make a field with its help text, and the default that the help shows."""
    return field(default=default, metadata={"help": help, "shown": shown})


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Names data and how to read them. Every command, recipes and `load_splits` share these fields.

    To add an option, add a field here: the commands, recipes and `load_splits` take it from this class.

    Args:
        dataset: A benchmark, a folder of images or sounds, tables, a saved dataset, a dataset's Hub id, or a dataset
            object.
        data_dir: Folder of a benchmark's official files; None reads the Hub, or the sample that ships.
        config: Configuration of a dataset on the Hub.
        split: The only split to read. None reads all; in training each serves as its name says.
        revision: Git revision of a dataset on the Hub.
        image_column: Column of images. None reads `image`.
        audio_column: Column of sounds. None reads `audio` where there is no `image`.
        text_column: Column of texts, to read texts instead of images.
        features_column: Column of stored features, to read features instead of images.
        label_column: Column of labels. None reads `label`, if it exists.
        label_separator: Text between several labels of a cell, such as `,`; None for one label per cell.
        multi_hot: Whether to read lists of 0 and 1 as one flag per class.
        id_column: Column of whole numbers or strings that identify the items. None numbers the rows from 0.
        skip_bad: Whether to leave out and report unreadable rows; otherwise the first one ends the run.
        allow_urls: Hosts that URLs in rows may lead to, separated by commas, as HOST or HOST:PORT (for an object store
            its bucket), or "all" for every public address; None lets a URL in a row end the run.

    Raises:
        ValueError: If `allow_urls` names no hosts.
    """

    dataset: Data = field(
        default="", metadata={"help": "Benchmark, folder of images or sounds, table, saved dataset or Hub id."}
    )
    data_dir: str | None = _option("Folder of a benchmark's official files.", "from the Hub, or the bundled sample")
    config: str | None = _option("Configuration of a dataset on the Hub.", "the only one")
    split: str | None = _option("The only split to read.", "all")
    revision: str | None = _option("Git revision of a dataset on the Hub.", "main")
    image_column: str | None = _option("Column of images: files, bytes, or URLs with `--allow-urls`.", "image")
    audio_column: str | None = _option(
        "Column of sounds: files, bytes, or URLs with `--allow-urls`.", "audio, where there is no image"
    )
    text_column: str | None = _option("Column of texts, to read texts instead of images.", "none")
    features_column: str | None = _option("Column of stored features, to read features instead of images.", "none")
    label_column: str | None = _option("Column of labels.", "label")
    label_separator: str | None = _option("Text between several labels of a cell, such as ','.", "none")
    multi_hot: bool = _option("Read lists of 0 and 1 as one flag per class.", "no", default=False)
    id_column: str | None = _option("Column of whole numbers or strings that identify the items.", "number of the row")
    skip_bad: bool = _option("Leave out unreadable rows, and report them.", "no", default=False)
    allow_urls: str | None = _option(
        "Hosts that URLs in rows may lead to, such as images.example.com,store:8000; *all* for every public address.",
        "none",
    )

    def __post_init__(self) -> None:
        if self.label_separator == "":
            raise ValueError("`label_separator` must be a text such as ',', but is empty.")
        hosts = self.allow_urls
        if hosts is not None and not all(re.fullmatch(r"[^\s/]+", host.strip()) for host in hosts.split(",")):
            raise ValueError(f"`allow_urls` must be 'all' or hosts separated by commas, but got {hosts!r}.")


@dataclass(frozen=True, kw_only=True)
class Division:
    """Division of rows into `train`, `validation`, `query` and `database`.

    Args:
        protocol: Named division of a benchmark: `official`, `sampled` or `disjoint`.
        validation_fraction: Share of the training items to hold out for choosing the best epoch. None is a tenth; leave
            it None for data with a validation set.
        query_fraction: Share of all items to cut as queries. None is a fifth; leave it None for data with queries.
        unseen_fraction: Share of the classes to keep out of training. None keeps out none.
        seed: Seed of all random draws, 0 or larger.
    """

    protocol: str = _option("Division of a benchmark: official, sampled or disjoint.", "official", default="official")
    validation_fraction: float | None = _option("Share of the training items that the best epoch is chosen on.", "0.1")
    query_fraction: float | None = _option("Share of all items to cut as queries, for data without queries.", "0.2")
    unseen_fraction: float | None = _option(
        "Share of the classes to keep out of training; their queries are evaluated apart.", "none"
    )
    seed: int = _option("Seed of all random numbers, 0 or larger.", "0", default=0)


def options_of(kind: type, values: Any) -> dict[str, Any]:
    """Read the fields of `DataSource` or `Division` from an object, such as a recipe, as keyword arguments.

    Args:
        kind: `DataSource` or `Division`.
        values: Object with the fields as attributes.
    """
    return {entry.name: getattr(values, entry.name) for entry in fields(kind)}
