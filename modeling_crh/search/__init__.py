"""Search by packed codes: an index over FAISS in one checked file, tables of LanceDB, and groups of near-duplicates.

Tables need the extra `lancedb`; `modeling_crh.search.lance_index` holds their class.
"""

try:
    import faiss  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"Search needs {error.name}; run `pip install 'modeling-crh[search]'`.", name=error.name
    ) from error

from modeling_crh.search.duplicates import near_duplicates
from modeling_crh.search.hamming_index import HammingIndex, open_index, read_index
from modeling_crh.search.indexing import index_codes

__all__ = ["HammingIndex", "index_codes", "near_duplicates", "open_index", "read_index"]
