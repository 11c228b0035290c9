"""How do centers move while CRH trains? `python benchmarks/plot_reassignment.py --out FILE.png`.

Trains the head of `crh demo --dataset emoji` in the paper's form at 32 bits on the bundled sample, 200 emoji, in a
minute on two cores, and draws the similarity of the centers before the training and after some of its epochs: the
mean over the pairs of two of Unicode's 40 subgroups, in the order of its groups, which the training is not told.
Needs the extra `emoji`. The last line of output is one JSON document, with the validation mAP and the share of the
centers that moved after each epoch.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import matplotlib
import numpy as np
import typer
from torch import Tensor
from transformers import TrainerCallback

from modeling_crh.cli import run as run_command
from modeling_crh.data import read_benchmark
from modeling_crh.demo.efficientnet_lite0 import load_efficientnet_lite0
from modeling_crh.encoding.feature_tables import store_features
from modeling_crh.metrics import center_similarity
from modeling_crh.report.centers_plot import color_limit, mean_by_node, taxonomy_order
from modeling_crh.training import choose_recipe
from modeling_crh.training.build import build_model, build_trainer, load_data
from modeling_crh.training.references import class_taxonomy

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = (0, 1, 2, 5, 10, 40)


class KeepCenters(TrainerCallback):
    """Keep a copy of the centers before the training and after each epoch."""

    def __init__(self) -> None:
        self.centers: list[Tensor] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the first centers."""
        self.centers = [kwargs["model"].centers.cpu().clone()]

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the centers after the reassignment, which an earlier callback makes."""
        self.centers.append(kwargs["model"].centers.cpu().clone())


def plot(out: Annotated[Path, typer.Option(help="The picture.")]) -> None:
    """Train and draw."""
    kept = KeepCenters()
    with TemporaryDirectory() as name:
        folder = Path(name)
        database, query = read_benchmark("emoji_sample")
        store_features(*load_efficientnet_lite0(), {"train": database, "query": query}, folder / "features")
        recipe = choose_recipe(
            dataset=str(folder / "features"),
            features_column="features",
            preset="paper",
            model={"num_bits": 32},
            training={"num_train_epochs": max(SHOWN)},
        )
        splits = load_data(recipe).splits
        model, processor = build_model(recipe, splits["train"])
        trainer = build_trainer(recipe, folder / "run", model, processor, splits)
        trainer.add_callback(kept)
        trainer.train()
        order, branches = taxonomy_order(taxonomy := class_taxonomy(splits["database"]))
    logged = [entry for entry in trainer.state.log_history if "eval_map" in entry]
    paths = [tuple(taxonomy[row]) for row in order]
    tables = [
        mean_by_node(center_similarity(kept.centers[epoch]).numpy()[np.ix_(order, order)], paths) for epoch in SHOWN
    ]
    sizes = [len({path for path in paths if path[-1] == branch.name}) for branch in branches]
    limit, ends = color_limit(tables), np.cumsum(sizes)
    figure, panels = plt.subplots(2, 3, figsize=(10, 6.2), sharex=True, sharey=True, layout="constrained")
    for panel, epoch, table in zip(panels.flat, SHOWN, tables, strict=True):
        image = panel.imshow(table, cmap="coolwarm", vmin=-limit, vmax=limit)
        reached = f"epoch {epoch}, mAP {logged[epoch - 1]['eval_map']:.2f}" if epoch else "before the training"
        panel.set_title(reached, fontsize=10)
        for end in ends[:-1]:
            panel.axhline(end - 0.5, color="black", linewidth=0.4)
            panel.axvline(end - 0.5, color="black", linewidth=0.4)
        panel.set_xticks([])
        panel.set_yticks(ends - (np.array(sizes) + 1) / 2, [branch.name for branch in branches], fontsize=8)
        panel.tick_params(length=0)
    figure.colorbar(image, ax=panels, shrink=0.6, label="mean similarity of the centers of two subgroups")
    figure.savefig(out, dpi=100)
    moved = [round(entry["eval_centers_moved"], 3) for entry in logged]
    print(json.dumps({"map": [round(entry["eval_map"], 4) for entry in logged], "moved": moved, "plot": str(out)}))


if __name__ == "__main__":
    run_command(plot)
