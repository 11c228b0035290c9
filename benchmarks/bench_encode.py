"""Is `crh encode` as fast as the backbone and the decoding of its images?

Method: JPEG files are made from the bundled sample of Fashion-MNIST, upscaled to `--side` pixels, with a little noise.
Ours is all of `encode_source`, from the listing of the folder to the shards on disk. The bare loop is what one would
write by hand, and keeps nothing: a `DataLoader` whose workers open, decode and preprocess the same files by the same
image processor, and a loop that calls the same backbone on batches of the same size, with as many workers. The model is
a ViT-S/16 at 224 pixels of random weights. Ours is in the precision of `--dtype`; the loop is tried in float32 and in
that one. All take turns in one process, after a round that does not count, and who begins changes from round to round;
`ratio` and `ratio_float32` are the medians over rounds of our images a second over those of the bare loop in the same
round. One thread, unless OMP_NUM_THREADS says otherwise.

    python benchmarks/bench_encode.py [--images 300] [--rounds 5] [--num-workers 1] [--batch-size 16] [--dtype auto]
    python benchmarks/bench_encode.py --equal-bits DIR    # of the checkpoint that ships, on Fashion-MNIST
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import ViTConfig, ViTImageProcessor

from modeling_crh import DEFAULT_CHECKPOINT, CRHConfig, CRHModel
from modeling_crh.data import OpenedSource, load_benchmark, load_splits, open_source
from modeling_crh.encoding import Encoder, encode_items, encode_source, labelled_dataset, load_checkpoint
from modeling_crh.encoding.encoder import place_model
from modeling_crh.training.evaluation import evaluate_splits


class ImageFiles(Dataset[Tensor]):
    """Image files as what the model reads, one by one."""

    def __init__(self, files: list[Path], processor: ViTImageProcessor) -> None:
        self.files, self.processor = files, processor

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """`(3, H, W)` in the size that the processor makes."""
        with PIL.Image.open(self.files[index]) as image:
            pixels: Tensor = self.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return pixels


def make_images(folder: Path, count: int, side: int) -> list[Path]:
    """Write at most 6,000 JPEG files, in the order of their names."""
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


def decoded(files: list[Path], processor: ViTImageProcessor, settings: Any) -> DataLoader[Tensor]:
    """Make the loader of the loop by hand."""
    pin_memory = torch.cuda.is_available()
    workers = {"num_workers": settings.num_workers, "pin_memory": pin_memory}
    return DataLoader(ImageFiles(files, processor), settings.batch_size, **workers)


@torch.inference_mode()
def bare_loop(model: CRHModel, batches: Iterable[Tensor]) -> float:
    """Images a second of a loop by hand over batches of pixels, on the device of the model."""
    backbone: Any = model.eval().backbone  # type: ignore[no-untyped-call]
    images = 0
    start = time.perf_counter()
    for pixels in batches:
        backbone(pixel_values=pixels.to(backbone.device, backbone.dtype, non_blocking=True))
        images += len(pixels)
    finish()
    return images / (time.perf_counter() - start)


def ours(model: CRHModel, source: Path | OpenedSource, processor: ViTImageProcessor, settings: Any) -> float:
    """Images a second of `encode_source`, of a folder that it lists itself or of an opened source."""
    with TemporaryDirectory() as out:
        given = {name: getattr(settings, name) for name in ("batch_size", "num_workers", "dtype", "compiled")}
        start = time.perf_counter()
        encoder = Encoder(model, processor, **given)
        opened = open_source(source) if isinstance(source, Path) else source
        encoded = encode_source(encoder, opened, out, model_name="vit")
        return encoded.items / (time.perf_counter() - start)


def finish() -> None:
    """Wait until a GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def print_equal_bits(data_dir: str) -> None:
    """Share of equal bits, and mAP, of the checkpoint that ships in float32 and in bfloat16."""
    splits = load_splits("fashion_mnist", data_dir=data_dir).splits
    codes, figures = [], {}
    for dtype in (torch.float32, torch.bfloat16):
        model, processor = load_checkpoint(DEFAULT_CHECKPOINT)
        nn.Module.to(model, dtype)
        codes.append(encode_items(model, labelled_dataset(splits["query"], processor)).codes)
        found = evaluate_splits(model, processor, splits)
        figures[str(dtype).removeprefix("torch.")] = round(found["map"], 5)
    print(json.dumps({"equal_bits": round((codes[0] == codes[1]).float().mean().item(), 5), "map": figures}))


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compiled", action="store_true", help="compile our model")
    parser.add_argument("--equal-bits", metavar="DIR", help="compare the codes of two precisions instead")
    settings = parser.parse_args()
    if settings.equal_bits:
        print_equal_bits(settings.equal_bits)
        return
    processor = ViTImageProcessor(do_convert_rgb=True)
    whole, fast, own = small_vit(), small_vit(), small_vit()
    place_model(fast, settings.dtype)
    place_model(whole, "float32")
    with TemporaryDirectory() as name:
        folder, warm = Path(name, "images"), Path(name, "warm")
        files = make_images(folder, settings.images, settings.side)
        make_images(warm, 32, settings.side)
        sides = {
            "ours": lambda: ours(own, folder, processor, settings),
            "bare": lambda: bare_loop(fast, decoded(files, processor, settings)),
            "bare_float32": lambda: bare_loop(whole, decoded(files, processor, settings)),
        }
        ours(own, warm, processor, settings)
        for model in (fast, whole):
            bare_loop(model, decoded(files[:32], processor, settings))
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(settings.rounds):
            order = list(sides)
            for side in order[number % 3 :] + order[: number % 3]:
                rates[side].append(sides[side]())
    found: dict[str, Any] = {key: value for key, value in vars(settings).items() if key != "equal_bits"}
    found |= {f"{side}_images_per_second": round(statistics.median(rates[side]), 1) for side in sides}
    for label, side in (("ratio", "bare"), ("ratio_float32", "bare_float32")):
        ratios = [one / other for one, other in zip(rates["ours"], rates[side], strict=True)]
        found[label] = round(statistics.median(ratios), 3)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
