"""Find the files of codes that `crh encode` wrote, all of them and of one model."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modeling_crh.encoding.record import EncodingRecord
from modeling_crh.encoding.shards import shard_files

_NAMED = (b"model", b"revision", b"num_bits")


def code_files(codes: Path) -> list[Path]:
    """The parquet file itself, or all parquet files of a folder in the order of their names.

    Raises:
        ValueError: If there is none, or the folder is one that `crh encode` has not come to the end of.
    """
    if codes.is_file():
        return [codes]
    files = sorted(file for file in codes.glob("*.parquet") if file.is_file()) if codes.is_dir() else []
    record = EncodingRecord.read(codes) if codes.is_dir() else None
    if record is not None and record.num_shards != len(list(shard_files(codes))):
        raise ValueError(
            f"`codes` must be complete, but in {str(codes)!r} files are missing; the same `crh encode` goes on with it."
        )
    if not files:
        raise ValueError(f"`codes` must be a parquet file, or a folder that holds some, but got {str(codes)!r}.")
    return files


def read_code_schema(file: Path) -> pa.Schema:
    """The schema of a file of codes.

    Raises:
        ValueError: If it cannot be read, or has no column `code` of fixed-size binary.
    """
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"`codes` must be a parquet file that can be read, but {str(file)!r} is not.") from error
    if "code" not in schema.names or not pa.types.is_fixed_size_binary(schema.field("code").type):
        raise ValueError(
            f"`codes` must have a column `code` of fixed-size binary, as `crh encode` writes, but {str(file)!r} has "
            "none."
        )
    return schema


def one_model(schemas: list[pa.Schema], codes: Path) -> tuple[str, str, str]:
    """Model, revision and number of bits that all files name; empty where they are not named.

    Args:
        schemas: Of the files.
        codes: Where they are, for the message.

    Raises:
        ValueError: If they differ.
    """
    named = set()
    for schema in schemas:
        found = schema.metadata or {}
        model, revision, num_bits = (found.get(name, b"").decode("utf-8", "replace") for name in _NAMED)
        named.add((model, revision, num_bits))
    if len(named) > 1:
        raise ValueError(f"`codes` must be codes of one model, but {str(codes)!r} holds those of {sorted(named)}.")
    return named.pop()
