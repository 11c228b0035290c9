"""Rows of `bench_methods.py` that are no hash function of this library: a classifier, its features, and quantizers.

The classifier has the hash head's hidden layer with C outputs instead of K bits, and the budget and schedule of the
other rows. Its rows are:

- `class_id`: an item is the class that the classifier predicts, a query its posterior (Sablayrolles et al., arXiv
  1609.06753); the Hamming figure compares predicted classes.
- `sign`, `itq`: the hidden layer, projected to K bits by PCA, and by ITQ; the asymmetric figure keeps the query's
  numbers.
- `pq`, `opq`: the hidden layer in K / 8 bytes by FAISS's product quantizers; the query keeps its numbers.
- `int8`, `float`: the hidden layer in a byte, and in four bytes, per dimension, by cosine.
- `matryoshka`: signs of a linear layer of 64 numbers under the hidden one, whose first 16, 32, 48 and 64 are each
  trained to be classified (Kusupati et al., arXiv 2205.13147); a code is the first K.

`raw_float`, `raw_int8` and `raw_sign` are the stored features themselves, and `raw_cut` the signs of their first K
dimensions, as sentence-transformers gives them for `truncate_dim=K` and `precision="ubinary"`. Every ranking is by an
inner product.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

PREFIXES = (16, 32, 48, 64)
QUERIES_AT_ONCE = 64

Pair = tuple[Tensor, Tensor]
"""Vectors of the queries `(Q, D)` and of the items `(N, D)`, whose inner products rank the items."""


def baseline_figures(name: str, fields: dict[str, Any], query: str, database: str) -> dict[str, float]:
    """Train what a row needs, and compute mAP, Hamming and asymmetric, also apart for classes that are kept out.

    Args:
        name: Row, see above.
        fields: Fields of the `Recipe` that a row of this library would have.
        query: Split that asks.
        database: Split that is searched.
    """
    model = dict(fields["model"])
    num_bits = model.pop("num_bits")
    settings = json.dumps(fields | {"model": model}, sort_keys=True)
    features, labels, unseen = _load(settings)
    asked, searched = features[query], features[database]
    if name.startswith("raw_"):
        pairs = _raw(name, asked, searched, num_bits)
    else:
        network = _train(settings, name == "matryoshka")
        train, asked, searched = (network.hidden(part) for part in (features["train"], asked, searched))
        pairs = _learned(name, network, train, asked, searched, num_bits, fields["seed"])
    figures = {}
    for figure, (one, other) in pairs.items():
        for suffix, rows, items in _groups(labels[query], labels[database], unseen):
            figures[figure + suffix] = mean_average_precision(
                one[rows], other[items], labels[query][rows], labels[database][items]
            )
    if "map" not in figures:  # a row without codes has one ranking
        figures |= {name.replace("map_asymmetric", "map"): value for name, value in figures.items()}
    return figures | {"queries": len(asked), "database": len(searched)}


@lru_cache(maxsize=1)
def _load(settings: str) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Read features and labels of all splits, and the classes of `database` that are kept out of training."""
    from modeling_crh.data import label_names, label_tensor
    from modeling_crh.training.build import load_data
    from modeling_crh.training.recipe import Recipe

    splits = load_data(Recipe.from_dict(json.loads(settings))).splits
    parts = ("train", "validation", "query", "database")
    arrays = (np.asarray(splits[part].with_format("numpy")["features"][:], np.float32) for part in parts)
    features = dict(zip(parts, map(torch.from_numpy, arrays), strict=True))
    known, names = set(label_names(splits["train"])), label_names(splits["database"])
    unseen = torch.tensor([number for number, one in enumerate(names) if one not in known], dtype=torch.int64)
    return features, {part: label_tensor(splits[part]) for part in parts}, unseen


