"""How fast are photos of 12 megapixels decoded, and what does it mean for `crh encode`?

Method: JPEG files of `--side` pixels, of noise that is as smooth as a photo and of as many bytes a pixel. `decode`:
each way makes pixels of the same file, and the image processor of a ViT at 224 pixels takes them, in turns;
milliseconds are medians. `whole` decodes all pixels and `scaled` what `needed_side` asks for; both are Pillow's.
torchvision decodes all pixels. OpenCV and simplejpeg, which scale too, are tried if they are installed. `difference`:
mean difference of what the processor makes to that of all pixels, in steps of a color from 0 to 255. `encode`: images
a second of `encode_source` with a ViT-S, with the decoding of all pixels and with ours, in turns. One thread.

    python benchmarks/bench_decode.py [--images 12] [--side 4000] [--rounds 5] [--dtype bfloat16]
"""

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import PIL.Image
import torch
from bench_encode import ours, small_vit
from numpy.typing import NDArray
from torch import Tensor
from torchvision.io import decode_jpeg
from transformers import ViTImageProcessor

from modeling_crh.images import needed_side, pixel_values, read_image


def make_photos(folder: Path, count: int, side: int) -> list[Path]:
    """Write JPEG files of `side` x 3/4 `side` pixels."""
    folder.mkdir()
    generator, files = np.random.default_rng(0), []
    for number in range(count):
        small = generator.integers(0, 256, (94, 125, 3), dtype=np.uint8)
        smooth = PIL.Image.fromarray(small).resize((side, side * 3 // 4), PIL.Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth, np.int16) + generator.normal(0, 6, (side * 3 // 4, side, 1)).astype(np.int16)
        files.append(folder / f"{number:03d}.jpg")
        PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(files[-1], quality=88)
    return files


def decoders(least_side: int) -> dict[str, Callable[[bytes], Any]]:
    """Ways to decode the bytes of a file, `(H, W, 3)` or, of torchvision, `(3, H, W)`."""
    ways: dict[str, Callable[[bytes], Any]] = {
        "whole": read_image,
        "scaled": partial(read_image, least_side=least_side),
        "torchvision": lambda content: decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8)),
    }
    if importlib.util.find_spec("cv2"):
        import cv2

        flag = cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION
        ways["OpenCV, a quarter"] = lambda content: cv2.cvtColor(
            cv2.imdecode(np.frombuffer(content, np.uint8), flag), cv2.COLOR_BGR2RGB
        )
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        ways["simplejpeg, scaled"] = partial(
            simplejpeg.decode_jpeg, min_height=least_side, min_width=least_side, min_factor=1
        )
    return ways


def as_tensor(pixels: Tensor | NDArray[np.uint8]) -> Tensor:
    """Pixels as `(3, H, W)`."""
    return pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels).permute(2, 0, 1)


def compare_decoders(files: list[Path], processor: ViTImageProcessor, rounds: int) -> list[dict[str, Any]]:
    """Time every way to decode, and what the image processor then takes."""
    ways = decoders(needed_side(processor) or 1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    made = {}
    for number in range(rounds + 1):
        for name, decode in ways.items():
            content = files[number % len(files)].read_bytes()
            start = time.perf_counter()
            pixels = as_tensor(decode(content))
            decoded = time.perf_counter()
            made[name] = pixel_values(processor, [pixels])
            if number:
                times[name].append((decoded - start, time.perf_counter() - decoded))
    rows = []
    for name, found in times.items():
        decoding, processing = (statistics.median(column) for column in zip(*found, strict=True))
        difference = (made[name] - made["whole"]).abs().mean().item() * 127.5
        row = {"decoder": name, "ms_decode": round(1e3 * decoding, 1), "ms_process": round(1e3 * processing, 1)}
        rows.append(row | {"difference": round(difference, 2)})
    return rows


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16")
    settings = parser.parse_args()
    settings.batch_size, settings.num_workers, settings.compiled = 4, 0, False
    processor = ViTImageProcessor(do_convert_rgb=True)
    model = small_vit()
    with TemporaryDirectory() as name:
        files = make_photos(Path(name, "photos"), settings.images, settings.side)
        rows = compare_decoders(files, processor, settings.rounds)
        rates: dict[str, list[float]] = {"whole": [], "scaled": []}
        for _ in range(settings.rounds):
            rates["scaled"].append(ours(model, files[0].parent, processor, settings))
            with patch("modeling_crh.encoding.inputs.needed_side", lambda processor: None):
                rates["whole"].append(ours(model, files[0].parent, processor, settings))
        size = files[0].stat().st_size
    encode = {name: round(statistics.median(found), 2) for name, found in rates.items()}
    ratio = statistics.median(fast / slow for fast, slow in zip(rates["scaled"], rates["whole"], strict=True))
    print(json.dumps({"bytes": size, "decode": rows, "encode": encode, "ratio": round(ratio, 2)}, indent=1))


if __name__ == "__main__":
    main()
