"""Codes in a table of LanceDB, in a folder or an object store; needs the extra `lancedb`."""

from modeling_crh.search.lance.index import LanceIndex

__all__ = ["LanceIndex"]
