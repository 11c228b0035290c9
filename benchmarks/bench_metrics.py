"""How long do all retrieval figures take, against the loop of research code that computes one of them?

Method: 10,000 queries against 60,000 items at 64 bits, 10 classes; a code is the center of its class with a quarter of
its bits flipped. Our side computes every figure of `retrieval_figures` for all queries. The loop is what hashing
repositories share: for each query one product for the distances, one for relevance, one `numpy.argsort`, then the
average precision. It computes mAP alone, and runs on a subset of the queries. Both sides are warmed up and run in this
process, one after the other in each round; `ratio` is the loop's median time per query over ours. The memory is the
peak of the whole process, imports and input included, read before the loop first runs. The same figures with 80
multi-hot labels are timed too.

    python benchmarks/bench_metrics.py [--rounds 5] [--queries 10000] [--database 60000]
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.metrics import retrieval_figures

NUM_BITS, NUM_CLASSES, NUM_LABELS = 64, 10, 80
LOOP_QUERIES = 100


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
    draws = torch.randint(4, (size, centers.shape[1]), generator=generator, dtype=torch.int8)
    return centers[labels] * torch.where(draws == 0, -1, 1).to(torch.int8), labels


def research_loop(
    query_codes: NDArray[np.float32],
    database_codes: NDArray[np.float32],
    query_labels: NDArray[np.float32],
    database_labels: NDArray[np.float32],
) -> float:
    """Compute mAP query by query, as research code does.

    Args:
        query_codes: `(Q, K)`.
        database_codes: `(N, K)`.
        query_labels: `(Q, C)` one-hot.
        database_labels: `(N, C)` one-hot.

    Returns:
        The mean over the queries.
    """
    total = 0.0
    for code, label in zip(query_codes, query_labels, strict=True):
        relevant = (label @ database_labels.T) > 0
        distance = 0.5 * (database_codes.shape[1] - code @ database_codes.T)
        places = np.flatnonzero(relevant[np.argsort(distance)]) + 1.0
        if len(places):
            total += float(np.mean(np.arange(1, len(places) + 1) / places))
    return total / len(query_codes)


def seconds_of(run: Callable[[], object]) -> float:
    """Time one call.

    Args:
        run: What to call.

    Returns:
        Seconds.
    """
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mb() -> float:
    """Read the peak memory of this process.

    Returns:
        Megabytes.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile.

    Args:
        values: One for each round.

    Returns:
        The three.
    """
    return [float(quartile) for quartile in np.quantile(values, [0.25, 0.5, 0.75])]


def measure(rounds: int, num_queries: int, num_items: int) -> dict[str, float | list[float]]:
    """Run both sides.

    Args:
        rounds: How often each is timed.
        num_queries: `Q`.
        num_items: `N`.

    Returns:
        What the benchmark prints.
    """
    generator = torch.Generator().manual_seed(0)
    centers = torch.randint(2, (NUM_CLASSES, NUM_BITS), generator=generator, dtype=torch.int8) * 2 - 1
    queries, labels = noisy_codes(centers, num_queries, generator)
    database, database_labels = noisy_codes(centers, num_items, generator)
    hot, database_hot = (
        (torch.randint(25, (size, NUM_LABELS), generator=generator, dtype=torch.int8) == 0).to(torch.int8)
        for size in (num_queries, num_items)
    )
    one_hot, subset = np.eye(NUM_CLASSES, dtype=np.float32), slice(0, LOOP_QUERIES)
    loop_database = (database.float().numpy(), one_hot[database_labels])
    loop_queries = (queries[subset].float().numpy(), one_hot[labels[subset]])
    sides: dict[str, Callable[[], object]] = {
        "seconds": lambda: retrieval_figures(queries, database, labels, database_labels),
        "multi_label_seconds": lambda: retrieval_figures(queries, database, hot, database_hot),
        "loop_seconds": lambda: research_loop(loop_queries[0], loop_database[0], loop_queries[1], loop_database[1]),
    }
    memory = {"peak_mb_before": peak_mb()}
    for name, run in sides.items():  # warms up; the loop comes last
        run()
        memory |= {} if name == "loop_seconds" else {"peak_mb": peak_mb()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            times[name].append(seconds_of(run))
    found = {name: quartiles(values) for name, values in times.items()}
    ratio = found["loop_seconds"][1] / len(loop_queries[0]) * num_queries / found["seconds"][1]
    medians = {name: values[1] for name, values in found.items()}
    return {"ratio": ratio} | medians | {f"{name}_quartiles": values for name, values in found.items()} | memory


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--database", type=int, default=60_000)
    arguments = parser.parse_args()
    setting = {**vars(arguments), "num_bits": NUM_BITS, "loop_queries": LOOP_QUERIES}
    print(json.dumps(setting | measure(arguments.rounds, arguments.queries, arguments.database)))


if __name__ == "__main__":
    main()
