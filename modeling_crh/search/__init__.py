"""Search by packed codes: an index over FAISS that is saved as one checked file, and groups of near-duplicates.

`modeling_crh.search.lance` has the same over LanceDB, which is an extra of its own.
"""

try:
    import faiss  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"Search needs {error.name}; run `pip install 'modeling-crh[search]'`.", name=error.name
    ) from error

from modeling_crh.search.code_table import index_codes
from modeling_crh.search.duplicates import near_duplicates
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.opening import open_index, read_index

__all__ = ["HammingIndex", "index_codes", "near_duplicates", "open_index", "read_index"]
