"""Codes of whole datasets: in memory, or streamed from a source of any length into shards of parquet."""

from modeling_crh.encoding.items import EncodedItems, encode_batches, encode_items

__all__ = ["EncodedItems", "encode_batches", "encode_items"]
