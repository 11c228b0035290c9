"""How do rare classes fare, and what does it help them to draw every class as often as any other (`--balanced`)?

Method: the training rows of a data set of `method_data.py` are cut so that the sizes of its classes fall with their
rank by a power, the ranks being drawn once: sections from 600 texts down to 17 (power 1), emoji from 8 drawings down to
1 (power 0.2). A head is trained on them by the recipe of `bench_methods.py`: CRH in its form `best` and the paper's,
with and without `balanced`, and with centers that never move. The queries are those of the whole data set and the
database is the cut one; queries of classes that the cut leaves alone count too. Figures are tie-aware mAP at 32 bits
over all queries and over those of the third of the classes with the most rows (head), the next (middle) and the fewest
(tail): the mean over the seeds, with the standard deviation of `all`.

    python benchmarks/bench_long_tail.py --data runs/methods-data --dataset sections
"""

import json
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from datasets import Dataset
from method_rows import DATA, ROWS, make_recipe
from numpy.typing import NDArray

from modeling_crh.cli import run as run_command

NUM_BITS = 32
CUTS = {"sections": (600, 1.0, 17), "emoji": (8, 0.2, 1)}  # rows of the first rank, power, least rows
RATE = {"training": {"learning_rate": 0.03}}
FORMS = {f"{row}{', balanced' if balanced else ''}": (row, balanced) for row in ("best", "crh") for balanced in (0, 1)}
FORMS["fixed"] = ("fixed", 0)


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    dataset: Annotated[str, typer.Option(help="sections or emoji.")] = "sections",
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 3,
) -> None:
    """Train every form on the cut data, and print the figures of head, middle and tail."""
    if dataset not in CUTS:
        raise ValueError(f"`dataset` must be sections or emoji, but got {dataset!r}.")
    with TemporaryDirectory() as name:
        folder = Path(name, dataset)
        sizes = cut(data / dataset, folder, *CUTS[dataset])
        found = {form: [train(dataset, folder, *FORMS[form], seed, sizes) for seed in range(seeds)] for form in FORMS}
    table = {
        form: {part: round(mean(one[part] for one in runs), 4) for part in runs[0]}
        | {"deviation": round(stdev(one["all"] for one in runs), 4)}
        for form, runs in found.items()
    }
    for form, figures in table.items():
        print(form, figures)
    print(json.dumps({"dataset": dataset, "num_bits": NUM_BITS, "seeds": seeds, "rows": sum(sizes.values())} | table))


def cut(source: Path, folder: Path, most: int, power: float, least: int) -> dict[str, int]:
    """Write the cut training rows and the queries into a folder, and give the number of rows of each class by name."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    train, query = (Dataset.from_parquet(str(source / f"{name}.parquet")) for name in ("train", "test"))
    labels = np.array(train["label"], dtype=str)
    names = np.unique(labels)
    wanted = np.maximum(least, np.round(most * (1.0 + generator.permutation(len(names))) ** -power)).astype(int)
    kept = [
        generator.permutation(np.flatnonzero(labels == name))[:count] for name, count in zip(names, wanted, strict=True)
    ]
    train.select(np.sort(np.concatenate(kept))).to_parquet(str(folder / "train.parquet"))
    query.to_parquet(str(folder / "test.parquet"))
    return {str(name): len(rows) for name, rows in zip(names, kept, strict=True)}


def train(dataset: str, folder: Path, row: str, balanced: int, seed: int, sizes: dict[str, int]) -> dict[str, float]:
    """Train one form with one seed, and give its figures."""
    from modeling_crh.metrics import average_precision, count_by_distance
    from modeling_crh.training.evaluation import encode_splits
    from modeling_crh.training.recipe import Recipe
    from modeling_crh.training.run import train as train_recipe

    fields: dict[str, Any] = make_recipe(DATA[dataset], ROWS[row], NUM_BITS, seed, RATE)
    recipe = Recipe.from_dict(fields | {"dataset": str(folder), "balanced": bool(balanced)})
    with TemporaryDirectory() as name:
        run = train_recipe(recipe, Path(name, "run"))
    encoded = encode_splits(run.model, run.processor, run.splits)
    query, database = encoded["query"], encoded["database"]
    precision = average_precision(count_by_distance(query.codes, database.codes, query.labels, database.labels))
    order = sorted(query.label_names, key=lambda name: -sizes[str(name)])
    third: NDArray[np.int64] = np.array([3 * order.index(name) // len(order) for name in query.label_names])
    part = third[query.labels.numpy()]
    shares = {name: precision[part == number].mean().item() for number, name in enumerate(("head", "middle", "tail"))}
    return {"all": precision.mean().item()} | shares


if __name__ == "__main__":
    run_command(bench)
