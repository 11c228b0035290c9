"""Publish the search page of an index as a Space on the Hub."""

import importlib.metadata
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import pyarrow as pa
from huggingface_hub import CommitInfo, RepoCard, SpaceCard, SpaceCardData

from modeling_crh.checks import needs_extra
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.encoding.loading import is_digest, load_checkpoint
from modeling_crh.hub.cards import TAGS, fill_card
from modeling_crh.hub.push import Destination, check_names, upload
from modeling_crh.runtime.html import check_image_root, thumbnail_within
from modeling_crh.runtime.terminal import progress_bar, say
from modeling_crh.search import HammingIndex, read_index
from modeling_crh.search.queries import check_model

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
    loaded, public = _open_index(index, model, is_dry=destination.get("dry_run", False))

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


def store_pictures(file: Path, index: HammingIndex, image_root: str | Path) -> int:
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
    count = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer, ThreadPoolExecutor() as threads:
        for start in progress_bar(range(0, len(paths), _BATCH), desc="Making thumbnails"):
            made = list(threads.map(partial(thumbnail_within, root), paths[start : start + _BATCH]))
            columns = {"uri": [one.uri or None for one in made], "sharp": [one.sharp for one in made]}
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=_SCHEMA))
            count += sum(bool(one.uri) for one in made)
    if not count:
        raise ValueError(f"`image_root` must hold images of the index, but {str(image_root)!r} holds none of them.")
    return count


def _open_index(uri: str | Path, name: str, *, is_dry: bool) -> tuple[HammingIndex, HammingIndex]:
    """Open an index, check its model, and return the index and a copy without paths of this machine."""
    index = read_index(uri)
    if is_hub_id(index.model) and not is_digest(index.revision):
        check_model(index, name)
    model = None if is_dry else load_checkpoint(name)[0]  # a dry run asks nothing of the Hub
    if model is None:
        say(f"This dry run does not look whether {name} fits the index.")
    elif model.main_input_name != "pixel_values" or index.num_bits not in model.config.lengths:
        raise ValueError(
            f"`model` must make codes of {index.num_bits} bits from images, as the index holds, but {name!r} makes "
            f"codes of {model.config.num_bits} bits from `{model.main_input_name}`."
        )
    columns = {f"{one}s": index.items[one] for one in ("id", "label") if one in index.items.column_names}
    revision = index.revision if name == index.model else ""
    return index, HammingIndex(
        index.packed, **columns, kind=index.kind, model=name, revision=revision, dtype=index.dtype
    )


def _space_card(index: HammingIndex, repo_id: str, pictures: int | None, license: str | None) -> RepoCard:
    with needs_extra("A search page", "app"):
        gradio = importlib.metadata.version("gradio")
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
    return fill_card(SpaceCard, data, "space_card.md", index=index, pictures=pictures)
