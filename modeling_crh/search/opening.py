"""Where a path or URI leads: to the file of an index, or to a table of codes."""

from pathlib import Path
from typing import TYPE_CHECKING

from modeling_crh.search.code_index import TABLE_SUFFIX, CodeIndex, is_table_uri
from modeling_crh.search.hamming_index import HammingIndex

if TYPE_CHECKING:
    from modeling_crh.search.lance_index import LanceIndex


def open_index(uri: str | Path) -> "HammingIndex | LanceIndex":
    """Open the index that `crh index` wrote, whichever it is.

    Args:
        uri: Of a table, by its form; else the file of a `HammingIndex`.

    Raises:
        ValueError: If there is none, or it is damaged.
        ModuleNotFoundError: If it is a table, and LanceDB is not installed.
    """
    if not is_table_uri(uri):
        return HammingIndex.load(uri)
    from modeling_crh.search.lance_index import LanceIndex

    return LanceIndex(uri)


def read_index(uri: str | Path, kind: str = "auto") -> HammingIndex:
    """Read what `crh index` wrote into memory, whichever it is.

    Args:
        uri: As `open_index` takes it.
        kind: Of the index that is made of a table; that of a file stays as it is.

    Raises:
        ValueError: If there is none, it is damaged, or it is a table without an item.
        ModuleNotFoundError: If it is a table, and LanceDB is not installed.
    """
    opened = open_index(uri)
    return opened if isinstance(opened, HammingIndex) else opened.in_memory(kind)


def choose_items(index: "HammingIndex | LanceIndex", where: str | None) -> CodeIndex:
    """The items of an index that meet a condition; all of them without one.

    Args:
        index: From `open_index`.
        where: SQL, see `modeling_crh.search.lance_rows.Condition`.

    Raises:
        ValueError: If it is no condition on that table, or the index is none.
    """
    if where is None:
        return index
    if isinstance(index, HammingIndex):
        raise ValueError(f"`where` must be given with a table (NAME{TABLE_SUFFIX}) only, but got {where!r:.80}.")
    return index.where(where)
