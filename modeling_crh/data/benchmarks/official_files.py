"""Find and check the official files of a benchmark, and read its copy on the Hub."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, Image
from numpy.typing import NDArray

from modeling_crh.runtime.terminal import progress_bar


def find_file(data_dir: Path, *names: str) -> Path:
    """Find the first file of `names` that exists in `data_dir`.

    Raises:
        FileNotFoundError: If none exists.
    """
    for path in (data_dir / name for name in names):
        if path.is_file():
            return path
    raise FileNotFoundError(f"`data_dir` must hold {' or '.join(names)}, but {data_dir / names[0]} does not exist.")


def unpacked_folder(data_dir: Path, archive: str) -> Path:
    """Return the folder that an archive unpacks to, if `data_dir` is that folder or its parent."""
    inner = data_dir / archive
    return inner if inner.is_dir() else data_dir


def require_images(paths: Iterable[Path]) -> None:
    """Check that every annotated image exists, since an archive may be unpacked only in part.

    Raises:
        FileNotFoundError: If a file is missing or empty.
    """
    bar = progress_bar(paths, desc="Looking for images")
    if missing := [path for path in bar if not path.is_file() or path.stat().st_size == 0]:
        are = f"and {len(missing) - 1} more are" if len(missing) > 1 else "is"
        raise FileNotFoundError(f"`data_dir` must hold every annotated image, but {missing[0]} {are} missing or empty.")


def encode_png(pixels: NDArray[np.uint8], *, optimize: bool = False) -> bytes:
    """Encode `(H, W)` gray values or `(H, W, 3)` RGB as PNG; `optimize` is far slower and saves a few per cent."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", optimize=optimize, compress_level=9 if optimize else 1)
    return file.getvalue()


def load_hub_pair(
    hub_id: str,
    *,
    image_column: str = "image",
    label_column: str = "label",
    rename: Callable[[list[str]], list[str]] = list,
) -> tuple[Dataset, Dataset]:
    """Load the splits `train` and `test` of a dataset on the Hub, with the columns `image` and `label`.

    The function `rename` makes the official class names of those on the Hub, in the same order.
    """
    splits = datasets.load_dataset(hub_id)
    official = ClassLabel(names=rename(splits["train"].features[label_column].names))
    pair = []
    for name in ("train", "test"):
        rows = splits[name].select_columns([image_column, label_column])
        rows = rows.rename_columns({image_column: "image", label_column: "label"})
        pair.append(rows.cast_column("image", Image()).cast_column("label", official))
    return pair[0], pair[1]
