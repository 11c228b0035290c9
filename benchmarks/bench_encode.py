"""Is `crh encode` as fast as the backbone and the decoding of its images?

Method: JPEG files are made from the bundled sample of Fashion-MNIST, upscaled to `--side` pixels, with a little noise.
Ours is all of `encode_source`, from the listing of the folder to the shards on disk. The bare loop is what one would
write by hand, and keeps nothing: a `DataLoader` whose workers open, decode and preprocess the same files by the same
image processor, and a loop that calls the same backbone on batches of the same size, with as many workers. The model is
a ViT-S/16 at 224 pixels of random weights. The two take turns in one process, after a round that does not count, and
who begins changes from round to round; `ratio` is the median over rounds of our images a second over those of the bare
loop in the same round. One thread.

    python benchmarks/bench_encode.py [--images 300] [--rounds 5] [--num-workers 1] [--batch-size 16]
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import ViTConfig, ViTImageProcessor

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.data import load_benchmark, open_source
from modeling_crh.encoding import Encoder, encode_source


class ImageFiles(Dataset[Tensor]):
    """Image files as what the model reads, one by one."""

    def __init__(self, files: list[Path], processor: ViTImageProcessor) -> None:
        self.files, self.processor = files, processor

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """`(3, 224, 224)`."""
        with PIL.Image.open(self.files[index]) as image:
            pixels: Tensor = self.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return pixels


def make_images(folder: Path, count: int, side: int) -> list[Path]:
    """Write JPEG files, in the order of their names."""
    folder.mkdir()
    rows = load_benchmark("fashion_mnist_sample")["database"].select(range(count))
    generator = np.random.default_rng(0)
    files = [folder / f"{number:05d}.jpg" for number in range(count)]
    for file, row in zip(files, rows, strict=True):
        pixels = np.asarray(row["image"].convert("RGB").resize((side, side), PIL.Image.Resampling.BICUBIC), np.int16)
        noisy = pixels + generator.integers(-8, 9, pixels.shape)
        PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return files


def small_vit() -> CRHModel:
    """ViT-S/16 at 224 pixels, of 64 bits."""
    config = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    torch.manual_seed(0)
    return CRHModel(CRHConfig(backbone_config=config, num_bits=64))


@torch.inference_mode()
def bare_loop(model: CRHModel, files: list[Path], processor: ViTImageProcessor, settings: Any) -> float:
    """Images a second of a loop by hand."""
    backbone: Any = model.eval().backbone  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    loader = DataLoader(ImageFiles(files, processor), settings.batch_size, num_workers=settings.num_workers)
    for pixels in loader:
        backbone(pixel_values=pixels)
    return len(files) / (time.perf_counter() - start)


def ours(model: CRHModel, folder: Path, processor: ViTImageProcessor, settings: Any) -> float:
    """Images a second of `encode_source`."""
    with TemporaryDirectory() as out:
        start = time.perf_counter()
        encoder = Encoder(model, processor, batch_size=settings.batch_size, num_workers=settings.num_workers)
        encoded = encode_source(encoder, open_source(folder), out, model_name="vit-small")
        return encoded.items / (time.perf_counter() - start)


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    settings = parser.parse_args()
    model, processor = small_vit(), ViTImageProcessor(do_convert_rgb=True)
    with TemporaryDirectory() as name:
        folder, warm = Path(name, "images"), Path(name, "warm")
        files = make_images(folder, settings.images, settings.side)
        make_images(warm, 32, settings.side)
        bare_loop(model, files[:32], processor, settings)
        ours(model, warm, processor, settings)
        bare, own = [], []
        for number in range(settings.rounds):
            if number % 2:
                own.append(ours(model, folder, processor, settings))
            bare.append(bare_loop(model, files, processor, settings))
            if not number % 2:
                own.append(ours(model, folder, processor, settings))
    ratios = [fast / slow for fast, slow in zip(own, bare, strict=True)]
    found = {
        **vars(settings),
        "bare_images_per_second": round(statistics.median(bare), 1),
        "our_images_per_second": round(statistics.median(own), 1),
        "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
        "ratio": round(statistics.median(ratios), 3),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
