"""Emoji as drawn by eleven vendors: a class is an emoji, an image is one vendor's drawing of it, 96 x 96 pixels."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.table import InMemoryTable

SAMPLE_DIR = Path(__file__).parent / "emoji_sample"
COMMAND = "python -m emoji_build --out DIR"


def load_emoji(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Database and queries of a build: two drawings of each emoji are queries, all others the database.

    Args:
        data_dir: Folder that `python -m emoji_build --out DIR` has made.

    Returns:
        11,230 and 3,222 rows of `image`, `label`, `vendor`, `group`, `subgroup` and `name`, held in memory.

    Raises:
        ValueError: If there is no `data_dir`, or it is not such a folder.
    """
    if data_dir is None:
        raise ValueError(f"`data_dir` must be the folder that `{COMMAND}` makes, but got None.")
    return _read_pair(data_dir)


def load_emoji_sample(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """200 emoji by nine vendors, five each of 40 subgroups, which come with this package; see the README.md beside it.

    Args:
        data_dir: Must be None.

    Returns:
        Rows of `image`, `label`, `vendor`, `group`, `subgroup` and `name`, held in memory.

    Raises:
        ValueError: If `data_dir` is given.
    """
    if data_dir is not None:
        raise ValueError(f"`data_dir` must be None for emoji_sample, which is bundled, but got {data_dir}.")
    return _read_pair(SAMPLE_DIR)


def emoji_features(classes: list[str], vendors: list[str], groups: list[str], subgroups: list[str]) -> Features:
    """Features of the emoji datasets; a class is named after the slug of its emoji."""
    return Features(
        {
            "image": Image(),
            "label": ClassLabel(names=classes),
            "vendor": ClassLabel(names=vendors),
            "group": ClassLabel(names=groups),
            "subgroup": ClassLabel(names=subgroups),
            "name": Value("string"),
        }
    )


def _read_pair(folder: Path) -> tuple[Dataset, Dataset]:
    return _read_rows(folder / "database.parquet"), _read_rows(folder / "query.parquet")


def _read_rows(path: Path) -> Dataset:
    if not path.is_file():
        raise ValueError(f"`data_dir` must hold {path.name}, which `{COMMAND}` makes, but {path} does not exist.")
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} must be a parquet file, as `{COMMAND}` makes, but reading it failed: {error}"
        ) from error
    features = Features.from_arrow_schema(table.schema)
    expected = emoji_features([], [], [], [])
    if {name: type(feature) for name, feature in features.items()} != {k: type(v) for k, v in expected.items()}:
        raise ValueError(
            f"{path} must have the columns {', '.join(expected)}, as `{COMMAND}` makes, but has {features}."
        )
    return Dataset(InMemoryTable(table)).select_columns(list(expected))
