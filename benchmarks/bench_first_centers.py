"""Does CRH end better if its first centers are like the classes, rather than drawn at random?

Method: the preset `best` without proxies on a data set of `method_data.py`, with head, epochs and schedule of
`bench_methods.py` and a learning rate of 0.03. The first centers are drawn at random, as always; or SHC's search
(`fit_semantic_centers`) places them by the cosines of the classes' mean features. Then training reassigns them, or with
`stay` does not. Figures are tie-aware mAP by Hamming distance of the validation split against the training split.

    python benchmarks/bench_first_centers.py --data runs/methods-data --dataset sections --num-bits 16
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from bench_methods import validation_figures
from method_rows import DATA, ROWS, make_recipe
from torch import Tensor

from modeling_crh.cli import run as run_command
from modeling_crh.encoding import LabelledDataset, labelled_dataset
from modeling_crh.losses import label_weights
from modeling_crh.training.assignment import ClassStatistics, reassign
from modeling_crh.training.build import build_model, build_trainer, load_data
from modeling_crh.training.objectives.hash_centers import fit_semantic_centers
from modeling_crh.training.recipe import Recipe

RATE = 0.03
STARTS: dict[str, dict[str, str]] = {"random": {}, "features": {}, "features, stay": {"reassignment": "none"}}


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    dataset: Annotated[str, typer.Option(help="sections, tags, stamps or emoji.")] = "sections",
    num_bits: Annotated[int, typer.Option(help="Length of the codes.")] = 16,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 4,
) -> None:
    """Train from each start, and print mAP by seed."""
    found = {}
    for start, training in STARTS.items():
        choice = {"training": {"learning_rate": RATE} | training}
        found[start] = [train(data, dataset, num_bits, seed, choice, start) for seed in range(seeds)]
        print(start, found[start], "mean", round(float(np.mean(found[start])), 4), flush=True)
    print(json.dumps({"dataset": dataset, "num_bits": num_bits, "map": found}))


def train(data: Path, dataset: str, num_bits: int, seed: int, choice: dict[str, Any], start: str) -> float:
    """Train one model, and give its mAP."""
    fields = make_recipe(DATA[dataset], ROWS["best_no_proxies"], num_bits, seed, choice)
    recipe = Recipe.from_dict(fields | {"dataset": str(data / dataset)})
    splits = load_data(recipe).splits
    model, processor = build_model(recipe, splits["train"])
    with TemporaryDirectory() as folder:
        trainer = build_trainer(recipe, Path(folder), model, processor, splits)
        if start != "random":
            centers = semantic_centers(labelled_dataset(splits["train"], processor), num_bits, seed)
            statistics = ClassStatistics(centers.double(), torch.ones(len(centers)).double())
            words = reassign(model.codebook, model.assignment, statistics, capacity=len(centers))  # room for all
            model.assignment.copy_(words)
        trainer.train()
    return round(validation_figures(model.train(False), processor, splits)["map"], 4)


def semantic_centers(items: LabelledDataset, num_bits: int, seed: int) -> Tensor:
    """Place centers by the cosines of the classes' mean features, scaled to lie from -1 to 1."""
    weights = label_weights(items.labels, items.num_labels)  # (N, C)
    means = F.normalize(weights.T @ F.normalize(items.inputs(range(len(items)))["features"]))
    cosines = (means @ means.T).double().fill_diagonal_(torch.nan)
    low, high = (getattr(np, name)(cosines.numpy()) for name in ("nanmin", "nanmax"))
    similarity = (2 * (cosines - low) / (high - low) - 1).fill_diagonal_(1)
    return fit_semantic_centers((similarity + similarity.T) / 2, num_bits, seed)


if __name__ == "__main__":
    run_command(bench)
