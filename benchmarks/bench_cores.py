"""Do feature extraction and augmented training keep all cores busy?

Method: JPEG files are made from the bundled sample of Fashion-MNIST, upscaled to `--side` pixels, with a little noise.
`features` extracts three views of each by a ViT-Ti/16 at 224 pixels, two of them augmented, as `crh features --views 3`
does; `training` trains a CRHModel on the same backbone for an epoch, with standard augmentation. Each runs with 0, 1
and 2 processes that decode and augment ahead; they take turns in one process after a round that does not count. `busy`
is the CPU time of this process and of those over the seconds and the cores; `images_per_second` tells whether the time
went into images. Both are medians over the rounds. `default` is the number that `crh` takes on this machine.

    python benchmarks/bench_cores.py [--images 200] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bench_encode import make_images
from datasets import ClassLabel, Dataset, Features, Image
from transformers import ViTConfig, ViTImageProcessor
from transformers.trainer_callback import PrinterCallback

from modeling_crh import CRHConfig, CRHModel, CRHTrainer, CRHTrainingArguments
from modeling_crh.encoding import ImageDataset
from modeling_crh.encoding.feature_tables import extract_views
from modeling_crh.runtime.processes import choose_workers, count_cores

VIT_TI: dict[str, Any] = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
NUM_CLASSES, VIEWS, BATCH_SIZE, WORKERS = 10, 3, 16, (0, 1, 2)


def image_rows(files: list[Path]) -> Dataset:
    """A dataset of image files, of ten classes in turn."""
    labels = [number % NUM_CLASSES for number in range(len(files))]
    names = [str(number) for number in range(NUM_CLASSES)]
    features = Features(image=Image(), label=ClassLabel(names=names))
    return Dataset.from_dict({"image": [str(file) for file in files], "label": labels}, features=features)


def extract(model: CRHModel, processor: ViTImageProcessor, rows: Dataset, workers: int) -> None:
    """Extract the features of all views."""
    backbone: Any = model.backbone
    extract_views(backbone.eval(), processor, rows, num_views=VIEWS, batch_size=BATCH_SIZE, num_workers=workers)


def train(model: CRHModel, processor: ViTImageProcessor, rows: Dataset, workers: int) -> None:
    """Train for an epoch."""
    with TemporaryDirectory() as folder:
        arguments = CRHTrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            dataloader_num_workers=workers,
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        dataset = ImageDataset(rows, processor, augment="standard")
        trainer = CRHTrainer(model=model, args=arguments, train_dataset=dataset)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def measure(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds of a call, and the share of all cores that it and its processes had."""
    before, start = os.times(), time.perf_counter()
    run()
    seconds, after = time.perf_counter() - start, os.times()
    used = sum(after[:4]) - sum(before[:4])  # of this process and of those that ended
    return seconds, used / seconds / count_cores()


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    torch.manual_seed(0)
    classes: dict[str, Any] = {"num_labels": NUM_CLASSES}
    model = CRHModel(CRHConfig(backbone_config=ViTConfig(**VIT_TI), num_bits=64, **classes))
    processor = ViTImageProcessor(do_convert_rgb=True)
    found: dict[str, Any] = {**vars(settings), "default": choose_workers("pixel_values")}
    with TemporaryDirectory() as folder:
        rows = image_rows(make_images(Path(folder, "images"), settings.images, settings.side))
        for name, work, size in (("features", extract, VIEWS * len(rows)), ("training", train, len(rows))):
            rounds: dict[int, list[tuple[float, float]]] = {workers: [] for workers in WORKERS}
            for number in range(settings.rounds + 1):
                for workers, results in rounds.items():
                    result = measure(lambda: work(model, processor, rows, workers))  # noqa: B023 - called at once
                    results += [result] if number else []
            found[name] = {
                workers: {
                    "busy": round(statistics.median(busy for _, busy in results), 3),
                    "images_per_second": round(size / statistics.median(seconds for seconds, _ in results), 1),
                }
                for workers, results in rounds.items()
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
