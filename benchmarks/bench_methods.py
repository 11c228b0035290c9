"""Which method wins at equal budget: CRH, its own settings and its rivals, on several data sets.

Every method trains the same head on the same features or pixels with the same schedule. Learning rate and one setting
of each method come from a small grid by mAP of the validation split against the training split with seed 0 at 32 bits;
it begins with one size for all, and is widened where the best learning rate is its first or its last. The figures are
then mAP of the queries against the database, of the last epoch. Some rows need `pip install pytorch-metric-learning`.

    python benchmarks/method_data.py runs/methods-data            # once
    python benchmarks/bench_methods.py --data runs/methods-data   # all cells that are missing
    python benchmarks/bench_methods.py --data runs/methods-data --dataset emoji --row csq --num-bits 32 --seed 1

Cells are added to `--results` one by one, and those that are there are not run again. The last line of output is one
JSON document; a table and charts beside `--results` are written from all cells that there are.
"""

import itertools
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer
from method_baselines import baseline_figures
from method_charts import draw_charts
from method_rows import DATA, RATES, ROWS, grid, make_recipe
from method_table import render

from modeling_crh.cli import run as run_command

GRID_BITS = 32
NUM_BITS = (16, 32, 48, 64)
CENTER_METHODS = ("csq", "orthohash", "mds", "shc")
RESULTS = Path("docs/results.jsonl")
Cell = dict[str, Any]
_KEY = ("kind", "dataset", "row", "num_bits", "seed", "choice")


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    dataset: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(DATA)}; by default all.")] = None,
    row: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(ROWS)}; by default all.")] = None,
    num_bits: Annotated[list[int] | None, typer.Option(help="By default 16, 32, 48 and 64.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="By default 0, 1 and 2.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = 2,
    attempt: Annotated[
        str | None, typer.Option("--try", help="Fields of a recipe as JSON: print the figures, and keep nothing.")
    ] = None,
    tried_on: Annotated[
        Literal["validation", "queries"], typer.Option("--on", help="Items that `--try` is judged by.")
    ] = "validation",
    results: Annotated[Path, typer.Option(help="Cells, one JSON document a line; the table lies beside it.")] = RESULTS,
) -> None:
    """Run the cells that are missing, and write the table."""
    for name, value, known in (("dataset", dataset, DATA), ("row", row, ROWS)):
        for one in value or ():
            if one not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, but got {one!r}.")
    started = time.monotonic()
    chosen = [name for name in ROWS if not row or name in row]
    if attempt is not None:
        cell_of = {"kind": "grid" if tried_on == "validation" else "table", "choice": json.loads(attempt)}
        for place in itertools.product(dataset or DATA, chosen, num_bits or NUM_BITS, seed or (0, 1)):
            cell = dict(zip(("dataset", "row", "num_bits", "seed"), place, strict=True))
            print(json.dumps(cell | run_cell(cell | cell_of, str(data))), flush=True)
        return
    done = read_cells(results)
    for name in dataset or DATA:
        cells = _grid_cells(DATA[name].grid_of or name, chosen)
        while cells:
            _run_all(cells, data, jobs, results, done)
            cells = _wider_cells(DATA[name].grid_of or name, chosen, done)
        for number in seed or (0, 1, 2):
            _run_all(_table_cells(name, chosen, num_bits or NUM_BITS, number, done), data, jobs, results, done)
    results.with_suffix(".md").write_text(render(list(done.values()), results.name))
    draw_charts(list(done.values()), results)
    summary = {
        "cells": len(done),
        "seconds": round(time.monotonic() - started),
        "table": str(results.with_suffix(".md")),
    }
    print(json.dumps(summary))


def read_cells(results: Path) -> dict[str, Cell]:
    """The cells of a file by their keys; none if there is no file."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {_key(cell): cell for cell in map(json.loads, lines)}


def _grid_cells(dataset: str, rows: Iterable[str]) -> list[Cell]:
    """Cells of the grid: ablations take the choice of CRH, and untrained methods have nothing to choose."""
    trained = {"crh" if ROWS[name].is_ablation else name for name in rows}
    return [
        {"kind": "grid", "dataset": dataset, "row": name, "num_bits": GRID_BITS, "seed": 0, "choice": choice}
        for name in ROWS
        if name in trained and _is_defined(dataset, name)
        for choice in grid(ROWS[name], DATA[dataset], DATA[dataset].learning_rates)
    ]


def _wider_cells(dataset: str, rows: Iterable[str], done: dict[str, Cell]) -> list[Cell]:
    """Cells of one more learning rate for each row whose best one is the first or the last that was tried."""
    cells: list[Cell] = []
    for name in dict.fromkeys("crh" if ROWS[name].is_ablation else name for name in rows):
        tried = _tried(dataset, name, done)
        if not tried:
            continue
        rates = sorted({cell["choice"]["training"]["learning_rate"] for cell in tried})
        best = best_choice(dataset, name, done)["training"]["learning_rate"]
        places = [RATES.index(best) + step for step, edge in ((-1, rates[0]), (1, rates[-1])) if best == edge]
        cell = {"kind": "grid", "dataset": dataset, "row": name, "num_bits": GRID_BITS, "seed": 0}
        cells += [
            cell | {"choice": choice}
            for place in places
            if 0 <= place < len(RATES)
            for choice in grid(ROWS[name], DATA[dataset], [RATES[place]])
        ]
    return cells


def _table_cells(
    dataset: str, rows: Iterable[str], num_bits: Iterable[int], seed: int, done: dict[str, Cell]
) -> list[Cell]:
    cells = []
    for bits in num_bits:
        for name in rows:
            once = bits == GRID_BITS or not (ROWS[name].is_ablation or ROWS[name].num_bytes)
            if once and (dataset == "emoji" or not ROWS[name].is_ablation) and _is_defined(dataset, name):
                choice = best_choice(DATA[dataset].grid_of or dataset, "crh" if ROWS[name].is_ablation else name, done)
                cell = {"kind": "table", "dataset": dataset, "row": name, "num_bits": bits, "seed": seed}
                cells.append(cell | {"choice": choice})
    return cells


def best_choice(dataset: str, row: str, done: dict[str, Cell]) -> dict[str, Any]:
    """The choice of the grid that is best on the validation split."""
    tried = _tried(dataset, row, done)
    choice: dict[str, Any] = max(tried, key=lambda cell: cell["map"])["choice"] if tried else {}
    return choice


def _tried(dataset: str, row: str, done: dict[str, Cell]) -> list[Cell]:
    return [cell for cell in done.values() if (cell["kind"], cell["dataset"], cell["row"]) == ("grid", dataset, row)]


def _is_defined(dataset: str, row: str) -> bool:
    """Whether a method says what to do with these data: single-label losses have none for several labels.

    A scale of the code length is the paper's where there are as many classes as emoji.
    """
    if (dataset, row) == ("emoji", "crh_scale"):
        return False
    one_label = ("shc", "shc_more", "greedyhash", "class_id", "cosface", "arcface", "proxyanchor", "supcon")
    if dataset == "tags" and row in one_label:
        return False
    if row == "raw_cut" and dataset not in ("sections", "tags"):  # what is trained for cosines of texts
        return False
    features = row in ("itq", "lsh") or ROWS[row].baseline != ""
    return "features_column" in DATA[dataset].recipe or not features  # of pictures there are none before the training


def _run_all(cells: list[Cell], data: Path, jobs: int, results: Path, done: dict[str, Cell]) -> None:
    missing = [cell for cell in cells if _key(cell) not in done]
    if not missing:
        return
    facts = {"commit": _commit(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a run"}
    results.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, results.open("a") as file:
        futures = {pool.submit(run_cell, cell, str(data)): cell for cell in missing}
        for number, future in enumerate(as_completed(futures), start=1):
            cell = futures[future] | future.result() | facts
            done[_key(cell)] = cell
            file.write(json.dumps(cell) + "\n")
            file.flush()
            words = [cell[name] for name in ("kind", "dataset", "row", "num_bits", "seed", "choice")]
            print(f"\n{number}/{len(missing)}", *words, f"{cell['map']:.4f} {cell['seconds']:.0f} s", file=sys.stderr)


def run_cell(cell: Cell, data: str) -> dict[str, Any]:
    """Train one cell in a folder that is thrown away, and give its figures."""
    from modeling_crh.codebook import center_distances
    from modeling_crh.training.recipe import Recipe
    from modeling_crh.training.run import train

    chosen = DATA[cell["dataset"]]
    fields = make_recipe(chosen, ROWS[cell["row"]], cell["num_bits"], cell["seed"], cell["choice"])
    for name in ("dataset",) if "features_column" in fields else ("data_dir", "backbone"):
        if name in fields:
            fields[name] = str(Path(data, fields[name]))
    if ROWS[cell["row"]].baseline:
        splits = ("validation", "train") if cell["kind"] == "grid" else ("query", "database")
        started = time.monotonic()
        found = baseline_figures(ROWS[cell["row"]].baseline, fields, *splits)
        return found | {"seconds": time.monotonic() - started}
    recipe = Recipe.from_dict(fields)
    with TemporaryDirectory() as folder:
        started = time.monotonic()
        trained = train(recipe, Path(folder, "run"))
        seconds = time.monotonic() - started
    if cell["kind"] == "grid":
        return validation_figures(trained.model, trained.processor, trained.splits) | {"seconds": seconds}
    from modeling_crh.training.evaluation import evaluate_splits

    figures: dict[str, Any] = dict(evaluate_splits(trained.model, trained.processor, trained.splits))
    if recipe.method in ("crh", *CENTER_METHODS):
        figures["pcc"] = _pcc(trained)
        figures["center_distance_least"] = center_distances(trained.model.centers).least
    return figures | {"seconds": seconds}


def validation_figures(model: Any, processor: Any, splits: Any) -> dict[str, float]:
    """Compute mAP of the validation split against the training split, and that of each prefix of the codes."""
    from datasets import DatasetDict

    from modeling_crh.training.evaluation import encode_splits, figures_of

    splits = DatasetDict({"query": splits["validation"], "database": splits["train"]})
    encoded = encode_splits(model, processor, splits)
    figures = figures_of(encoded, prefix_bits=model.config.lengths[:-1])
    return {name: value for name, value in figures.items() if re.fullmatch(r"map(_\d+_bits)?", name)}


def _pcc(trained: Any) -> float | None:
    """Of the centers with the cosine between the mean features of the classes, over the training split.

    None where there are no features, or all pairs of centers are equally similar, as Hadamard's are.
    """
    import torch

    from modeling_crh.encoding import labelled_dataset
    from modeling_crh.losses import label_weights
    from modeling_crh.metrics import center_correlation, center_similarity

    split = trained.splits["train"]
    centers = trained.model.centers.cpu()
    similarity = center_similarity(centers).fill_diagonal_(0)
    if "features" not in split.column_names or not similarity.any():
        return None
    items = labelled_dataset(split, None)
    weights = label_weights(items.labels, items.num_labels)  # (N, C)
    features = items.inputs(range(len(items)))["features"]
    means = torch.nn.functional.normalize(weights.T @ torch.nn.functional.normalize(features))
    return center_correlation(centers, (means @ means.T).double(), num_permutations=1).pcc


def _key(cell: Cell) -> str:
    return json.dumps([cell[name] for name in _KEY], sort_keys=True)


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    run_command(bench)
