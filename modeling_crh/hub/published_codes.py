"""Publish codes as a dataset on the Hub."""

import os
import re
from pathlib import Path, PurePath
from typing import Unpack, cast

import pyarrow as pa
from huggingface_hub import CommitInfo, DatasetCard, DatasetCardData, RepoCard

from modeling_crh.checks import check_path
from modeling_crh.encoding.loading import is_digest
from modeling_crh.encoding.shards import code_files, one_model, read_batches, read_code_schema, shard_path, shard_writer
from modeling_crh.hub.cards import TAGS, fill_card, revision_option
from modeling_crh.hub.push import Destination, check_names, upload
from modeling_crh.hub.run_record import is_public_id

_MEANINGS = {
    "id": "id of the item, by default its number from 0 on",
    "path": "place of the item, below the folder that was encoded",
    "code": "the packed code, most significant bit first, in the order of `numpy.packbits`",
    "label": "class of the item, or list of its classes",
}
_PLACE = re.compile(r"(row \d+ of |\w+://.*::)?(?:file://)?(.*)", re.DOTALL)


def push_codes(
    folder: str | Path,
    repo_id: str,
    *,
    model: str | None = None,
    license: str | None = None,
    **destination: Unpack[Destination],
) -> CommitInfo | None:
    """Upload a folder that `crh encode` wrote as a dataset.

    Paths are published relative to the encoded folder, and a model on this machine is not named.

    Args:
        folder: Complete folder of codes.
        repo_id: Repository such as `org/name`, created if it does not exist.
        model: Hub id of the model that made the codes; None takes the name in the shards.
        license: Hub name of the licence, such as `cc-by-4.0`.
        **destination: Branch, access token and commit message, see `Destination`.

    Returns:
        The commit; None for a dry run.

    Raises:
        ValueError: If an argument has a value that its rule does not allow, or `private` is True and the repository
            exists and is public.
        OSError: If the upload failed; nothing is then uploaded.
    """
    check_names(repo_id, model)

    def stage(staged: Path) -> None:
        schema, rows = write_public_codes(check_path("codes", folder), staged, model)
        card = _codes_card(schema, rows, repo_id, license, destination.get("revision"))
        (staged / "README.md").write_text(str(card), encoding="utf-8")

    return upload(stage, repo_id, destination, repo_type="dataset", delete_patterns=["codes*.parquet"])


def write_public_codes(folder: Path, target: Path, model: str | None) -> tuple[pa.Schema, int]:
    """Copy shards into `target` without the paths of this machine; return their schema and the number of rows."""
    files = code_files(folder)
    schema = _public_schema([read_code_schema(file) for file in files], folder, model)
    root, rows = _common_folder(files), 0
    for number, file in enumerate(files):
        with shard_writer(shard_path(target, number), schema) as writer:
            for batch in read_batches(file):
                columns = [batch[field] for field in schema.names]
                paths = [_below(root, path) for path in batch["path"].to_pylist()]
                columns[schema.get_field_index("path")] = pa.array(paths, pa.string())
                columns[schema.get_field_index("code")] = batch["code"].cast(pa.binary())
                writer.write_batch(pa.record_batch(columns, schema=schema))
                rows += len(batch)
    return schema, rows


def _public_schema(schemas: list[pa.Schema], folder: Path, model: str | None) -> pa.Schema:
    found, revision, num_bits, dtype = one_model(schemas, folder)
    is_own = {"id", "path", "code"} <= set(schemas[0].names) <= set(_MEANINGS)
    width = schemas[0].field("code").type.byte_width
    if not is_own or schemas[0].field("path").type != pa.string() or num_bits != str(8 * width):
        raise ValueError(f"`codes` must be a folder that `crh encode` wrote, but {str(folder)!r} is not.")
    if any(not schema.equals(schemas[0]) for schema in schemas):
        raise ValueError(f"`codes` must be files with the same columns, but those in {str(folder)!r} differ.")
    is_found = is_public_id(found) and not is_digest(revision)  # a folder may be called `runs/mine` too
    named = model or (found if is_found else "")
    kept = {"num_bits": num_bits, "dtype": dtype} | ({"model": named} if named else {})
    if is_found and named == found and revision:
        kept["revision"] = revision
    if b"prefix_bits" in (schemas[0].metadata or {}):
        kept["prefix_bits"] = schemas[0].metadata[b"prefix_bits"]
    fields = [field if field.name != "code" else field.with_type(pa.binary()) for field in schemas[0]]
    return pa.schema(fields, metadata=kept)


def _common_folder(files: list[Path]) -> str | None:
    """Find the common folder of all absolute paths; None if it is only the root of the file system."""
    common: str | None = None
    for file in files:
        paths = [path for batch in read_batches(file, ["path"]) for path in batch["path"].to_pylist()]
        if None in paths:
            raise ValueError(f"`codes` must have a path in every row, but a row of {str(file)!r} has none.")
        folders = {os.path.dirname(place) for _, place in map(_divided, paths) if os.path.isabs(place)}
        if folders:
            common = os.path.commonpath(folders if common is None else folders | {common})
    return common if common is not None and len(PurePath(common).parts) > 2 else None


def _divided(path: str) -> tuple[str, str]:
    """Divide a path into what is before a file, such as `row 3 of ` or `zip://a.png::`, and the file or URL."""
    before, place = cast(re.Match[str], _PLACE.fullmatch(path)).groups(default="")
    return before, os.path.normpath(place) if os.path.isabs(place) else place


def _below(root: str | None, path: str) -> str:
    """Make an absolute path relative to `root`, or keep only its last part without one; keep no secrets of a URL."""
    before, place = _divided(path)
    if not os.path.isabs(place):
        return before + (re.sub("(?<=://)[^/]*@", "", re.split("[?#]", place)[0]) if "://" in place else place)
    return before + (os.path.basename(place) if root is None else PurePath(place).relative_to(root).as_posix())


def _codes_card(schema: pa.Schema, rows: int, repo_id: str, license: str | None, revision: str | None) -> RepoCard:
    configs = [{"config_name": "default", "data_files": [{"split": "train", "path": "codes-*.parquet"}]}]
    data = DatasetCardData(license=license, tags=TAGS, configs=configs)
    return fill_card(
        DatasetCard,
        data,
        "codes_card.md",
        name=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        options=revision_option(revision),
        schema=schema,
        meanings=_MEANINGS,
        rows=rows,
        num_bits=int(schema.metadata[b"num_bits"]),
        model=schema.metadata.get(b"model", b"").decode(),
    )
