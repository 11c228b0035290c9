"""Search by packed codes: an index over FAISS in one checked file, tables of LanceDB, and groups of near-duplicates.

Tables need the extra `lancedb`; `modeling_crh.search.lance_index` holds their class.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from modeling_crh.checks import needs_extra

with needs_extra("Search", "search"):
    import faiss  # noqa: F401

from modeling_crh.search.code_index import is_table_uri
from modeling_crh.search.duplicates import duplicates_of, near_duplicates
from modeling_crh.search.hamming_index import HammingIndex, index_codes

if TYPE_CHECKING:
    from modeling_crh.search.lance_index import LanceIndex

__all__ = ["HammingIndex", "duplicates_of", "index_codes", "near_duplicates", "open_index", "read_index"]


def open_index(uri: str | Path) -> "HammingIndex | LanceIndex":
    """Open an index that `crh index` wrote.

    Args:
        uri: File of a `HammingIndex`; or a table, `NAME.lance` or a URI with a scheme such as `s3://`.

    Raises:
        FileNotFoundError: If there is no such file or table.
        ValueError: If it is damaged, or not an index.
        ModuleNotFoundError: If it is a table, and LanceDB is not installed.
    """
    if not is_table_uri(uri):
        return HammingIndex.load(uri)
    from modeling_crh.search.lance_index import LanceIndex

    return LanceIndex(uri)


def read_index(uri: str | Path, kind: str = "auto") -> HammingIndex:
    """Read an index that `crh index` wrote into memory.

    Args:
        uri: File or table of the index, see `open_index`.
        kind: Kind of the index that is made from a table; the kind of a file does not change.

    Raises:
        ValueError: If the index cannot be opened, see `open_index`, or a table holds no item.
    """
    opened = open_index(uri)
    return opened if isinstance(opened, HammingIndex) else opened.in_memory(kind)
