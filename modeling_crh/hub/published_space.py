"""Publish the search page of an index as a Space on the Hub."""

import importlib.metadata
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr
import numpy as np
import pyarrow as pa
from huggingface_hub import CommitInfo, HfApi, SpaceCard, SpaceCardData
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from modeling_crh.app.finder import Finder, no_pictures
from modeling_crh.checks import check_path
from modeling_crh.configuration_crh import is_hub_id
from modeling_crh.hub.cards import MARK, is_written
from modeling_crh.hub.push import check_repo_id, upload
from modeling_crh.runtime.html import Thumbnail, thumbnail_within
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.search import HammingIndex, read_index

_OURS = ("sdk", "sdk_version", "python_version", "app_file", "models")
_TEMPLATE = "spaces-config-reference"  # what the Hub itself writes into a new Space points there


def space_card(index: HammingIndex, repo_id: str, pictures: int | None, license: str | None) -> SpaceCard:
    """Write the card of a Space.

    Args:
        index: That it searches, with the model as the Hub names it.
        repo_id: Where it will be.
        pictures: How many thumbnails it holds; None where it holds none.
        license: As the Hub names licences.
    """
    name = repo_id.rpartition("/")[2]
    data = SpaceCardData(
        title=name,
        emoji="🔎",
        colorFrom="gray",
        colorTo="blue",
        sdk="gradio",
        sdk_version=gr.__version__,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        license=license,
        models=[index.model],
        tags=["hashing", "binary-codes", "modeling-crh"],
    )
    stated = "No licence was stated when it was pushed." if license is None else f"Its licence is `{license}`."
    held = "no pictures" if pictures is None else f"{pictures:,} thumbnails of at most 200 pixels a side"
    text = f"""# {name}

Search {len(index):,} images by codes of {index.num_bits} bits from [`{index.model}`](/{index.model}): ask by an image
of your own or by one of the database, and see which lie nearest, bit by bit.

`index.crh` holds the codes, {index.num_bits // 8} bytes an item, with ids and labels; this repository holds {held} of
the database. `crh push --space` of modeling-crh wrote it, and writes it anew.

## Limits

- An image that is sent is bounded in bytes and in pixels, encoded in memory, and kept nowhere.
- What resembles nothing that the model was trained on has a code that means little.
- {stated} Model and images have their own.

{MARK}
"""
    return SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def choose_card(card: SpaceCard, repo_id: str, revision: str | None, token: str | bool | None) -> str:
    """Leave the text that somebody has written in the repository, with what the Space needs to run from `card`.

    Args:
        card: From `space_card`.
        repo_id: Where it will be.
        revision: Of the repository.
        token: None takes the one that `hf auth login` has stored.
    """
    try:
        file = HfApi(token=token).hf_hub_download(repo_id, "README.md", repo_type="space", revision=revision)
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return str(card)
    found = SpaceCard.load(file, ignore_metadata_errors=True)
    if not is_written(str(found)) or _TEMPLATE in found.text:
        return str(card)
    for name in _OURS:
        found.data[name] = card.data[name]
    return str(found)


MAX_PICTURES = 100_000
"""Of a Space; about 1 GB of thumbnails of photographs."""

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
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload search page",
) -> CommitInfo:
    """Put a Space on the Hub in one commit: the page, the index, thumbnails of the database, requirements and a card.

    Paths of this machine stay here, and so do the images themselves: thumbnails have 200 pixels a side at most.

    Args:
        index: Of images: the file or table that `crh index` wrote.
        repo_id: Such as `org/name`; it is made if it is not there.
        model: Id on the Hub of the model that made the codes.
        image_root: Folder of the images of the database; without it the page shows labels and ids.
        license: As the Hub names licences, such as `cc-by-4.0`.
        private: Of a new repository; None is the organization's default.
        revision: Branch, made if it is not there; None is the main one, which alone runs.
        token: None takes the one that `hf auth login` has stored.
        commit_message: First line of the commit.

    Returns:
        The commit.

    Raises:
        ValueError: If an argument breaks its rule, `model` cannot answer for the index, or `private` is asked for and
            the repository is there and public.
        OSError: If it was not uploaded; then the repository holds nothing of it.
    """
    check_repo_id(repo_id)
    loaded = read_index(index)
    public = _public_index(loaded, model)
    Finder(public, model, no_pictures)  # what the Space will do first
    with TemporaryDirectory() as name:
        folder = Path(name)
        stored = None if image_root is None else store_pictures(folder / "pictures.bin", loaded, image_root)
        pictures = "" if stored is None else ', pictures=here / "pictures.bin"'
        (folder / "app.py").write_text(_APP.format(model=model, pictures=pictures), encoding="utf-8")
        version = importlib.metadata.version("modeling-crh")
        (folder / "requirements.txt").write_text(f"modeling-crh[app]=={version}\n", encoding="utf-8")
        public.save(folder / "index.crh")
        card = choose_card(space_card(public, repo_id, stored, license), repo_id, revision, token)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return upload(
            folder,
            repo_id,
            keep_card=False,
            repo_type="space",
            private=private,
            revision=revision,
            token=token,
            commit_message=commit_message,
        )


def store_pictures(file: Path, index: HammingIndex, image_root: str | Path) -> int:
    """Write the thumbnails of all items, by position, as `stored_pictures` reads them; gives how many there are.

    Args:
        file: Where to.
        index: Of at most `MAX_PICTURES` items.
        image_root: Folder that no path leads out of.

    Raises:
        ValueError: If there are more items, `image_root` is no folder, or holds none of their images.
    """
    root = check_path("image_root", image_root)
    if not root.is_dir():
        raise ValueError(f"`image_root` must be a folder, but got {str(image_root)!r}.")
    if len(index) > MAX_PICTURES:
        raise ValueError(
            f"`image_root` must be left out for a Space of more than {MAX_PICTURES:,} items, but got {len(index):,}."
        )
    paths = [record["path"] for record in index.records(np.arange(len(index)))]

    def thumbnail(path: str | None) -> Thumbnail:
        return Thumbnail() if path is None else thumbnail_within(root, path)

    count = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer, ThreadPoolExecutor() as threads:
        with progress_bar(total=len(paths), desc="Making thumbnails", unit="image") as bar:
            for start in range(0, len(paths), _BATCH):
                made = list(threads.map(thumbnail, paths[start : start + _BATCH]))
                columns = [[one.uri or None for one in made], [one.sharp for one in made]]
                arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
                count += sum(bool(one.uri) for one in made)
                bar.update(len(made))
    if not count:
        raise ValueError(f"`image_root` must hold images of the index, but {str(image_root)!r} holds none of them.")
    return count


def _public_index(index: HammingIndex, model: str) -> HammingIndex:
    """The index without the paths of this machine, and with the model as the Hub names it.

    Raises:
        ValueError: If it is no id of the Hub, or the codes are those of another one.
    """
    if not is_hub_id(model):
        raise ValueError(f"`model` must be the id of a model on the Hub, such as 'org/name', but got {model!r}.")
    if is_hub_id(index.model) and index.model != model:
        raise ValueError(
            f"`model` must be the one that made the codes of the index, {index.model!r}, but got {model!r}."
        )
    items = index.items.table
    columns = {name: items[name] if name in items.column_names else None for name in ("id", "label")}
    return HammingIndex(index.packed, columns["id"], labels=columns["label"], kind=index.kind, model=model)
