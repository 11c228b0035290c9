"""Search by packed codes: an index over FAISS that is saved as one checked file, and groups of near-duplicates."""

try:
    import faiss  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"Search needs {error.name}; run `pip install 'modeling-crh[search]'`.", name=error.name
    ) from error

from modeling_crh.search.code_table import index_codes
from modeling_crh.search.hamming_index import HammingIndex
from modeling_crh.search.near_duplicates import near_duplicates

__all__ = ["HammingIndex", "index_codes", "near_duplicates"]
