"""`crh demo`: train on the bundled sample of Fashion-MNIST, evaluate, search, and write a report."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from modeling_crh.codebook import compose_centers
from modeling_crh.codes import hamming_distance
from modeling_crh.encoding import EncodedItems
from modeling_crh.images import read_image
from modeling_crh.metrics import count_by_distance, precision_recall_curve
from modeling_crh.modeling_crh import draw_first_centers
from modeling_crh.report import Neighbour, ReportContent, SearchResult, write_report
from modeling_crh.runtime.atomic_files import write_json
from modeling_crh.training.evaluation import class_figures_of, encode_splits, split_figures
from modeling_crh.training.recipe import DEMO_RECIPE, Recipe
from modeling_crh.training.run import FIGURES_NAME, TrainedRun, train

NUM_QUERIES = 10
NUM_NEIGHBOURS = 10


def draw_queries(query: EncodedItems, seed: int) -> list[int]:
    """Draw one query of each class, or of each of ten random classes if there are more; return their rows.

    Args:
        query: Queries with one class each.
        seed: Seed of the draw.
    """
    generator = np.random.default_rng(seed)
    classes = np.arange(len(query.label_names))
    if len(classes) > NUM_QUERIES:
        classes = np.sort(generator.choice(classes, NUM_QUERIES, replace=False))
    return [int(generator.choice((query.labels == label).nonzero().flatten().numpy())) for label in classes.tolist()]


def search_examples(
    images: Mapping[Any, Dataset], encoded: dict[str, EncodedItems], rows: list[int]
) -> list[SearchResult]:
    """Find the nearest items of some queries; items at equal distance keep the order of the database.

    Args:
        images: Splits `query` and `database`, with a column `image`.
        encoded: Codes and labels of the two splits, one class per item, in the same order.
        rows: Rows of the queries.
    """
    query, database = encoded["query"], encoded["database"]
    names = query.label_names
    results = []
    for row in rows:
        label = int(query.labels[row])
        distance, found = hamming_distance(query.codes[row : row + 1], database.codes)[0].sort(stable=True)
        neighbours = tuple(
            Neighbour(
                image=read_image(images["database"][item]["image"]),
                labels=(names[int(database.labels[item])],),
                distance=int(bits),
                relevant=bool(database.labels[item] == label),
            )
            for bits, item in zip(distance[:NUM_NEIGHBOURS].tolist(), found[:NUM_NEIGHBOURS].tolist(), strict=True)
        )
        results.append(SearchResult(read_image(images["query"][row]["image"]), (names[label],), neighbours))
    return results


def run_demo(out: str | Path, seed: int = 0, recipe: str | Path = DEMO_RECIPE) -> dict[str, Any]:
    """Train on the bundled sample of Fashion-MNIST, evaluate, search, and write a report.

    Args:
        out: Folder to write, new or empty.
        seed: Seed of all random numbers.
        recipe: Recipe of the training; its dataset has one class per image.

    Returns:
        `map`, `map_lower`, `map_upper`, `precision_at_10`, `seconds`, `num_bits`, `seed` and the path of the `report`.

    Raises:
        ValueError: If `out` holds another run.
    """
    started = time.monotonic()
    chosen = Recipe.load(recipe, seed=seed)
    run = train(chosen, out)
    encoded = encode_splits(run.model, run.processor, run.splits)
    figures = split_figures(run.model, encoded, run.splits)
    write_json(Path(out, FIGURES_NAME), figures)
    seconds = round(time.monotonic() - started, 1)
    content = _report_content(chosen, run, encoded, figures, seconds)
    report = write_report(content, Path(out))
    headline = {name: figures[name] for name in ("map", "map_lower", "map_upper", "precision_at_10")}
    seconds = round(time.monotonic() - started, 1)
    return headline | {"seconds": seconds, "num_bits": run.model.config.num_bits, "seed": seed, "report": str(report)}


def _report_content(
    recipe: Recipe, run: TrainedRun, encoded: dict[str, EncodedItems], figures: dict[str, float], seconds: float
) -> ReportContent:
    model, query, database = run.model, encoded["query"], encoded["database"]
    counts = count_by_distance(query.codes, database.codes, query.labels, database.labels)
    summary = {
        "dataset": recipe.dataset,
        "backbone": recipe.backbone or recipe.model["backbone_config"]["model_type"],
        "parameters": f"{model.num_parameters():,}",
        "bits": model.config.num_bits,
        "classes": model.config.num_labels or 0,
        "training images": len(run.splits["train"]),
        "seed": recipe.seed,
        "seconds": seconds,
    }
    return ReportContent(
        title=f"Center-reassigned hashing on {recipe.dataset}",
        summary=summary,
        figures=figures,
        history=run.history,
        curve=precision_recall_curve(counts),
        centers_before=compose_centers(*draw_first_centers(model.config)),
        centers_after=model.centers.cpu(),
        label_names=query.label_names,
        results=search_examples(run.splits, encoded, draw_queries(query, recipe.seed)),
        classes=class_figures_of(encoded),
    )
