"""Commands that are killed and given again; each kind prepares its files once, and then tries cases."""

import hashlib
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import httpx
import numpy as np
import pyarrow.parquet as pq
import yaml
from datasets import Dataset
from huggingface_hub import constants
from tqdm import tqdm
from transformers import ViTConfig, ViTImageProcessor

from modeling_crh import CRHConfig, CRHModel, cli
from modeling_crh.data import load_benchmark
from modeling_crh.encoding.loading import load_checkpoint, load_model
from modeling_crh.training.checkpointing import find_last_checkpoint

Case = Callable[[np.random.Generator, int], str | None]
"""Tries the case of a number; says what went wrong, if anything."""

_fork = multiprocessing.get_context("fork")
LONGEST = 120
"""Seconds that a command may take."""


def start_command(arguments: list[Any], log: Path) -> Any:
    """Start a command of `crh` in a child process, with a cache of its own and its output in a log."""

    def run() -> None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(2, 1)
        tqdm.set_lock(threading.RLock())  # the usual one is shared by all children, and one that is killed may hold it
        datasets.config.HF_DATASETS_CACHE = log.with_suffix(".cache")
        sys.argv = ["crh", *map(str, arguments)]
        cli.main()

    child = _fork.Process(target=run)
    child.start()
    return child


def run_command(arguments: list[Any], log: Path, kill_after: float | None = None) -> float:
    """Run a command to its end, or kill it; returns the seconds that it took."""
    started = time.monotonic()
    child = start_command(arguments, log)
    child.join(LONGEST if kill_after is None else kill_after)
    if child.is_alive():
        child.kill()
        child.join()
        if kill_after is None:
            raise AssertionError(f"{arguments} has not ended after {LONGEST} seconds:\n{log.read_text()[-3000:]}")
    elif child.exitcode != 0:
        raise AssertionError(f"{arguments} ended with {child.exitcode}:\n{log.read_text()[-3000:]}")
    return time.monotonic() - started


def killed(
    folder: Path,
    command: Callable[[Path], list[Any]],
    end: Callable[[Path], Any],
    check: Callable[[Path], str | None] = lambda out: None,
) -> Case:
    """Make a case that kills a command, and gives it again.

    Args:
        folder: Folder to work in.
        command: Arguments of the command that writes to a path.
        end: What the command has written, to compare.
        check: What is wrong with what a kill has left, if anything.
    """
    whole = folder / "whole"
    length = run_command(command(whole), folder / "whole.log")
    expected = end(whole)

    def case(generator: np.random.Generator, number: int) -> str | None:
        out, log = folder / f"out-{number}", folder / f"out-{number}.log"
        moment = generator.uniform(0, length)
        run_command(command(out), log, kill_after=moment)
        fault = check(out)
        run_command(command(out), log)
        rest = [path.name for path in folder.rglob("*.partial") if path.name != ".partial" or any(path.iterdir())]
        if rest:
            fault = f"the second run leaves {rest}"
        elif end(out) != expected:
            fault = "the end is another"
        return None if fault is None else f"killed after {moment:.2f} of {length:.2f} s, {fault}"

    return case


def save_images(folder: Path, rows: int) -> Path:
    """Write images of the bundled sample into folders by their labels."""
    images = load_benchmark("fashion_mnist_sample")["train"]
    for row in range(rows):
        path = folder / str(images[row]["label"]) / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images[row]["image"].save(path)
    return folder


def save_model(folder: Path) -> Path:
    """Save a tiny ViT with its image processor."""
    backbone = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    CRHModel(CRHConfig(backbone_config=backbone, num_bits=16, id2label=dict(enumerate("0123456789")))).save_pretrained(
        folder
    )
    ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(folder)
    return folder


def table_of(file: Path) -> list[dict[str, Any]]:
    """Rows of a parquet file."""
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def codes_of(folder: Path) -> dict[str, bytes]:
    """Codes of a folder by path."""
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in table_of(file)]
    codes = {row["path"]: row["code"] for row in rows}
    if len(codes) != len(rows):
        raise AssertionError("an item is doubled")
    return codes


