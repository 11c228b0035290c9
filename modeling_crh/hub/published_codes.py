"""Publish the codes of `crh encode` on the Hub as a data set."""

import os
from pathlib import Path, PurePath
from typing import Unpack

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitInfo, DatasetCard, DatasetCardData

from modeling_crh.checks import check_path
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.shards import code_files, one_model, read_code_schema, shard_path
from modeling_crh.hub.cards import MARK, TAGS, revision_option, template
from modeling_crh.hub.push import Destination, check_names, upload

_MEANINGS = {
    "id": "id of the item, by default its number from 0 on",
    "path": "place of the item, below the folder that was encoded",
    "code": "the packed code, most significant bit first, in the order of `numpy.packbits`",
    "label": "class of the item, or list of its classes",
}


def push_codes(
    folder: str | Path,
    repo_id: str,
    *,
    model: str | None = None,
    license: str | None = None,
    **destination: Unpack[Destination],
) -> CommitInfo:
    """Upload a folder that `crh encode` wrote as a data set.

    Paths are cut to what lies below the folder that was encoded, and a model on this machine is not named.

    Args:
        folder: Folder with all its shards.
        repo_id: Repository such as `org/name`, created if it does not exist.
        model: Hub id of the model that made the codes; None takes the one that the shards name.
        license: Licence by its name on the Hub, such as `cc-by-4.0`.
        **destination: See `Destination`.

    Returns:
        The commit.

    Raises:
        ValueError: If an argument has a value that its rule does not allow, or `private` is True and the repository
            exists and is public.
        OSError: If the upload failed; the repository then holds nothing of it.
    """
    check_names(repo_id, model)

    def stage(staged: Path) -> None:
        schema, rows = write_public_codes(check_path("codes", folder), staged, model)
        card = _card(schema, rows, repo_id, license, destination.get("revision"))
        (staged / "README.md").write_text(str(card), encoding="utf-8")

    return upload(stage, repo_id, destination, repo_type="dataset", delete_patterns=["codes*.parquet"])


def write_public_codes(folder: Path, target: Path, model: str | None) -> tuple[pa.Schema, int]:
    """Copy shards without the paths of this machine.

    Args:
        folder: Folder with the shards.
        target: Folder to write to.
        model: Hub id of the model; None takes the one that the shards name.

    Returns:
        The schema of the copies, and the number of all rows.
    """
    files = code_files(folder)
    schema = _public_schema([read_code_schema(file) for file in files], folder, model)
    root, rows = _common_folder(files), 0
    for number, file in enumerate(files):
        with pq.ParquetFile(file) as shard, pq.ParquetWriter(shard_path(target, number), schema) as writer:
            for batch in shard.iter_batches():
                columns = [batch[field] for field in schema.names]
                paths = [_below(root, path) for path in batch["path"].to_pylist()]
                columns[schema.get_field_index("path")] = pa.array(paths, pa.string())
                columns[schema.get_field_index("code")] = batch["code"].cast(pa.binary())
                writer.write_batch(pa.record_batch(columns, schema=schema))
                rows += len(batch)
    return schema, rows


def _public_schema(schemas: list[pa.Schema], folder: Path, model: str | None) -> pa.Schema:
    found, _, num_bits = one_model(schemas, folder)
    if not {"id", "path", "code"} <= set(schemas[0].names) or not num_bits:
        raise ValueError(f"`codes` must be a folder that `crh encode` wrote, but {str(folder)!r} is not.")
    if any(not schema.equals(schemas[0]) for schema in schemas):
        raise ValueError(f"`codes` must be files with the same columns, but those in {str(folder)!r} differ.")
    named = model or found
    kept = {"num_bits": num_bits} | ({"model": named} if is_hub_id(named) else {})
    fields = [field if field.name != "code" else field.with_type(pa.binary()) for field in schemas[0]]
    return pa.schema(fields, metadata=kept)


def _common_folder(files: list[Path]) -> str | None:
    """The folder above all absolute paths; None if there is only the top of the file system."""
    common: str | None = None
    for file in files:
        paths = pq.read_table(file, columns=["path"])["path"].to_pylist()
        folders = {os.path.dirname(path) for path in paths if os.path.isabs(path)}
        if folders:
            common = os.path.commonpath(folders if common is None else folders | {common})
    return common if common is not None and len(PurePath(common).parts) > 2 else None


def _below(root: str | None, path: str) -> str:
    """An absolute path as seen from `root`, or its last part without one; other paths as they are."""
    if not os.path.isabs(path):
        return path
    return os.path.basename(path) if root is None else PurePath(path).relative_to(root).as_posix()


def _card(schema: pa.Schema, rows: int, repo_id: str, license: str | None, revision: str | None) -> DatasetCard:
    data = DatasetCardData(
        license=license,
        tags=TAGS,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "codes-*.parquet"}]}],
    )
    card: DatasetCard = DatasetCard.from_template(
        data,
        template("codes_card.md"),
        name=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        options=revision_option(revision),
        schema=schema,
        meanings=_MEANINGS,
        rows=rows,
        num_bits=int(schema.metadata[b"num_bits"]),
        model=schema.metadata.get(b"model", b"").decode(),
        mark=MARK,
    )
    return card
