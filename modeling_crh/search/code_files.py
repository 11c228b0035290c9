"""Read and write files of codes, as `crh encode` makes them, for the indexes, with the settings of the codes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import snapshot_download
from numpy.typing import NDArray

from modeling_crh.checks import check_path, first_line
from modeling_crh.codebook import choose_length
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.loading import find_revision, is_digest
from modeling_crh.encoding.shards import code_files, one_model, read_batches, read_code_schema, shard_path, shard_writer
from modeling_crh.file_bytes import httpx
from modeling_crh.runtime.terminal import progress_bar, say

CODE = "code"
"""Name of the column of codes."""

_ROWS = 1 << 18  # rows of a part

CodePart = tuple[NDArray[np.uint8], dict[str, pa.Array]]
"""Rows from files of codes: packed codes `(n, K / 8)`, and all other columns, `(n,)` each, by name."""


class CodeSettings(NamedTuple):
    """Settings of codes, kept in the metadata of their files and tables."""

    num_bits: int  # K
    model: str = ""  # name of the model that made the codes
    revision: str = ""  # its commit on the Hub, or digest of its weights
    dtype: str = ""  # precision that it computed in


def check_same_origin(name: str, found: Any, expected: Any, owner: str) -> None:
    """Check that codes can be compared with others: that one model made both, with one precision and length.

    Args:
        name: Argument that gives the codes.
        found: `CodeSettings` of the codes, or their index.
        expected: Likewise, of the others.
        owner: What holds the others, for the error.

    Raises:
        ValueError: If a setting differs that both know. Another commit of a model is accepted, and a line says so.
    """
    digests = [one.revision for one in (found, expected) if is_digest(one.revision)]
    for field in ("num_bits", "dtype", "model"):
        mine, other = getattr(found, field), getattr(expected, field)
        is_same = mine == other or (field == "dtype" and not (mine and other))
        if not is_same and not (field == "model" and len(digests) == 2 and digests[0] == digests[1]):
            raise ValueError(f"`{name}` must have the {field} of {owner}, {other!r}, but got {mine!r}.")
    if len(digests) == 2 and digests[0] != digests[1]:
        raise ValueError(
            f"`{name}` must be made by the weights of {expected.model!r} that made the codes of {owner}, but has those "
            "of others: encode the older ones again."
        )
    if not digests and found.revision and expected.revision and found.revision != expected.revision:
        both = f"{found.revision[:7]} and {expected.revision[:7]}"
        say(f"The codes are of two commits of {found.model}, {both}: encode again if it was trained in between.")


def read_codes(
    codes: str | Path, model: str | None = None, columns: Sequence[str] | None = None, num_bits: int | None = None
) -> tuple[CodeSettings, Iterator[CodePart]]:
    """Read the codes of a parquet file, or of all parquet files in a folder in the order of their names.

    Args:
        codes: File or folder, with a column `code` of packed codes as fixed-size binary; the metadata of its schema
            name the `model`, and may name its `revision` and the `num_bits`. Or the Hub id of codes that were pushed,
            such as `org/codes`.
        model: Name of the model that replaces the one in the metadata, such as for a model moved to the Hub.
        columns: Columns to read besides the codes, if they exist; None reads all.
        num_bits: Number of first bits to keep of every code, one of the `prefix_bits` of the model; None keeps all.

    Returns:
        Settings from the metadata, and the rows part by part.

    Raises:
        ValueError: If there is no such file, it holds no codes, the files of a folder differ in model or columns,
            `crh encode` has not completed the folder, or the model is not trained for codes of `num_bits` bits.
    """
    path = find_codes(codes)
    files = code_files(path)
    schemas = [read_code_schema(file) for file in files]
    found_model, revision, named_bits, dtype = one_model(schemas, path)
    all_bits = 8 * schemas[0].field(CODE).type.byte_width
    if named_bits not in ("", str(all_bits)):
        raise ValueError(
            f"`codes` must have codes of {named_bits} bits, as its metadata says, but they have {all_bits}."
        )
    kept_bits = choose_length(num_bits, [*_prefix_bits(schemas[0]), all_bits])
    kinds = [{one.name: one.type for one in schema if columns is None or one.name in columns} for schema in schemas]
    if any(kind != kinds[0] for kind in kinds) or len({schema.field(CODE).type for schema in schemas}) > 1:
        raise ValueError(f"`codes` must be files with the same columns, but those in {str(codes)!r} differ.")
    if not sum(pq.read_metadata(file).num_rows for file in files):
        raise ValueError(f"`codes` must hold at least one code, but {str(codes)!r} holds none.")
    named = (found_model, revision)
    if model is not None:
        named = (model, revision if revision and find_revision(model) == revision else "")
    settings = CodeSettings(kept_bits, *named, dtype)
    return settings, _parts(files, [CODE, *(name for name in kinds[0] if name != CODE)], all_bits, kept_bits)


def find_codes(codes: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Return the file or folder of codes; pushed codes, such as `org/codes`, are downloaded first.

    `revision` and `token` are those of `HammingIndex.from_pretrained`.

    Raises:
        ValueError: If there is no such dataset, or it holds no codes.
    """
    path, name = check_path("codes", codes), str(codes)
    if path.exists() or "/" not in name or not is_hub_id(name):
        return path
    try:
        folder = Path(
            snapshot_download(
                name, repo_type="dataset", revision=revision, token=token, allow_patterns="codes*.parquet"
            )
        )
        if not any(folder.glob("*.parquet")):
            raise FileNotFoundError("it has no codes*.parquet")
        return folder
    except (OSError, httpx.HTTPError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the machine's own, such as a full disk
            raise
        raise ValueError(
            f"`codes` must be a parquet file, a folder that holds some or the Hub id of codes, but {name!r} is none: "
            f"{first_line(error)}."
        ) from error


def _prefix_bits(schema: pa.Schema) -> list[int]:
    """Return the numbers of first bits that are codes by themselves, as the metadata of a file of codes name them."""
    named = (schema.metadata or {}).get(b"prefix_bits", b"").decode("utf-8", "replace")
    return [int(length) for length in named.split(",") if length.isdecimal()]


def _parts(files: Sequence[Path], columns: list[str], all_bits: int, kept_bits: int) -> Iterator[CodePart]:
    for file in progress_bar(files, desc="Reading codes", unit="file"):
        for batch in read_batches(file, columns, _ROWS):
            packed, others = _part(batch, all_bits // 8)
            yield np.ascontiguousarray(packed[:, : kept_bits // 8]), others


def _part(batch: pa.RecordBatch, width: int) -> CodePart:
    code = batch[CODE]
    if code.null_count:
        raise ValueError(f"`codes` must have a code in every row, but {code.null_count} have none.")
    if code.type == pa.binary():
        try:
            code = code.cast(pa.binary(width))
        except pa.ArrowException as error:
            raise ValueError(
                f"`codes` must be codes of {8 * width} bits in every row, but are not: {error}."
            ) from error
    packed = np.frombuffer(code.buffers()[1], np.uint8, len(code) * width, code.offset * width).reshape(-1, width)
    return packed, {name: batch[name] for name in batch.schema.names if name != CODE}


def write_codes(folder: Path, packed: NDArray[np.uint8], items: pa.Table, metadata: dict[str, str]) -> None:
    """Write packed codes and their items as `crh encode` does, with their metadata, into one file of a folder.

    Raises:
        ValueError: If an item has no path.
    """
    if "path" not in items.column_names or items["path"].null_count:
        raise ValueError("The index must have a path for every item to be written as codes, but lacks one.")
    columns = {
        "id": items["id"] if "id" in items.column_names else pa.array(np.arange(len(packed))),
        "path": items["path"].cast(pa.string()),
        "code": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(packed.shape[1]), len(packed), [None, pa.py_buffer(packed.tobytes())]
        ),
    }
    if "label" in items.column_names:
        kind = items["label"].type
        small = pa.list_(pa.string()) if pa.types.is_large_list(kind) else pa.string()
        columns["label"] = items["label"] if pa.types.is_integer(kind) else items["label"].cast(small)
    table = pa.table(columns).replace_schema_metadata(metadata)
    with shard_writer(shard_path(folder, 0), table.schema) as writer:
        writer.write_table(table)
