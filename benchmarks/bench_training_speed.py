"""What are bf16, torch.compile and processes that decode worth in training?

Method: CRHTrainer trains a ViT-S at 224 pixels, of random weights, on JPEG files with the augmentation `standard`, in
batches of 16: every setting for `--steps` steps, after a first step that does not count, in which torch compiles. The
settings take turns by the round; images a second are medians, and `ratio` is the median over the rounds of a setting's
over that of float32 in the same round. Two cores, unless OMP_NUM_THREADS says otherwise.

    python benchmarks/bench_training_speed.py [--steps 6] [--rounds 3] [--settings float32,bf16]
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bench_encode import make_images, small_vit
from datasets import Dataset
from transformers import TrainerCallback, ViTImageProcessor

from modeling_crh import CRHTrainer, CRHTrainingArguments
from modeling_crh.data import prepare_dataset
from modeling_crh.encoding import ImageDataset

BATCH_SIZE = 16
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"bf16": True},
    "bf16, compiled": {"bf16": True, "torch_compile": True},
    "bf16, 1 process that decodes": {"bf16": True, "dataloader_num_workers": 1},
}


class Clock(TrainerCallback):
    """Times the steps after the first."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())


def images_per_second(items: ImageDataset, steps: int, settings: dict[str, Any], folder: str) -> float:
    """Train for some steps, after one that does not count."""
    torch._dynamo.reset()
    arguments: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": steps + 1,
        "per_device_train_batch_size": BATCH_SIZE,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
    }
    clock = Clock()
    args = CRHTrainingArguments(**arguments | settings)
    CRHTrainer(small_vit(), args, train_dataset=items, callbacks=[clock]).train()
    return BATCH_SIZE * steps / (clock.times[-1] - clock.times[0])


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", help="names of SETTINGS with semicolons between, float32 first")
    arguments = parser.parse_args()
    names = arguments.settings.split(";") if arguments.settings else list(SETTINGS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    with TemporaryDirectory() as folder:
        files = make_images(Path(folder, "images"), BATCH_SIZE * (arguments.steps + 1), 320)
        rows = {"image": [str(file) for file in files], "label": [row % 2 for row in range(len(files))]}
        items = ImageDataset(
            prepare_dataset(Dataset.from_dict(rows)), ViTImageProcessor(do_convert_rgb=True), augment="standard"
        )
        for _ in range(arguments.rounds):
            for name in names:
                rates[name].append(images_per_second(items, arguments.steps, SETTINGS[name], folder))
    first = rates[names[0]]
    for name, found in rates.items():
        ratio = statistics.median(rate / base for rate, base in zip(found, first, strict=True))
        print(
            json.dumps(
                {"settings": name, "images_per_second": round(statistics.median(found), 1), "ratio": round(ratio, 2)}
            )
        )


if __name__ == "__main__":
    main()
