"""What does ordering the nearest items by the hash logits of the query gain over ordering them by its bits?

Method: the queries and the database of a benchmark are encoded by a checkpoint, of the database only the codes are
kept. The candidates of a query are its C nearest items by Hamming distance, and all that tie with the last of them, so
that they do not depend on the order of the database. Both rankings order the same candidates: `hamming` by distance,
`reranked` by the dot product of the query's hash logits with their codes. Items at the same distance tie in the first,
items with the same code tie in both, and every figure is the expectation over all orders of what ties. `map` of a row
is the mean over the queries of the average precision among the candidates, divided by the relevant ones among them;
with C = all it is the headline mAP of the whole database. `precision_at_10` likewise. `share_of_ties`: how much of the
candidates stands at a distance that another candidate has, too. `ms` are of `HammingIndex.search` with k = 10 and one
query at a time, plain and with 100 candidates re-ranked, in turns.

    python benchmarks/bench_rerank.py [--checkpoint DIR --dataset NAME [--features-column features]] [--rounds 5]
"""

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from bench_search import medians
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.codes import binarize, hamming_distance, pack_codes
from modeling_crh.data import load_splits
from modeling_crh.encoding import encode_items, labelled_dataset, load_checkpoint, run_batches
from modeling_crh.metrics import DistanceCounts, average_precision, precision_at
from modeling_crh.search import HammingIndex

CANDIDATES, K = (100, 1000), 10


def group_counts(order: Tensor, items: Tensor, relevant: Tensor) -> DistanceCounts:
    """Counts of distinct codes in the order of each query, `(Q, D)`: what stands in one column ties."""
    return DistanceCounts(items.gather(1, order), relevant.gather(1, order))


def figures(counts: DistanceCounts) -> dict[str, float]:
    """Expected over all orders of what ties."""
    return {
        "map": round(average_precision(counts).mean().item(), 4),
        "precision_at_10": round(precision_at(counts, K).mean().item(), 4),
    }


def distance_counts(distance: Tensor, items: Tensor, relevant: Tensor, num_bits: int) -> DistanceCounts:
    """Counts by distance of `(Q, D)` distinct codes."""
    empty = torch.zeros(len(distance), num_bits + 1, dtype=torch.int64)
    return DistanceCounts(empty.scatter_add(1, distance, items), empty.scatter_add(1, distance, relevant))


def compare(
    logits: Tensor, database: Tensor, labels: tuple[Tensor, Tensor], num_candidates: list[int]
) -> list[dict[str, Any]]:
    """A row for each number of candidates.

    Args:
        logits: `(Q, K)` of the queries.
        database: `(N, K)` codes.
        labels: `(Q,)` and `(N,)`, or multi-hot rows.
        num_candidates: C of each row.
    """
    distinct, number = database.unique(dim=0, return_inverse=True)  # (D, K), (N,)
    classes = [rows if rows.ndim == 2 else one_hot(rows, int(max(map(Tensor.max, labels))) + 1) for rows in labels]
    relevant = (classes[0].float() @ classes[1].float().T > 0).float()  # (Q, N)
    all_relevant = torch.zeros(len(logits), len(distinct)).index_add(1, number, relevant).long()  # (Q, D)
    all_items = number.bincount().expand(len(logits), -1)  # (Q, D)
    distance = hamming_distance(binarize(logits), distinct).long()  # (Q, D)
    order = (logits @ distinct.T.float()).argsort(1, descending=True)
    whole = distance_counts(distance, all_items, all_relevant, logits.shape[1])
    rows = []
    for wanted in num_candidates:
        last = (whole.items.cumsum(1) < wanted).sum(1, keepdim=True)  # distance of the last candidate, (Q, 1)
        chosen = (distance <= last).long()
        items, relevant = all_items * chosen, all_relevant * chosen
        plain = distance_counts(distance, items, relevant, logits.shape[1])
        rows.append(
            {
                "candidates": wanted,
                "mean_candidates_with_ties": round(items.sum(1).double().mean().item(), 1),
                "share_of_ties": round((plain.items * (plain.items > 1)).sum().item() / plain.items.sum().item(), 4),
                "hamming": figures(plain),
                "reranked": figures(group_counts(order, items, relevant)),
            }
        )
    return rows


def time_search(logits: Tensor, database: Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds a query, plain and re-ranked."""
    index = HammingIndex(pack_codes(database), kind="flat")
    queries = [(pack_codes(binarize(row)).numpy(), row) for row in logits.split(1)]
    wanted = CANDIDATES[0]
    sides: list[Callable[[], object]] = [
        lambda: [index.search(packed, K) for packed, _ in queries],
        lambda: [index.search(packed, K, rerank_logits=row, num_candidates=wanted) for packed, row in queries],
    ]
    plain, reranked = (round(1e3 * time / len(queries), 4) for time in medians(sides, rounds))
    return {"plain": plain, "reranked": reranked}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT))
    parser.add_argument("--dataset", default="fashion_mnist_sample")
    parser.add_argument("--text-column", default=None)
    parser.add_argument("--features-column", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    model, processor = load_checkpoint(arguments.checkpoint)
    columns = {"text_column": arguments.text_column, "features_column": arguments.features_column}
    splits = load_splits(arguments.dataset, **columns).splits
    queries = labelled_dataset(splits["query"], processor)
    database = encode_items(model, labelled_dataset(splits["database"], processor))
    logits = torch.cat([*run_batches(model, DataLoader(queries, batch_size=256))])
    rows = compare(logits, database.codes, (queries.labels, database.labels), [*CANDIDATES, len(database.codes)])
    document = {
        "dataset": arguments.dataset,
        "queries": len(queries),
        "database": len(database.codes),
        "distinct_codes": len(database.codes.unique(dim=0)),
        "num_bits": logits.shape[1],
        "rows": rows,
        "ms": time_search(logits, database.codes, arguments.rounds),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
