"""The card of a Space: what the Hub needs to run it, and what people should know of it."""

import sys

import gradio as gr
from huggingface_hub import HfApi, SpaceCard, SpaceCardData
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from modeling_crh.card import MARK, is_written
from modeling_crh.search import HammingIndex

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
