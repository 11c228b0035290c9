"""How long do all retrieval figures take, against the loop of research code that computes one of them?

Method: 5,000 queries against 117,000 items at 64 bits, the size of COCO; a code is the center of its class with a
quarter of its bits flipped. Once an item has one of 10 classes, once any of 80 labels. Our side computes every figure
of `retrieval_figures` for all queries. The loop is what hashing repositories share: for each query one product for the
distances, one for relevance, one `numpy.argsort`, then the average precision. It computes mAP alone, and runs on a
subset of the queries. Its codes are float32; its labels are float32 one-hot rows of the 10 classes, and int64 rows of
the 80 labels, which is what those repositories read from their image lists, and what NumPy has no fast product for.

Both sides are warmed up and run in this process, one after the other in each round; `ratio`, with 80 labels, and
`one_label_ratio` are the loop's median time per query over ours. The memory is the peak of the whole process, imports
and input included, read before the loops first run. `--alone` times our side with one label and nothing else, for
databases that the loop would not fit.

    python benchmarks/bench_metrics.py [--rounds 5] [--queries 5000] [--database 117000] [--alone]
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.metrics import retrieval_figures

NUM_BITS, NUM_CLASSES, NUM_LABELS = 64, 10, 80
LOOP_QUERIES = 50
BLOCK = 100_000


def noisy_codes(centers: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `size` codes, each the center of a random class with a quarter of its bits flipped.

    Args:
        centers: `(C, K)` `int8`.
        size: Number of codes.
        generator: Source of the draw.

    Returns:
        Codes `(size, K)` `int8` and class numbers `(size,)`.
    """
    labels = torch.randint(len(centers), (size,), generator=generator)
    codes = torch.empty(size, centers.shape[1], dtype=torch.int8)
    for rows, own in zip(codes.split(BLOCK), labels.split(BLOCK), strict=True):  # takes less memory than all at once
        draws = torch.randint(4, rows.shape, generator=generator, dtype=torch.int8)
        torch.mul(centers[own], torch.where(draws == 0, -1, 1).to(torch.int8), out=rows)
    return codes, labels


def draw(num_queries: int, num_items: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes of queries and database, then their class numbers, around the same centers."""
    centers = torch.randint(2, (NUM_CLASSES, NUM_BITS), generator=generator, dtype=torch.int8) * 2 - 1
    queries, labels = noisy_codes(centers, num_queries, generator)
    database, database_labels = noisy_codes(centers, num_items, generator)
    return queries, database, labels, database_labels


def research_loop(
    query_codes: NDArray[np.float32],
    database_codes: NDArray[np.float32],
    query_labels: NDArray[Any],
    database_labels: NDArray[Any],
) -> float:
    """Compute mAP query by query, as research code does.

    Args:
        query_codes: `(Q, K)`.
        database_codes: `(N, K)`.
        query_labels: `(Q, C)` of 0 and 1.
        database_labels: `(N, C)` of 0 and 1.

    Returns:
        The mean over the queries.
    """
    total = 0.0
    for code, label in zip(query_codes, query_labels, strict=True):
        relevant = np.dot(label, database_labels.T) > 0
        distance = 0.5 * (database_codes.shape[1] - np.dot(code, database_codes.T))
        places = np.flatnonzero(relevant[np.argsort(distance)]) + 1.0
        if len(places):
            total += float(np.mean(np.arange(1, len(places) + 1) / places))
    return total / len(query_codes)


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mb() -> float:
    """Megabytes that this process took at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure_alone(rounds: int, num_queries: int, num_items: int) -> dict[str, float]:
    """Run our side alone, with one label an item; arguments and result are those of `measure`."""
    case = draw(num_queries, num_items, torch.Generator().manual_seed(0))
    before = peak_mb()
    times = [seconds_of(lambda: retrieval_figures(*case)) for _ in range(rounds)]
    return {"seconds": float(np.median(times)), "peak_mb_before": before, "peak_mb": peak_mb()}


def measure(rounds: int, num_queries: int, num_items: int) -> dict[str, float]:
    """Run both sides.

    Args:
        rounds: How often each is timed.
        num_queries: `Q`.
        num_items: `N`.

    Returns:
        What the benchmark prints.
    """
    generator = torch.Generator().manual_seed(0)
    queries, database, labels, database_labels = draw(num_queries, num_items, generator)
    hot, database_hot = (
        (torch.randint(25, (size, NUM_LABELS), generator=generator, dtype=torch.int8) == 0).to(torch.int8)
        for size in (num_queries, num_items)
    )
    some = slice(0, LOOP_QUERIES)
    codes = (queries[some].float().numpy(), database.float().numpy())
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)
    one_label = (one_hot[labels[some]], one_hot[database_labels])
    several = (hot[some].long().numpy(), database_hot.long().numpy())
    sides: dict[str, Callable[[], object]] = {
        "seconds": lambda: retrieval_figures(queries, database, hot, database_hot),
        "one_label_seconds": lambda: retrieval_figures(queries, database, labels, database_labels),
        "loop_seconds": lambda: research_loop(*codes, *several),
        "one_label_loop_seconds": lambda: research_loop(*codes, *one_label),
    }
    found = {"peak_mb_before": peak_mb()}
    for name, run in sides.items():  # warms up; the loops come last
        run()
        found |= {} if "loop" in name else {"peak_mb": peak_mb()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            times[name].append(seconds_of(run))
    found |= {name: float(np.median(values)) for name, values in times.items()}
    for kind in ("", "one_label_"):
        per_query = found[f"{kind}loop_seconds"] / len(codes[0]), found[f"{kind}seconds"] / num_queries
        found[f"{kind}ratio"] = per_query[0] / per_query[1]
    return found


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--database", type=int, default=117_000)
    parser.add_argument("--alone", action="store_true", help="time our side alone")
    arguments = parser.parse_args()
    run = measure_alone if arguments.alone else measure
    setting = {**vars(arguments), "num_bits": NUM_BITS, "loop_queries": LOOP_QUERIES}
    print(json.dumps(setting | run(arguments.rounds, arguments.queries, arguments.database)))


if __name__ == "__main__":
    main()
