"""Does a training that is killed at any moment go on to the very end that it would have come to?

Method: two tiny runs, one on features whose checkpoints come with the epochs, and one on images, with augmentation,
whose checkpoints come every 3 steps, in the middle of epochs too. Each runs to its end once. Then the same command,
`crh train RECIPE --out FOLDER --resume`, is started in an empty folder, killed by SIGKILL after a time drawn evenly
from the length of a whole run, and given again. Every file of weights that a kill leaves must load, and the end must be
the same: the SHA-256 of the weights, with the codebook and the assignment among them, the figures, and all that was
logged but times. `while_saving` counts the kills that came in the middle of a checkpoint.

    OMP_NUM_THREADS=1 python benchmarks/bench_faults.py [--kills 20] [--seed 0]
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import yaml
from datasets import Dataset

from modeling_crh import cli
from modeling_crh.data import load_benchmark
from modeling_crh.encoding.loading import load_checkpoint, load_model
from modeling_crh.training.checkpointing import find_last_checkpoint

TRAINING = {"learning_rate": 1.0e-2, "use_cpu": True, "report_to": "none", "load_best_model_at_end": True}
EVERY_3_STEPS = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
RESNET = {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}

_fork = multiprocessing.get_context("fork")


def write_recipes(folder: Path) -> list[Path]:
    """Two data sets, and a recipe for each."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 300)
    features = generator.normal(size=(8, 16))[labels] + generator.normal(size=(300, 16))
    Dataset.from_dict({"features": features.tolist(), "label": labels.tolist()}).to_parquet(folder / "features.parquet")
    images = load_benchmark("fashion_mnist_sample")["train"]
    for row in range(200):
        path = folder / "images" / str(images[row]["label"]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images[row]["image"].save(path)
    head = {"num_bits": 16, "hash_head": "mlp", "hash_head_hidden_size": 64, "hash_head_dropout": 0.3}
    recipes: dict[str, dict[str, Any]] = {
        "features": {
            "dataset": str(folder / "features.parquet"),
            "features_column": "features",
            "model": head,
            "training": TRAINING | {"num_train_epochs": 60, "per_device_train_batch_size": 32},
        },
        "images": {
            "dataset": str(folder / "images"),
            "model": {"num_bits": 16, "backbone_config": RESNET},
            "image_processor": {"size": {"height": 28, "width": 28}},
            "training": TRAINING | EVERY_3_STEPS | {"num_train_epochs": 20, "per_device_train_batch_size": 32},
        },
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return [folder / f"{name}.yaml" for name in recipes]


def run_command(recipe: Path, out: Path) -> None:
    """Run the command in a child process, with a cache of its own and its output in a log."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    datasets.config.HF_DATASETS_CACHE = out.with_suffix(".cache")
    sys.argv = ["crh", "train", str(recipe), "--out", str(out), "--resume"]
    cli.main()


def start(recipe: Path, out: Path, kill_after: float | None = None) -> float:
    """Run the command to its end, or kill it; gives the seconds that it took."""
    started = time.monotonic()
    child = _fork.Process(target=run_command, args=(recipe, out))
    child.start()
    child.join(kill_after)
    if child.is_alive():
        child.kill()
        child.join()
    elif child.exitcode != 0:
        sys.exit(f"{out.name} ended with {child.exitcode}:\n{out.with_suffix('.log').read_text()[-3000:]}")
    return time.monotonic() - started


def find_end(out: Path) -> tuple[str, Any, Any]:
    """Hash of the weights, the figures, and what was logged without times."""
    history = json.loads((out / "history.json").read_text())
    logged = [
        {name: value for name, value in entry.items() if not name.endswith(("runtime", "per_second"))}
        for entry in history
        if "train_loss" not in entry  # of the last process's own steps
    ]
    weights = hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()
    return weights, json.loads((out / "figures.json").read_text()), logged


def count_half_written(out: Path) -> int:
    """How many of the checkpoints that a kill left do not load, or cannot be resumed from."""
    half = 0
    for folder in out.glob("checkpoints/checkpoint-*"):
        try:
            load_model(folder)
        except ValueError as error:
            print(error)
            half += 1
    half += (out / "checkpoints").is_dir() and any(out.glob("checkpoints/checkpoint-*")) and not _can_go_on(out)
    if (out / "model").exists():
        load_checkpoint(out)
    return int(half)


def _can_go_on(out: Path) -> bool:
    last = max(out.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    return find_last_checkpoint(out / "checkpoints") == str(last)


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generator = np.random.default_rng(args.seed)
    counts = {"kills": 0, "while_saving": 0, "equal": 0, "half_written": 0}
    with TemporaryDirectory() as name:
        folder = Path(name)
        recipes = write_recipes(folder)
        lengths = [start(recipe, folder / f"whole-{recipe.stem}") for recipe in recipes]
        ends = [find_end(folder / f"whole-{recipe.stem}") for recipe in recipes]
        for number in range(args.kills):
            turn = number % len(recipes)
            recipe, length, end = recipes[turn], lengths[turn], ends[turn]
            out = folder / f"run-{number}"
            moment = generator.uniform(0, length)
            start(recipe, out, kill_after=moment)
            saving = (out / "checkpoints" / ".partial").exists()
            left = sorted(path.name for path in out.glob("checkpoints/checkpoint-*"))
            half_written = count_half_written(out)
            start(recipe, out)
            equal = find_end(out) == end
            print(f"{recipe.stem}, killed after {moment:.2f} of {length:.2f} s, left {left}: equal {equal}", flush=True)
            for key, value in (
                ("kills", 1),
                ("while_saving", saving),
                ("equal", equal),
                ("half_written", half_written),
            ):
                counts[key] += value
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
