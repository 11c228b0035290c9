"""Does it help classes that were never seen, if codes also keep the similarity of the features?

Method: half of the classes of a data set of `method_data.py` are kept out of training. A head is trained by the loss of
Eq. 1 to centers that do not move, plus `weight` times the mean squared difference between the cosines of the hash
logits and those of the centered features, over all pairs of a batch. Head, epochs, schedule and batch are those of
`bench_methods.py`, with a learning rate of 0.03. Figures are tie-aware mAP by Hamming distance: of unseen classes among
themselves, of unseen classes in the whole database, and of seen classes in the whole database; means over the seeds,
which draw the classes too. ITQ, which reads no label, is the last row.

    python benchmarks/bench_unseen_term.py --data runs/methods-data --dataset sections --num-bits 32
"""

import json
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F
import typer
from method_rows import DATA
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from modeling_crh.cli import run as run_command
from modeling_crh.codes import binarize
from modeling_crh.data import label_tensor, load_splits
from modeling_crh.encoding import EncodedItems
from modeling_crh.losses import classification_loss, default_scale
from modeling_crh.training.evaluation import unseen_figures
from modeling_crh.training.objectives.hash_centers import bernoulli_centers

WEIGHTS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
FIGURES = ("map_unseen_alone", "map_unseen", "map_seen")
RATE = 0.03


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    dataset: Annotated[str, typer.Option(help="sections or emoji.")] = "sections",
    num_bits: Annotated[int, typer.Option(help="Length of the codes.")] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 2,
) -> None:
    """Train with every weight, and print the three figures."""
    names = [*(f"weight {weight:g}" for weight in WEIGHTS), "itq"]
    rows: dict[str, list[list[float]]] = {name: [] for name in names}
    for seed in range(seeds):
        splits = load_splits(str(data / dataset), features_column="features", unseen_fraction=0.5, seed=seed).splits
        parts = ("train", "query", "database")
        arrays = (np.asarray(splits[part].with_format("numpy")["features"][:], np.float32) for part in parts)
        features = dict(zip(parts, map(torch.from_numpy, arrays), strict=True))
        labels = {part: label_tensor(splits[part]) for part in parts}
        for weight in WEIGHTS:
            head = train(features["train"], labels["train"], DATA[dataset].recipe, num_bits, weight, seed)
            with torch.inference_mode():
                logits = {part: head(features[part]) for part in parts}
            rows[f"weight {weight:g}"].append(figures(logits, labels))
        transform = faiss.ITQTransform(features["train"].shape[1], num_bits, True)
        transform.train(features["train"].numpy())
        rows["itq"].append(figures({p: torch.from_numpy(transform.apply(features[p].numpy())) for p in parts}, labels))
    found = {name: np.mean(values, axis=0).round(4).tolist() for name, values in rows.items()}
    for name, values in found.items():
        print(name, dict(zip(FIGURES, values, strict=True)))
    print(json.dumps({"dataset": dataset, "num_bits": num_bits, "seeds": seeds, "figures": FIGURES} | found))


def train(
    features: Tensor, labels: Tensor, recipe: dict[str, Any], num_bits: int, weight: float, seed: int
) -> nn.Sequential:
    """Train a head, and return it in evaluation mode."""
    model, training = recipe["model"], recipe["training"]
    num_labels, width = int(labels.max()) + 1, model["hash_head_hidden_size"]
    torch.manual_seed(seed)
    centers, scale = bernoulli_centers(num_labels, num_bits, seed), max(default_scale(num_labels), num_bits**0.5)
    hidden = (nn.Linear(features.shape[1], width), nn.ReLU(), nn.Dropout(model["hash_head_dropout"]))
    head = nn.Sequential(*hidden, nn.Linear(width, num_bits, bias=False), nn.BatchNorm1d(num_bits))
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=training["weight_decay"])
    batch_size, epochs = training["per_device_train_batch_size"], training["num_train_epochs"]
    steps = len(features) // batch_size * epochs
    schedule = get_cosine_schedule_with_warmup(optimizer, round(training["warmup_steps"] * steps), steps)
    directions = F.normalize(features - features.mean(0))
    for _ in range(epochs):
        for batch in torch.randperm(len(features)).split(batch_size)[: steps // epochs]:
            logits = head(features[batch])
            loss = classification_loss(logits, labels[batch], centers, scale, 0.2)
            if weight:
                cosines = F.normalize(logits) @ F.normalize(logits).T  # (N, N)
                loss = loss + weight * (cosines - directions[batch] @ directions[batch].T).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def figures(logits: dict[str, Tensor], labels: dict[str, Tensor]) -> list[float]:
    """Compute `FIGURES`; a class of the database that no training row has is unseen."""
    num_seen, num_labels = int(labels["train"].max()) + 1, int(labels["database"].max()) + 1
    names = [str(number) for number in range(num_labels)]
    encoded = {part: EncodedItems(binarize(logits[part]), labels[part], names) for part in ("query", "database")}
    found = unseen_figures(encoded, range(num_seen, num_labels))
    return [found[name] for name in FIGURES]


if __name__ == "__main__":
    run_command(bench)