@contextmanager
def kill_train(folder: Path) -> Iterator[Case]:
    """Training on features, with a checkpoint an epoch, and on images, with one every 3 steps."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 300)
    features = generator.normal(size=(8, 16))[labels] + generator.normal(size=(300, 16))
    Dataset.from_dict({"features": features.tolist(), "label": labels.tolist()}).to_parquet(folder / "features.parquet")
    training = {"learning_rate": 1.0e-2, "use_cpu": True, "report_to": "none", "load_best_model_at_end": True}
    every_3_steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    resnet = {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
    recipes: dict[str, dict[str, Any]] = {
        "features": {
            "dataset": str(folder / "features.parquet"),
            "features_column": "features",
            "model": {"num_bits": 16, "hash_head": "mlp", "hash_head_hidden_size": 64, "hash_head_dropout": 0.3},
            "training": training | {"num_train_epochs": 60, "per_device_train_batch_size": 32},
        },
        "images": {
            "dataset": str(save_images(folder / "images", 200)),
            "model": {"num_bits": 16, "backbone_config": resnet},
            "image_processor": {"size": {"height": 28, "width": 28}},
            "training": training | every_3_steps | {"num_train_epochs": 20, "per_device_train_batch_size": 32},
        },
    }
    cases = []
    for name, recipe in recipes.items():
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(recipe))
        (folder / f"of-{name}").mkdir()
        command = lambda out, file=file: ["train", file, "--out", out, "--resume"]  # noqa: E731 - of this recipe
        cases.append(killed(folder / f"of-{name}", command, _end_of_training, _damaged_checkpoint))
    yield lambda generator, number: cases[number % 2](generator, number)


def _end_of_training(out: Path) -> Any:
    """Hash of the weights, with codebook and assignment; the figures; and all logged evaluations, without times.

    Losses are left out: where a checkpoint falls on the end of an epoch, two of them may be logged as one, see
    docs/reproducibility.md.
    """
    history = json.loads((out / "history.json").read_text())
    logged = [
        {name: value for name, value in entry.items() if not name.endswith(("runtime", "per_second"))}
        for entry in history
        if "eval_map" in entry
    ]
    weights = hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()
    return weights, json.loads((out / "figures.json").read_text()), logged


def _damaged_checkpoint(out: Path) -> str | None:
    """Whether a checkpoint that the kill has left does not load, or training would not go on from the last one."""
    found = sorted(out.glob("checkpoints/checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for checkpoint in found:
        try:
            load_model(checkpoint)
        except ValueError as error:
            return str(error)
    if found and find_last_checkpoint(out / "checkpoints") != str(found[-1]):
        return f"{found[-1]} is passed over"
    if (out / "model").exists():
        load_checkpoint(out)
    return None


@contextmanager
def kill_encode(folder: Path) -> Iterator[Case]:
    """Encoding a folder of images into shards of 20."""
    model, images = save_model(folder / "model"), save_images(folder / "images", 100)
    (folder / "codes").mkdir()
    options = ["--shard-size", 20, "--batch-size", 10]
    yield killed(folder / "codes", lambda out: ["encode", model, images, "--out", out, *options], codes_of)


@contextmanager
def kill_features(folder: Path) -> Iterator[Case]:
    """Storing features of a folder of images."""
    model, images = save_model(folder / "model"), save_images(folder / "images", 100)
    (folder / "features").mkdir()

    def command(out: Path) -> list[Any]:
        is_done = (out / "features.parquet").exists()
        return ["--version"] if is_done else ["features", model, images, "--out", out]

    yield killed(folder / "features", command, lambda out: table_of(out / "features.parquet"))


@contextmanager
def kill_export(folder: Path) -> Iterator[Case]:
    """Export to ONNX; the file is whole or it is not there."""
    model = save_model(folder / "model")
    (folder / "graphs").mkdir()

    def command(out: Path) -> list[Any]:
        file = out.with_suffix(".onnx")
        return ["--version"] if file.exists() else ["export", model, "--out", file]

    def end(out: Path) -> Any:
        return out.with_suffix(".onnx").read_bytes()

    yield killed(folder / "graphs", command, end)


@contextmanager
def kill_push(folder: Path) -> Iterator[Case]:
    """Upload of a model to a Hub on this machine, in one commit: all files are there, or none is."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from hub.loopback_hub import LoopbackHub  # type: ignore[import-not-found] # of the tests

    hub, model = LoopbackHub(), save_model(folder / "model")
    (folder / "pushes").mkdir()
    os.environ["HF_TOKEN"], constants.HF_HUB_DISABLE_XET = "hf_ada", True
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE = hub.endpoint, template

    def files(out: Path) -> set[str]:
        found = httpx.get(f"{hub.endpoint}/api/models/ada/{out.name}/tree/main", params={"recursive": True})
        return {entry["path"] for entry in found.json()} - {".gitattributes"} if found.is_success else set()

    with hub:
        yield killed(
            folder / "pushes",
            lambda out: ["push", model, f"ada/{out.name}"],
            files,
            lambda out: f"the Hub has only {files(out)}" if 0 < len(files(out)) < 10 else None,
        )
