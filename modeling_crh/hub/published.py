"""Publish codes as a dataset, or the search page of an index as a Space, on the Hub."""

import importlib.metadata
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np
import pyarrow as pa
from huggingface_hub import CommitInfo, DatasetCard, DatasetCardData, SpaceCard, SpaceCardData

from modeling_crh.checks import check_path
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.encoding.shards import (
    code_files,
    one_model,
    read_batches,
    read_code_schema,
    shard_path,
    shard_writer,
)
from modeling_crh.hub.cards import MARK, TAGS, revision_option, template
from modeling_crh.hub.push import Destination, check_names, upload
from modeling_crh.hub.run_record import is_public_id
from modeling_crh.runtime.html import Thumbnail, check_image_root, thumbnail_within
from modeling_crh.runtime.terminal import progress_bar

if TYPE_CHECKING:
    from modeling_crh.search import HammingIndex

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
    found, _, num_bits, dtype = one_model(schemas, folder)
    is_own = {"id", "path", "code"} <= set(schemas[0].names) <= set(_MEANINGS)
    width = schemas[0].field("code").type.byte_width
    if not is_own or schemas[0].field("path").type != pa.string() or num_bits != str(8 * width):
        raise ValueError(f"`codes` must be a folder that `crh encode` wrote, but {str(folder)!r} is not.")
    if any(not schema.equals(schemas[0]) for schema in schemas):
        raise ValueError(f"`codes` must be files with the same columns, but those in {str(folder)!r} differ.")
    named = model or (found if is_public_id(found) else "")
    kept = {"num_bits": num_bits, "dtype": dtype} | ({"model": named} if named else {})
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


def _codes_card(schema: pa.Schema, rows: int, repo_id: str, license: str | None, revision: str | None) -> DatasetCard:
    files = [{"split": "train", "path": "codes-*.parquet"}]
    configs = [{"config_name": "default", "data_files": files}]
    data = DatasetCardData(license=license, tags=TAGS, configs=configs)
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


MAX_PICTURES = 100_000
"""Largest number of items of a Space with thumbnails, about 1 GB for photographs."""

_BATCH = 256
_SCHEMA = pa.schema([pa.field("uri", pa.large_string()), pa.field("sharp", pa.bool_())])
_APP = '''"""The search page of this Space, as `crh push --space` wrote it."""

from pathlib import Path

from modeling_crh.app import build_page, serve

here = Path(__file__).parent
demo = build_page(here / "index.crh", "{model}"{pictures})

if __name__ == "__main__":
    serve(demo)
'''


def push_space(
    index: str | Path,
    repo_id: str,
    *,
    model: str,
    image_root: str | Path | None = None,
    with_pictures: bool = False,
    license: str | None = None,
    **destination: Unpack[Destination],
) -> CommitInfo | None:
    """Upload a Space: the search page, the index, requirements and a card, and optionally thumbnails.

    Neither paths of this machine nor the images are published: thumbnails have at most 200 pixels a side.

    Args:
        index: File or table of codes of images, from `crh index`.
        repo_id: Repository such as `org/name`, created if it does not exist.
        model: Hub id of the model that made the codes.
        image_root: Folder of the images of the database, to make thumbnails from.
        with_pictures: Whether to publish thumbnails; without them the page shows labels and ids.
        license: Hub name of the licence, such as `cc-by-4.0`.
        **destination: Access token and commit message, see `Destination`. A Space runs on its main branch.

    Raises:
        ValueError: If an argument breaks a rule of `push_codes`, or `model` cannot encode queries for the index.
        ModuleNotFoundError: If Gradio, whose version the Space names, is not installed.
        OSError: If the upload failed; nothing is then uploaded.
    """
    check_names(repo_id, model)
    if with_pictures != (image_root is not None):
        raise ValueError(
            "`image_root` and `with_pictures` must come together, since thumbnails of the images are published, but "
            f"got {image_root!r} and {with_pictures}."
        )
    loaded, public = _open_index(index, model)

    def stage(folder: Path) -> None:
        stored = None if image_root is None else store_pictures(folder / "pictures.bin", loaded, image_root)
        pictures = "" if stored is None else ', pictures=here / "pictures.bin"'
        (folder / "app.py").write_text(_APP.format(model=model, pictures=pictures), encoding="utf-8")
        version = importlib.metadata.version("modeling-crh")
        (folder / "requirements.txt").write_text(f"modeling-crh[app]=={version}\n", encoding="utf-8")
        public.save(folder / "index.crh")
        card = _space_card(public, repo_id, stored, license)
        (folder / "README.md").write_text(str(card), encoding="utf-8")

    return upload(stage, repo_id, destination, repo_type="space")


def store_pictures(file: Path, index: "HammingIndex", image_root: str | Path) -> int:
    """Write thumbnails of all items, by position, in the format of the search page; return their number.

    Raises:
        FileNotFoundError: If `image_root` is not a folder.
        ValueError: If the index has more than `MAX_PICTURES` items, or `image_root` holds none of their images.
    """
    root = check_image_root(image_root)
    if len(index) > MAX_PICTURES:
        raise ValueError(
            f"`image_root` must be left out for a Space of more than {MAX_PICTURES:,} items, but got {len(index):,}."
        )
    paths = [record["path"] for record in index.records(np.arange(len(index)))]

    def picture(path: str | None) -> Thumbnail:
        return Thumbnail() if path is None else thumbnail_within(root, path)

    count = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer, ThreadPoolExecutor() as threads:
        for start in progress_bar(range(0, len(paths), _BATCH), desc="Making thumbnails"):
            made = list(threads.map(picture, paths[start : start + _BATCH]))
            columns = {"uri": [one.uri or None for one in made], "sharp": [one.sharp for one in made]}
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=_SCHEMA))
            count += sum(bool(one.uri) for one in made)
    if not count:
        raise ValueError(f"`image_root` must hold images of the index, but {str(image_root)!r} holds none of them.")
    return count


def _open_index(uri: str | Path, name: str) -> tuple["HammingIndex", "HammingIndex"]:
    """Open an index, check its model, and return the index and a copy without paths of this machine."""
    from modeling_crh.search import HammingIndex, read_index  # FAISS is optional
    from modeling_crh.search.queries import check_model

    index = read_index(uri)
    if is_hub_id(index.model):
        check_model(index, name)
    model, _ = load_checkpoint(name)
    if model.main_input_name != "pixel_values" or model.config.num_bits != index.num_bits:
        raise ValueError(
            f"`model` must make codes of {index.num_bits} bits from images, as the index holds, but {name!r} makes "
            f"codes of {model.config.num_bits} bits from `{model.main_input_name}`."
        )
    items = index.items.table
    columns = {column: items[column] if column in items.column_names else None for column in ("id", "label")}
    return index, HammingIndex(index.packed, columns["id"], labels=columns["label"], kind=index.kind, model=name)


def _space_card(index: "HammingIndex", repo_id: str, pictures: int | None, license: str | None) -> SpaceCard:
    try:
        gradio = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError("A search page needs gradio; run `pip install 'modeling-crh[app]'`.") from error
    data = SpaceCardData(
        title=repo_id.rpartition("/")[2],
        emoji="🔎",
        colorFrom="gray",
        colorTo="blue",
        sdk="gradio",
        sdk_version=gradio,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        license=license,
        models=[index.model],
        tags=TAGS,
    )
    card: SpaceCard = SpaceCard.from_template(
        data, template("space_card.md"), index=index, pictures=pictures, mark=MARK
    )
    return card
