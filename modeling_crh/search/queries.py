"""What a person searches with: image files, folders of images, texts, and packed codes in hexadecimal digits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.codes import binarize, pack_codes
from modeling_crh.encoding.inputs import Processor, model_inputs
from modeling_crh.images import read_image
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.runtime.terminal import progress_bar
from modeling_crh.search.code_index import CodeIndex


@dataclass(frozen=True, eq=False)
class QuerySource:
    """One query, before it is a code.

    Args:
        name: What the person wrote, or the path of a file in the folder that they named.
        image: The file to encode; or
        text: The text to encode; or
        code: `(K / 8,)` uint8, the packed code itself.
    """

    name: str
    image: Path | None = None
    text: str | None = None
    code: NDArray[np.uint8] | None = None


def find_queries(queries: Sequence[str], num_bits: int) -> list[QuerySource]:
    """Tell files, folders and codes apart; what is there as a file or a folder is no code.

    Args:
        queries: Paths, or K / 4 hexadecimal digits. Of a folder, image files at any depth, in the order of their paths.
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
    return [QuerySource(text, text=text) for text in texts]


def check_model(index: CodeIndex, model: str) -> None:
    """Check that the codes of an index are those of a model: by its name, or by the folder that both names lead to.

    Raises:
        ValueError: If another model made them, or the index does not say which one.
    """
    if not index.model:
        raise ValueError(f"`index` must name the model of its codes to be searched by {model!r}, but names none.")
    folders = [Path(name) for name in (index.model, model)]
    same_folder = all(folder.is_dir() for folder in folders) and folders[0].samefile(folders[1])
    if model != index.model and not same_folder:
        raise ValueError(
            f"`model` must be the one that made the codes of the index, {index.model!r}, but got {model!r}."
        )


def encode_queries(
    sources: Sequence[QuerySource], num_bits: int, model: CRHModel | None = None, processor: Processor = None
) -> NDArray[np.uint8]:
    """Packed codes of queries.

    Args:
        sources: From `find_queries`.
        num_bits: `K` of the index.
        model: In evaluation mode; only needed where a query is no code.
        processor: Of the model.

    Returns:
        `(Q, K / 8)` uint8.

    Raises:
        ValueError: If an image cannot be read, or there is no model for it, or none that reads images or has K bits;
            likewise for a text.
    """
    packed = np.zeros((len(sources), num_bits // 8), np.uint8)
    for row, source in enumerate(sources):
        if source.code is not None:
            packed[row] = source.code
    rows = [row for row, source in enumerate(sources) if source.code is None]
    if rows:
        logits = query_logits([sources[row] for row in rows], num_bits, model, processor)
        packed[rows] = pack_codes(binarize(logits)).numpy()
    return packed


def query_logits(
    sources: Sequence[QuerySource], num_bits: int, model: CRHModel | None = None, processor: Processor = None
) -> Tensor:
    """Hash logits of queries, `(Q, K)` on the CPU, of which `encode_queries` takes the signs.

    Raises:
        ValueError: As there; and if a query is a code, which has none.
    """
    codes = [source.name for source in sources if source.code is not None]
    if codes:
        raise ValueError(f"`query` must be an image or a text to have hash logits, but {codes[0]!r} is a code.")
    if model is None:
        kind = "an image" if sources[0].text is None else "a text"
        raise ValueError(f"`model` must be given to search by {kind}, such as {sources[0].name!r:.80}.")
    if model.config.num_bits != num_bits:
        raise ValueError(
            f"`model` must make codes of {num_bits} bits, as the index holds, but makes {model.config.num_bits}."
        )
    for source in sources:
        reads, kind = ("pixel_values", "images") if source.text is None else ("input_ids", "texts")
        if model.main_input_name != reads:
            raise ValueError(f"`model` must read {kind}, but reads `{model.main_input_name}`.")
    found = []
    for source in progress_bar(sources, desc="Encoding queries", unit="query"):
        with torch.inference_mode():
            found.append(model(**model_inputs(_inputs(source, processor), model)).hash_logits.float().cpu())
    return torch.cat(found)


def _find(query: str, num_bits: int) -> list[QuerySource]:
    path = Path(query)
    try:
        if query and path.is_dir():
            return _find_in_folder(path)
        if query and path.is_file():
            return [QuerySource(query, image=path)]
    except OSError:  # a name that is too long for a file
        pass
    if re.fullmatch(rf"[0-9a-fA-F]{{{num_bits // 4}}}", query):
        return [QuerySource(query, code=np.frombuffer(bytes.fromhex(query), np.uint8))]
    raise ValueError(
        f"`query` must be an image file, a folder of images or a code of {num_bits // 4} hexadecimal digits, "
        f"but got {query!r:.80}."
    )


def _find_in_folder(folder: Path) -> list[QuerySource]:
    suffixes = PIL.Image.registered_extensions()
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise ValueError(f"`query` must hold at least one image file, but the folder {str(folder)!r} holds none.")
    return [QuerySource(str(file), image=file) for file in files]


def _inputs(source: QuerySource, processor: Any) -> dict[str, Tensor]:
    if source.image is not None:
        return dict(processor(read_image(source.image), input_data_format="channels_last", return_tensors="pt"))
    return dict(processor(source.text, truncation=True, return_tensors="pt"))
