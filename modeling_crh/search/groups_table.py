"""Groups of near-duplicates as a CSV file."""

import csv
from collections.abc import Sequence
from pathlib import Path

from modeling_crh.checks import check_path
from modeling_crh.search.code_store import Positions
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.whole_file import whole_file

COLUMNS = ("group", "id", "label", "path")


def write_groups(path: str | Path, index: HammingIndex, groups: Sequence[Positions]) -> None:
    """Write a row an item, with the number of its group from 1; the file takes its place once it is whole.

    Args:
        path: Where to; a file that is there is replaced.
        index: That the groups are of.
        groups: From `near_duplicates`.

    Raises:
        OSError: If it cannot be written.
    """
    target = check_path("out", path)
    with whole_file(target) as partial, partial.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, group in enumerate(groups, 1):
            for record in index.records(group):
                label = record["label"]
                names = "; ".join(label) if isinstance(label, list) else label
                writer.writerow([number, record["id"], names, record["path"]])
