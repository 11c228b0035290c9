"""Emoji as drawn by eleven vendors: a class is an emoji, an image is a vendor's drawing of 96 x 96 pixels."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.table import InMemoryTable

from modeling_crh.data.benchmarks.official_files import find_file

SAMPLE_DIR = Path(__file__).parent / "emoji_sample"
COMMAND = "python benchmarks/builders/emoji_build.py --out DIR"


def load_emoji(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the emoji benchmark into memory: 11,230 drawings as database and 3,222 as queries, two of each emoji.

    Args:
        data_dir: Folder made by `python benchmarks/builders/emoji_build.py --out DIR`.
    """
    if data_dir is None:
        raise ValueError(f"`data_dir` must be the folder that `{COMMAND}` makes, but got None.")
    return _read_rows(data_dir, "database"), _read_rows(data_dir, "query")


def load_emoji_sample(data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Load the bundled sample into memory: 200 emoji by nine vendors, five of each of 40 subgroups."""
    if data_dir is not None:
        raise ValueError(f"`data_dir` must be None for emoji_sample, which is bundled, but got {data_dir}.")
    return load_emoji(SAMPLE_DIR)


def emoji_features(classes: list[str], vendors: list[str], groups: list[str], subgroups: list[str]) -> Features:
    """Make the features of the emoji datasets; a class is named after the slug of its emoji."""
    names = {"label": classes, "vendor": vendors, "group": groups, "subgroup": subgroups}
    labels = {column: ClassLabel(names=values) for column, values in names.items()}
    return Features(image=Image(), **labels, name=Value("string"))


def _read_rows(folder: Path, part: str) -> Dataset:
    path = find_file(folder, f"{part}.parquet")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} must be a parquet file of `{COMMAND}`, but reading it failed: {error}") from error
    features, expected = Features.from_arrow_schema(table.schema), emoji_features([], [], [], [])
    if {name: type(kind) for name, kind in features.items()} != {name: type(kind) for name, kind in expected.items()}:
        raise ValueError(f"{path} must have the columns {', '.join(expected)} of `{COMMAND}`, but has {features}.")
    rows: Dataset = Dataset(InMemoryTable(table)).select_columns(list(expected))
    return rows
