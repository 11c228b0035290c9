"""What do codes learn without any label, from clusters of the backbone's features?

Method: FAISS k-means (cosine) makes clusters of the training features, and CRH, preset best without proxies, trains a
head with the clusters as classes, by the schedule of `bench_methods.py`. With `--rounds` above 1 the hash logits of the
trained head are clustered in turn, and a new head is trained on those clusters. Beside it stand, on the same features
and at equal bits: ITQ, LSH, the signs of as many first components (PCA), and PQ of FAISS with one byte for each eight
bits, searched by asymmetric distance. Figures are tie-aware mAP of the queries by their true classes, which no method
has seen (for PQ, whose distances hardly tie, plain mAP), and `recall`: the share of the ten nearest by cosine of the
float features that are among the first ten, ties by position.

    python benchmarks/bench_no_labels.py --data runs/methods-data --dataset sections --clusters 300
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import faiss
import numpy as np
import torch
import typer
from datasets import Dataset
from method_rows import DATA, ROWS, make_recipe
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.cli import run as run_command

K, CHOICE = 10, {"training": {"learning_rate": 0.03}}


def bench(
    data: Annotated[Path, typer.Option(help="Folder that method_data.py has filled.")],
    dataset: Annotated[str, typer.Option(help="emoji or sections.")] = "sections",
    num_bits: Annotated[list[int] | None, typer.Option(help="By default 32 and 64.")] = None,
    clusters: Annotated[
        list[int] | None, typer.Option(help="Numbers of clusters; by default 100, 300 and 1000.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times to cluster and train.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of clusters and head.")] = 0,
) -> None:
    """Print the figures of every method, a line each."""
    from modeling_crh.data import load_splits
    from modeling_crh.encoding import labelled_dataset

    splits = load_splits(str(data / dataset), features_column="features").splits
    parts = {name: labelled_dataset(splits[name], None) for name in ("query", "database")}
    features = {name: part.inputs(range(len(part)))["features"] for name, part in parts.items()}
    labels = {name: part.labels for name, part in parts.items()}
    unit = {name: torch.nn.functional.normalize(part) for name, part in features.items()}
    nearest = (unit["query"] @ unit["database"].T).topk(K).indices
    found = []
    for bits in num_bits or (32, 64):
        for name, scores, ties in _methods(dataset, features, bits, clusters or [100, 300, 1000], rounds, seed):
            row = {"num_bits": bits, "method": name} | figures(scores, ties, nearest, labels)
            found.append(row)
            print(row, flush=True)
    print(json.dumps({"dataset": dataset, "rounds": rounds, "seed": seed, "rows": found}))


def _methods(
    dataset: str, features: dict[str, Tensor], num_bits: int, clusters: list[int], rounds: int, seed: int
) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield the name of each method, its distances `(Q, N)`, and whether they are Hamming distances."""
    for method in ("itq", "lsh"):
        logits = train(dataset, features, None, {"method": method}, num_bits, seed)
        yield method, hamming(logits), True
    center = features["database"].mean(0)
    axes = torch.linalg.svd(features["database"] - center, full_matrices=False).Vh[:num_bits].T
    yield "pca signs", hamming({name: (part - center) @ axes for name, part in features.items()}), True
    yield "pq", product_quantization(features, num_bits // 8), False
    for count in clusters:
        values = features["database"]
        for number in range(1, rounds + 1):
            classes = cluster(values, count, seed)
            logits = train(dataset, features, classes, {"preset": "best"}, num_bits, seed)
            values = logits["database"]
            yield f"crh, {count} clusters" + (f", round {number}" if rounds > 1 else ""), hamming(logits), True


def cluster(values: Tensor, count: int, seed: int) -> NDArray[np.int64]:
    """Assign each row to one of `count` clusters by cosine."""
    unit = np.ascontiguousarray(torch.nn.functional.normalize(values).numpy())
    means = faiss.Kmeans(unit.shape[1], count, niter=20, spherical=True, seed=seed, verbose=False)
    means.train(unit)
    return np.asarray(means.index.search(unit, 1)[1][:, 0], np.int64)


def train(
    dataset: str,
    features: dict[str, Tensor],
    classes: NDArray[np.int64] | None,
    fields: dict[str, Any],
    num_bits: int,
    seed: int,
) -> dict[str, Tensor]:
    """Train a head on the database's features with these classes, and give the hash logits of both splits."""
    from modeling_crh.training.recipe import Recipe
    from modeling_crh.training.run import train as train_recipe

    row = ROWS[fields["method"]] if "method" in fields else ROWS["best_no_proxies"]
    recipe = make_recipe(DATA[dataset], row, num_bits, seed, {} if "method" in fields else CHOICE)
    numbers = np.arange(len(features["database"])) % 2 if classes is None else classes
    with TemporaryDirectory() as name:
        table = Dataset.from_dict({"features": features["database"].numpy(), "label": [f"{one}" for one in numbers]})
        table.to_parquet(str(Path(name, "train.parquet")))
        where = {"dataset": str(Path(name, "train.parquet")), "query_fraction": 0.01, "validation_fraction": 0.01}
        model = train_recipe(Recipe.from_dict(recipe | where), Path(name, "run")).model
    with torch.inference_mode():
        return {name: model(features=part).hash_logits for name, part in features.items()}


def hamming(logits: dict[str, Tensor]) -> Tensor:
    """Compute Hamming distances of the signs, `(Q, N)`."""
    from modeling_crh.codes import binarize, hamming_distance

    return hamming_distance(binarize(logits["query"]), binarize(logits["database"]))


def product_quantization(features: dict[str, Tensor], num_bytes: int) -> Tensor:
    """Compute squared distances of the queries to the database, quantized to some bytes, `(Q, N)`."""
    database = np.ascontiguousarray(features["database"].numpy())
    index = faiss.IndexPQ(database.shape[1], num_bytes, 8)
    index.train(database)
    index.add(database)
    decoded = torch.from_numpy(index.reconstruct_n(0, len(database)))
    return torch.cdist(features["query"], decoded)


def figures(distance: Tensor, ties: bool, nearest: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
    """Compute mAP by the true classes, and recall of the nearest by float features."""
    precision = []
    order = distance.to(torch.float64).argsort(dim=1, stable=True)
    for query, label in enumerate(labels["query"].tolist()):
        relevant = labels["database"] == label
        if relevant.any():
            precision.append(_average_precision(distance[query], relevant, ties))
    recall = (order[:, :K, None] == nearest[:, None]).any(2).double().mean()
    return {"map": round(float(np.mean(precision)), 4), "recall": round(recall.item(), 4)}


def _average_precision(distance: Tensor, relevant: Tensor, ties: bool) -> float:
    """Average precision of one query, by the library's tie-aware figure where distances are whole numbers."""
    from modeling_crh.metrics import DistanceCounts, average_precision

    if ties:
        items = torch.bincount(distance.long(), minlength=129)
        found = torch.bincount(distance[relevant].long(), minlength=129)
        return average_precision(DistanceCounts(items[None], found[None])).item()
    hits = relevant[distance.argsort(stable=True)].double()
    return float((hits.cumsum(0) / torch.arange(1, len(hits) + 1) * hits).sum() / hits.sum())


if __name__ == "__main__":
    run_command(bench)
