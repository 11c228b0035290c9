"""What is the same when the same training runs again, and when it runs on another number of threads?

Method: `crh train --epochs 2` on the bundled sample of Fashion-MNIST, twice on one thread and once on two, each in a
process of its own. Compared with the first: the SHA-256 of the weights, the largest difference between weights or
running statistics, the share of the bits that differ in the codes of the queries, the centers' assignment, and mAP.
Then the first model alone encodes the queries again: on two threads, and in batches of 32 instead of 256.

    python benchmarks/bench_reproducibility.py [--epochs 2]
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset

from modeling_crh.data import load_benchmark
from modeling_crh.encoding import encode_items, labelled_dataset
from modeling_crh.encoding.loading import load_checkpoint, load_model

SCRIPT = Path(__file__).parents[1] / "training" / "train.py"


def train(out: Path, threads: int, epochs: int) -> float:
    """The command, on a number of threads; gives its mAP."""
    command = [sys.executable, str(SCRIPT), "--epochs", str(epochs), "--preset", "paper", "--out", str(out), "--json"]
    setting = {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["map"])


def encode(out: Path, split: Dataset, threads: int = 1, batch_size: int = 256) -> torch.Tensor:
    """Codes of a split, `(N, K)`."""
    torch.set_num_threads(threads)
    model, processor = load_checkpoint(out)
    return encode_items(model, labelled_dataset(split, processor), batch_size=batch_size).codes


def compare(first: Path, other: Path, split: Dataset) -> dict[str, Any]:
    """What differs between two runs."""
    models = [load_model(folder) for folder in (first, other)]
    states = [model.state_dict() for model in models]
    files = [folder / "model" / "model.safetensors" for folder in (first, other)]
    hashes = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    differences = [
        (states[0][name] - states[1][name]).abs().max().item()
        for name in states[0]
        if states[0][name].is_floating_point()
    ]
    return {
        "same_hash": hashes[0] == hashes[1],
        "largest_difference": max(differences),
        "same_assignment": torch.equal(models[0].assignment, models[1].assignment),
        "bits_that_differ": differing(encode(first, split), encode(other, split)),
    }


def differing(one: torch.Tensor, other: torch.Tensor) -> float:
    """Share of bits."""
    return (one != other).double().mean().item()


def main() -> None:
    """Train three times, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=2)
    epochs = parser.parse_args().epochs
    queries = load_benchmark("fashion_mnist_sample")["query"]
    with TemporaryDirectory() as name:
        first, again, two = (Path(name, run) for run in ("first", "again", "two"))
        maps = {run.name: train(run, threads, epochs) for run, threads in ((first, 1), (again, 1), (two, 2))}
        result = {
            "map": maps,
            "again": compare(first, again, queries),
            "two_threads": compare(first, two, queries),
            "encoded_on_two_threads": differing(encode(first, queries), encode(first, queries, threads=2)),
            "encoded_in_other_batches": differing(encode(first, queries), encode(first, queries, batch_size=32)),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