@lru_cache(maxsize=2)  # rows of all lengths share a classifier
def _train(settings: str, nested: bool) -> "_Classifier":
    fields = json.loads(settings)
    model, training = fields["model"], fields["training"]
    features, labels = (part["train"] for part in _load(settings)[:2])
    torch.manual_seed(fields["seed"])
    stays = labels.sum(1) > 0 if labels.ndim == 2 else labels >= 0
    features, labels = features[stays], labels[stays]
    targets = labels / labels.sum(1, keepdim=True) if labels.ndim == 2 else labels
    num_labels = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    network = _Classifier(
        features.shape[1], model["hash_head_hidden_size"], num_labels, model["hash_head_dropout"], nested
    )
    rate, batch_size = training["learning_rate"], training["per_device_train_batch_size"]
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=training["weight_decay"])
    steps = -(-len(features) // batch_size) * training["num_train_epochs"]
    schedule = get_cosine_schedule_with_warmup(optimizer, round(training["warmup_steps"] * steps), steps)
    for _ in range(training["num_train_epochs"]):
        for batch in torch.randperm(len(features)).split(batch_size):
            optimizer.zero_grad()
            network.loss(features[batch], targets[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _groups(query: Tensor, database: Tensor, unseen: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield suffix of a figure, rows of the queries and rows of the database."""
    everything = torch.ones(len(database), dtype=torch.bool)
    yield "", torch.ones(len(query), dtype=torch.bool), everything
    if len(unseen):
        asked, items = torch.isin(query, unseen), torch.isin(database, unseen)
        yield from (
            ("_seen", ~asked & (query >= 0), everything),
            ("_unseen", asked, everything),
            ("_unseen_alone", asked, items),
        )


def mean_average_precision(query: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor) -> float:
    """Compute tie-aware mAP with the items ranked by inner product; equal products tie."""
    from modeling_crh.metrics.asymmetric import tied_average_precision

    values: list[float] = []
    for first in range(0, len(query), QUERIES_AT_ONCE):
        rows = slice(first, first + QUERIES_AT_ONCE)
        if query_labels.ndim == 2:
            relevant = (query_labels[rows] @ database_labels.T) > 0
        else:
            relevant = query_labels[rows, None] == database_labels
        for scores, hits in zip((query[rows] @ database.T).numpy(), relevant.numpy(), strict=True):
            ranks = np.unique(-scores, return_inverse=True)[1]
            values.append(tied_average_precision(2 * ranks + hits))
    return float(np.mean(values))


def _raw(name: str, query: Tensor, database: Tensor, num_bits: int) -> dict[str, Pair]:
    if name == "raw_cut":
        query, database = query[:, :num_bits], database[:, :num_bits]
    if name in ("raw_sign", "raw_cut"):
        return {"map": (_signs(query), _signs(database)), "map_asymmetric": (query, _signs(database))}
    query, database = nn.functional.normalize(query), nn.functional.normalize(database)
    return {"map_asymmetric": (query, _int8(database) if name == "raw_int8" else database)}


def _learned(
    name: str, network: "_Classifier", train: Tensor, query: Tensor, database: Tensor, num_bits: int, seed: int
) -> dict[str, Pair]:
    if name == "class_id":
        posterior, predicted = network.log_posterior(query), network.log_posterior(database)
        items = nn.functional.one_hot(predicted.argmax(1), predicted.shape[1]).float()
        asked = nn.functional.one_hot(posterior.argmax(1), posterior.shape[1]).float()
        return {"map": (asked, items), "map_asymmetric": (posterior, items)}
    if name in ("pq", "opq"):
        return {"map_asymmetric": _quantized(name, train, query, database, num_bits // 8)}
    if name in ("int8", "float"):
        query, database = nn.functional.normalize(query), nn.functional.normalize(database)
        return {"map_asymmetric": (query, _int8(database) if name == "int8" else database)}
    if name == "matryoshka":
        query, database = query[:, :num_bits], database[:, :num_bits]
    else:
        query, database = _projections(name, train, query, database, num_bits, seed)
    return {"map": (_signs(query), _signs(database)), "map_asymmetric": (query, _signs(database))}


def _signs(rows: Tensor) -> Tensor:
    return torch.where(rows >= 0, 1.0, -1.0)


def _int8(rows: Tensor) -> Tensor:
    """Round each dimension to 256 steps between its least and its largest value."""
    low, high = rows.amin(0), rows.amax(0)
    step = ((high - low) / 255).clamp(min=1e-12)
    return low + ((rows - low) / step).round() * step


def _projections(name: str, train: Tensor, query: Tensor, database: Tensor, num_bits: int, seed: int) -> Pair:
    if name == "itq":
        transform: Any = faiss.ITQTransform(train.shape[1], num_bits, True)
        transform.itq.seed = seed
    else:
        transform = faiss.PCAMatrix(train.shape[1], num_bits)
    transform.train(_array(train))
    query, database = (torch.from_numpy(transform.apply(_array(part))) for part in (query, database))
    return query, database


def _quantized(name: str, train: Tensor, query: Tensor, database: Tensor, num_bytes: int) -> Pair:
    """Rank by the squared distance to the decoded items, |q|^2 - 2 q . d + |d|^2, of which |q|^2 orders nothing.

    Zeros fill the rows up to as many numbers as the bytes divide.
    """
    train, query, database = (
        nn.functional.pad(part, (0, -part.shape[1] % num_bytes)) for part in (train, query, database)
    )
    form = f"PQ{num_bytes}x8" if name == "pq" else f"OPQ{num_bytes}_{16 * num_bytes},PQ{num_bytes}x8"
    index = faiss.index_factory(train.shape[1], form)
    index.train(_array(train))
    index.add(_array(database))
    decoded = torch.from_numpy(index.reconstruct_n(0, index.ntotal))
    lengths = -decoded.square().sum(1, keepdim=True)
    return torch.cat([2 * query, torch.ones(len(query), 1)], 1), torch.cat([decoded, lengths], 1)


def _array(rows: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows.numpy(), np.float32)


class _Classifier(nn.Module):
    """A hidden layer and one linear classifier per length of its output that is trained; one only, unless `nested`."""

    def __init__(self, num_features: int, width: int, num_labels: int, dropout: float, nested: bool) -> None:
        super().__init__()
        body = [nn.Linear(num_features, width), nn.ReLU()]
        self.body = (
            nn.Sequential(*body, nn.Dropout(dropout), nn.Linear(width, PREFIXES[-1]))
            if nested
            else (nn.Sequential(*body))
        )
        self.dropout = nn.Identity() if nested else nn.Dropout(dropout)
        self.lengths = PREFIXES if nested else (width,)
        self.heads = nn.ModuleList(nn.Linear(length, num_labels) for length in self.lengths)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        hidden = self.dropout(self.body(features))
        each = [
            nn.functional.cross_entropy(head(hidden[:, :length]), labels)
            for head, length in zip(self.heads, self.lengths, strict=True)
        ]
        return torch.stack(each).mean()

    @torch.inference_mode()
    def hidden(self, features: Tensor) -> Tensor:
        hidden: Tensor = self.body(features)
        return hidden

    @torch.inference_mode()
    def log_posterior(self, hidden: Tensor) -> Tensor:
        posterior: Tensor = self.heads[-1](hidden).log_softmax(1)
        return posterior
