"""What to search for: image files, folders of images, texts, and packed codes in hexadecimal digits."""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data.folders import image_files
from modeling_crh.encoding import Encoder
from modeling_crh.encoding.loading import find_model
from modeling_crh.runtime.terminal import say
from modeling_crh.search.code_index import CodeIndex

_KINDS = {"image": "images", "text": "texts", "features": "features"}


@dataclass(frozen=True, eq=False)
class QuerySource:
    """One query, before it is a code.

    Args:
        name: What the user wrote, or the path of a file in the folder that the user named.
        kind: What `value` is: something that a model reads, or a `code`.
        value: An item as `Encoder` takes it, such as the path of an image or a text; or the `(K / 8,)` packed code.
    """

    name: str
    kind: Literal["image", "text", "features", "code"]
    value: Any


def find_queries(queries: Sequence[str], num_bits: int) -> list[QuerySource]:
    """Tell files, folders and codes apart; the name of a file or a folder is no code.

    Args:
        queries: Paths, or K / 4 hexadecimal digits. A folder stands for all image files below it, sorted by path.
        num_bits: `K`.

    Raises:
        ValueError: If one of them is neither, or a folder holds no image.
    """
    return [source for query in queries for source in _find(query, num_bits)]


def text_queries(texts: Sequence[str]) -> list[QuerySource]:
    """Queries that are texts.

    Raises:
        ValueError: If one is empty.
    """
    for text in texts:
        if not text.strip():
            raise ValueError(f"`text` must hold a word, but got {text!r}.")
    return [QuerySource(text, "text", text) for text in texts]


def check_model(index: CodeIndex, model: str) -> None:
    """Check that a model made the codes of an index: by its name, or by the folder that both names lead to.

    Raises:
        ValueError: If another model made them, or the index does not say which one.
    """
    if not index.model:
        raise ValueError(f"`index` must name the model of its codes to be searched by {model!r}, but names none.")
    folders = [Path(find_model(name)) for name in (index.model, model)]
    same_folder = all(folder.is_dir() for folder in folders) and folders[0].samefile(folders[1])
    if model != index.model and not same_folder:
        raise ValueError(
            f"`model` must be the one that made the codes of the index, {index.model!r}, but got {model!r}."
        )


def load_encoder(index: CodeIndex, model: str, **settings: Any) -> Encoder:
    """Load the model that made the codes of an index.

    Args:
        index: The index to search.
        model: Folder or Hub id of the model.
        **settings: Settings of the `Encoder`, such as `num_workers`.

    Raises:
        ValueError: If there is no such model, another one made the codes, or it makes codes of another length.
    """
    check_model(index, model)
    encoder = Encoder.load(model, **settings)
    if encoder.num_bits != index.num_bits:
        raise ValueError(
            f"`model` must make codes of {index.num_bits} bits, as the index holds, but makes {encoder.num_bits}."
        )
    return encoder


def encode_queries(sources: Sequence[QuerySource], num_bits: int, encoder: Encoder | None = None) -> NDArray[np.uint8]:
    """Encode queries in batches.

    Args:
        sources: Q queries.
        num_bits: `K` of the index.
        encoder: Encoder of the model that made the codes of the index; needed only where a query is no code.

    Returns:
        `(Q, K / 8)` packed codes.

    Raises:
        ValueError: If a query cannot be read, or there is no model that reads such queries and has K bits.
    """
    packed = np.zeros((len(sources), num_bits // 8), np.uint8)
    for row, source in enumerate(sources):
        if source.kind == "code":
            packed[row] = source.value
    rows = [row for row, source in enumerate(sources) if source.kind != "code"]
    if rows:
        packed[rows] = pack_codes(binarize(query_logits([sources[row] for row in rows], encoder))).numpy()
    return packed


def query_logits(sources: Sequence[QuerySource], encoder: Encoder | None = None) -> Tensor:
    """Hash logits of queries, `(Q, K)` on the CPU, whose signs are their codes.

    Raises:
        ValueError: As `encode_queries`; and if a query is a code, which has no logits.
    """
    codes = [source.name for source in sources if source.kind == "code"]
    if codes:
        raise ValueError(f"`query` must be an image or a text to have hash logits, but {codes[0]!r} is a code.")
    if encoder is None:
        kind = _KINDS[sources[0].kind]
        raise ValueError(f"`model` must be given to search by {kind}, such as {sources[0].name!r:.80}.")
    unread = [_KINDS[source.kind] for source in sources if source.kind != encoder.reads]
    if unread:
        raise ValueError(f"`model` must read {unread[0]}, but reads {_KINDS[encoder.reads]}.")
    return encoder.hash_logits([source.value for source in sources], desc="Encoding queries")


def _find(query: str, num_bits: int) -> list[QuerySource]:
    path = Path(query)
    try:
        if query and path.is_dir():
            return _find_in_folder(path)
        if query and path.is_file():
            return [QuerySource(query, "image", path)]
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    if re.fullmatch(rf"[0-9a-fA-F]{{{num_bits // 4}}}", query):
        return [QuerySource(query, "code", np.frombuffer(bytes.fromhex(query), np.uint8))]
    raise ValueError(
        f"`query` must be an image file, a folder of images or a code of {num_bits // 4} hexadecimal digits, "
        f"but got {query!r:.80}."
    )


def _find_in_folder(folder: Path) -> list[QuerySource]:
    found = image_files(folder)
    passed_over = found.describe_passed_over()
    if passed_over is not None:
        say(passed_over)
    if not found.files:
        raise ValueError(f"`query` must hold at least one image file, but the folder {str(folder)!r} holds none.")
    return [QuerySource(str(folder / file), "image", folder / file) for file in found.files]
