"""Put the codes of `crh encode` on the Hub as a data set, with a card that says what they are and how they compare."""

import os
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitInfo, DatasetCard, DatasetCardData

from modeling_crh.checks import check_path
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.shards import code_files, one_model, read_code_schema, shard_path
from modeling_crh.hub.cards import MARK
from modeling_crh.hub.push import check_repo_id, upload

_COLUMNS = {
    "id": "number of the item, from 0",
    "path": "where the item came from, below the folder that was encoded",
    "code": "the packed code, most significant bit first, in the order of `numpy.packbits`",
    "label": "its class, or list of classes",
}

_EXAMPLE = """import numpy as np
from datasets import load_dataset

rows = load_dataset("{repo_id}", {options}split="train")
codes = np.stack([np.frombuffer(code, np.uint8) for code in rows["code"]])  # ({rows}, {num_bytes})
distance = np.bitwise_count(codes ^ codes[0]).sum(1, dtype=int)  # in bits, from the first item
nearest = distance.argsort(kind="stable")[:10]
print([(rows[int(row)]["path"], int(distance[row])) for row in nearest])
"""


def push_codes(
    folder: str | Path,
    repo_id: str,
    *,
    model: str | None = None,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload codes",
) -> CommitInfo:
    """Put the folder that `crh encode` wrote on the Hub as a data set, in one commit.

    Paths are cut to what lies below the folder that was encoded, and a model on this machine is not named.

    Args:
        folder: With its shards, all of them.
        repo_id: Such as `org/name`; it is made if it is not there.
        model: Id on the Hub of the model whose codes these are; None takes the one that the shards name.
        license: As the Hub names licences, such as `cc-by-4.0`.
        private: Of a new repository; None is the organization's default.
        revision: Branch, made if it is not there; None is the main one.
        token: None takes the one that `hf auth login` has stored.
        commit_message: First line of the commit.

    Returns:
        The commit.

    Raises:
        ValueError: If an argument breaks its rule, or `private` is asked for and the repository is there and public.
        OSError: If it was not uploaded; then the repository holds nothing of it.
    """
    check_repo_id(repo_id)
    if model is not None and not is_hub_id(model):
        raise ValueError(f"`model` must be the id of a model on the Hub, such as 'org/name', but got {model!r}.")
    with TemporaryDirectory() as name:
        published = Path(name)
        schema, rows = _write_public_codes(check_path("codes", folder), published, model)
        card = _card(schema, rows, repo_id, license, revision)
        (published / "README.md").write_text(str(card), encoding="utf-8")
        return upload(
            published,
            repo_id,
            keep_card=True,
            repo_type="dataset",
            private=private,
            revision=revision,
            token=token,
            commit_message=commit_message,
            delete_patterns=["codes*.parquet"],  # of an earlier push, which may have had more shards
        )


def _write_public_codes(folder: Path, target: Path, model: str | None) -> tuple[pa.Schema, int]:
    """Copy the shards without what is of this machine; gives their schema and the number of all rows."""
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
    """The folder above all items that have a whole path; None where there is none but the top of the file system."""
    common: str | None = None
    for file in files:
        paths = pq.read_table(file, columns=["path"])["path"].to_pylist()
        folders = {os.path.dirname(path) for path in paths if os.path.isabs(path)}
        if folders:
            common = os.path.commonpath(folders if common is None else folders | {common})
    return common if common is not None and len(PurePath(common).parts) > 2 else None


def _below(root: str | None, path: str) -> str:
    """A path as seen from the common folder, or a mere name without one; what is no whole path stays."""
    if not os.path.isabs(path):
        return path
    return os.path.basename(path) if root is None else PurePath(path).relative_to(root).as_posix()


def _card(schema: pa.Schema, rows: int, repo_id: str, license: str | None, revision: str | None) -> DatasetCard:
    num_bits = int(schema.metadata[b"num_bits"])
    model = schema.metadata.get(b"model", b"").decode()
    data = DatasetCardData(
        license=license,
        tags=["hashing", "binary-codes", "modeling-crh"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "codes-*.parquet"}]}],
    )
    example = _EXAMPLE.format(
        repo_id=repo_id,
        options="" if revision in (None, "main") else f'revision="{revision}", ',
        rows=f"{rows:,}",
        num_bytes=num_bits // 8,
    )
    columns = "\n".join(f"| `{field.name}` | {field.type} | {_COLUMNS[field.name]} |" for field in schema)
    text = f"""# {repo_id.rpartition("/")[2]}

{rows:,} codes of {num_bits} bits{f", made by [`{model}`](/{model})" if model else ""}, one a row.

| column | type | meaning |
| --- | --- | --- |
{columns}

## Load and compare

```python
{example}```

`load_dataset(..., streaming=True)` reads them row by row.

## Limits

- Codes compare with codes of the same model only{"" if model else ", which was not named when these were pushed"}.
- A code tells what its item resembles: codes of private items are not anonymous.
- {"No licence was stated when they were pushed." if license is None else f"Their licence is `{license}`."}

{MARK}
"""
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
