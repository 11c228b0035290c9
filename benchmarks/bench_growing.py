"""What do new classes cost that a trained model learns later, against training with all of them from the start?

A tenth of the emoji's 1,611 classes is held out. A head is trained on the others; `add_labels` then gives the held-out
classes free words, which changes no code; then the head is trained on with all classes for a fifth of the epochs.
Beside it, a head is trained with all classes from scratch. Data, head, schedule and learning rate are those of
`bench_methods.py`.

    python benchmarks/method_data.py runs/methods-data   # once
    python benchmarks/bench_growing.py --data runs/methods-data [--num-bits 64] [--seed 0]

The last line of output is one JSON document: for each stage the tie-aware mAP of the queries of held-out and of known
classes against the whole database, and the share of them whose nearest center, of all 1,611, is that of their class.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from bench_methods import RESULTS, best_choice, read_cells
from datasets import ClassLabel, Dataset, DatasetDict, disable_progress_bars
from method_rows import DATA, ROWS, make_recipe

from modeling_crh import CRHModel
from modeling_crh.cli import run as run_command
from modeling_crh.codes import hamming_distance
from modeling_crh.data import label_names
from modeling_crh.encoding import encode_items, labelled_dataset
from modeling_crh.metrics import average_precision, count_by_distance
from modeling_crh.training.assignment import add_labels
from modeling_crh.training.build import build_model, build_trainer, load_data
from modeling_crh.training.recipe import Recipe

HELD_OUT_EVERY = 10
TUNING_SHARE = 0.2


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    num_bits: Annotated[int, typer.Option(help="Length of a code in bits.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the training, and of the classes held out.")] = 0,
) -> None:
    """Run the four stages and print their figures."""
    disable_progress_bars()
    choice = best_choice("emoji", "crh", read_cells(RESULTS))
    fields = make_recipe(DATA["emoji"], ROWS["crh"], num_bits, seed, choice)
    recipe = Recipe.from_dict(fields | {"dataset": str(data / "emoji")})
    splits = load_data(recipe).splits
    names = label_names(splits["train"])
    held_out = np.random.default_rng(seed).permutation(len(names))[::HELD_OUT_EVERY]
    new_names = [names[number] for number in held_out]
    old_names = [name for name in names if name not in set(new_names)]
    whole = of_classes(splits, old_names + new_names)
    stages: dict[str, dict[str, float]] = {}

    started = time.monotonic()
    model = fit(recipe, of_classes(splits, old_names))
    stages["before"] = figures(model, whole, len(old_names)) | {"seconds": time.monotonic() - started}
    started = time.monotonic()
    add_labels(model, labelled_dataset(of_classes(splits, new_names)["train"], None))
    seconds = time.monotonic() - started
    stages["added"] = figures(model, whole, len(old_names)) | {"seconds": seconds}
    started = time.monotonic()
    fit(tuning_recipe(recipe), whole, model)
    stages["tuned"] = figures(model, whole, len(old_names)) | {"seconds": time.monotonic() - started}
    started = time.monotonic()
    scratch = fit(recipe, whole)
    stages["scratch"] = figures(scratch, whole, len(old_names)) | {"seconds": time.monotonic() - started}
    for stage, found in stages.items():
        print(stage, {name: round(value, 3) for name, value in found.items()})
    print(json.dumps({"num_bits": num_bits, "seed": seed, "held_out": len(new_names), "stages": stages}))


def of_classes(splits: DatasetDict, names: list[str]) -> DatasetDict:
    """The rows of some classes, numbered in the order of `names`."""
    return DatasetDict({name: _of_classes(split, names) for name, split in splits.items()})


def _of_classes(split: Dataset, names: list[str]) -> Dataset:
    number = {name: index for index, name in enumerate(names)}
    new = [number.get(name) for name in label_names(split)]
    labels = [new[label] for label in split["label"]]
    rows = [row for row, label in enumerate(labels) if label is not None]
    kept = split.select(rows).select_columns(["features"])
    labelled: Dataset = kept.add_column("label", [labels[row] for row in rows], feature=ClassLabel(names=names))
    return labelled


def tuning_recipe(recipe: Recipe) -> Recipe:
    """A short training from where the model is."""
    training = dict(recipe.training)
    training["num_train_epochs"] = round(TUNING_SHARE * training["num_train_epochs"])
    return replace(recipe, training=training)


def fit(recipe: Recipe, splits: DatasetDict, model: CRHModel | None = None) -> CRHModel:
    """Train a new head, or train one on."""
    if model is None:
        model, _ = build_model(recipe, splits["train"])
    with TemporaryDirectory() as folder:
        build_trainer(recipe, Path(folder), model, None, splits).train()
    return model.train(False)


def figures(model: CRHModel, splits: DatasetDict, num_old: int) -> dict[str, float]:
    """Of the queries of held-out classes, whose numbers are `num_old` and up, and of the others."""
    query, database = (encode_items(model, labelled_dataset(splits[name], None)) for name in ("query", "database"))
    counts = count_by_distance(query.codes, database.codes, query.labels, database.labels)
    precision = average_precision(counts)
    nearest = hamming_distance(query.codes, model.centers.cpu()).argmin(1)
    hit = (nearest == query.labels).double()
    found: dict[str, float] = {}
    for name, chosen in (("held_out", query.labels >= num_old), ("known", query.labels < num_old)):
        found[f"{name}_map"] = torch.as_tensor(precision)[chosen].mean().item()
        found[f"{name}_nearest_center"] = hit[chosen].mean().item()
    return found


if __name__ == "__main__":
    run_command(bench)
