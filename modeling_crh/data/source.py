"""The options that name data and divide it, declared once for the command line, recipes and Python."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

Data: TypeAlias = str | Dataset | DatasetDict | IterableDataset | IterableDatasetDict
"""A name that leads to data, or data that Python code has made."""


def _option(help: str, shown: str, default: Any = None) -> Any:
    """A field with its text for the command line, and what that shows as its default."""
    return field(default=default, metadata={"help": help, "shown": shown})


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """What to read, and how. The same fields name data in every command, in a recipe and in `load_splits`.

    To add an option, add a field here: the commands, the recipe and `load_splits` take it from this class.

    Args:
        dataset: A benchmark, a folder of images, tables, a saved dataset, the Hub id of a dataset, or a dataset object.
        data_dir: Folder of a benchmark's official files; None reads the Hub, or the sample that ships.
        config: Configuration of a dataset on the Hub.
        split: The only split to read. None reads all: for training they are divided as they are named.
        revision: Git revision of a dataset on the Hub.
        image_column: Column of images. None stands for `image`.
        text_column: Column of texts, to read texts instead of images.
        features_column: Column of stored features, to read those instead of images.
        label_column: Column of labels. None stands for `label`, if there is one.
        label_separator: What separates several labels in one cell, such as `,`.
        multi_hot: Read lists of 0 and 1 as one flag a class.
        id_column: Column of whole numbers or strings that identify the items. None numbers the rows from 0.
        skip_bad: Leave out rows that cannot be read, and name them. Otherwise the first one ends the run.
    """

    dataset: Data = field(default="", metadata={"help": "Benchmark, folder of images, table, saved dataset or Hub id."})
    data_dir: str | None = _option("Folder of a benchmark's official files.", "from the Hub, or the bundled sample")
    config: str | None = _option("Configuration of a dataset on the Hub.", "the only one")
    split: str | None = _option("The only split to read.", "all")
    revision: str | None = _option("Git revision of a dataset on the Hub.", "main")
    image_column: str | None = _option("Column of images: files, bytes or URLs.", "image")
    text_column: str | None = _option("Column of texts, to read texts and not images.", "none")
    features_column: str | None = _option("Column of stored features, to read those.", "none")
    label_column: str | None = _option("Column of labels.", "label")
    label_separator: str | None = _option("Separator of several labels in one cell, such as ','.", "none")
    multi_hot: bool = _option("Read lists of 0 and 1 as one flag a class.", "no", default=False)
    id_column: str | None = _option("Column of whole numbers or strings that identify the items.", "number of the row")
    skip_bad: bool = _option("Leave out rows that cannot be read, and name them.", "no", default=False)


@dataclass(frozen=True, kw_only=True)
class Division:
    """How rows are divided into `train`, `validation`, `query` and `database`.

    Args:
        protocol: Named division of a benchmark: `official`, `sampled` or `disjoint`.
        validation_fraction: Share of the training items to hold out for choosing the best epoch. None is a tenth; it
            must be None where the data bring a validation set.
        query_fraction: Share of all items to cut as queries. None is a fifth; it must be None where the data bring
            queries.
        seed: Seed of everything that is drawn, 0 or larger.
    """

    protocol: str = _option("Division of a benchmark: official, sampled or disjoint.", "official", default="official")
    validation_fraction: float | None = _option("Share of the training items that the best epoch is chosen on.", "0.1")
    query_fraction: float | None = _option("Share of all items to cut as queries, where the data bring none.", "0.2")
    seed: int = _option("Seed of everything that is random, 0 or larger.", "0", default=0)


def options_of(kind: type, values: Any) -> dict[str, Any]:
    """The fields of `DataSource` or `Division` that an object has, such as a recipe, as keyword arguments.

    Args:
        kind: `DataSource` or `Division`.
        values: An object with those attributes.
    """
    return {entry.name: getattr(values, entry.name) for entry in fields(kind)}
