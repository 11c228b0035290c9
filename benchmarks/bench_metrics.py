"""How long do all retrieval figures take, against the loop over queries that research code shares?

Method: 5,000 queries against 117,000 items at 64 bits, the size of COCO; a code is the center of its class with a
quarter of its bits flipped. Once any of 80 labels is on an item, once one of 10 classes. Our side is one call of
`figures_with_counts` and one of `precision_recall_curve`, for all queries, by the sort of the core and, where the extra
`fast` is installed, by Numba. The loop takes for each query one product for the distances, one for relevance and one
`numpy.argsort`, and from these the figures that research code prints and we do too: mAP, precision and recall at 10
places and within every radius. The tie-aware mAP and its bounds, which no such loop has, we compute besides. The loop
runs on a subset of the queries, since every query costs the same. Its codes are float32; its labels are float32 one-hot
rows of the 10 classes, and int64 rows of the 80 labels, which is what those repositories read from their image lists,
and what NumPy has no fast product for.

All sides are warmed up and run in this process, one after the other in each round; `ratio`, with 80 labels, and
`one_label_ratio` are the loop's median time per query over ours, `numba_ratio` and `one_label_numba_ratio` over ours by
Numba. In `map_ratio` and so on the loop stops after mAP, while ours still computes everything. The memory is the peak
of the whole process, imports and input included, read before Numba runs and the input of the loops is made. `--alone
sort` or `--alone numba` times one of our sides with one label and nothing else, for databases that the loop would not
fit. `--alone asymmetric` times the mean average precision by v . b, for logits of random sizes.

    python benchmarks/bench_metrics.py [--rounds 5] [--queries 5000] [--database 117000]
    python benchmarks/bench_metrics.py --alone {sort,numba,asymmetric} [--rounds 5] [--queries 5000] [--database 117000]
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling_crh.metrics import (
    PrecisionRecallCurve,
    asymmetric_average_precision,
    counting,
    figures_with_counts,
    precision_recall_curve,
)

NUM_BITS, NUM_CLASSES, NUM_LABELS = 64, 10, 80
LOOP_QUERIES, TOP_K = 50, 10
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


def draw_labels(num_queries: int, num_items: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Multi-hot rows of queries and database, `(Q, C)` and `(N, C)` `int8`, about three of 80 labels an item."""
    query_labels, database_labels = (
        (torch.randint(25, (size, NUM_LABELS), generator=generator, dtype=torch.int8) == 0).to(torch.int8)
        for size in (num_queries, num_items)
    )
    return query_labels, database_labels


def research_loop(
    query_codes: NDArray[np.float32],
    database_codes: NDArray[np.float32],
    query_labels: NDArray[Any],
    database_labels: NDArray[Any],
    *,
    map_alone: bool,
) -> NDArray[np.float64]:
    """Compute figures query by query, as research code does.

    Args:
        query_codes: `(Q, K)`.
        database_codes: `(N, K)`.
        query_labels: `(Q, C)` of 0 and 1.
        database_labels: `(N, C)` of 0 and 1.
        map_alone: Whether to stop after mAP.

    Returns:
        The means over the queries: mAP, and unless `map_alone` precision and recall at 10 and within each radius.
    """
    num_bits = query_codes.shape[1]
    total = np.zeros(1 if map_alone else 3 + 2 * (num_bits + 1))
    for code, label in zip(query_codes, query_labels, strict=True):
        relevant = np.dot(label, database_labels.T) > 0
        distance = 0.5 * (num_bits - np.dot(code, database_codes.T))
        hits = relevant[np.argsort(distance)]
        places = np.flatnonzero(hits) + 1.0
        if not len(places):
            continue
        total[0] += np.mean(np.arange(1, len(places) + 1) / places)
        if map_alone:
            continue
        total[1] += hits[:TOP_K].mean()
        total[2] += hits[:TOP_K].sum() / len(places)
        for radius in range(num_bits + 1):
            within = relevant[distance <= radius]
            total[3 + radius] += within.mean() if len(within) else 0.0
            total[4 + num_bits + radius] += within.sum() / len(places)
    return total / len(query_codes)


def our_figures(*case: Tensor) -> tuple[dict[str, float], PrecisionRecallCurve]:
    """Compute every figure that the library has, as a user does who has Numba."""
    figures, counts = figures_with_counts(*case, top_k=[TOP_K])
    return figures, precision_recall_curve(counts)


def sorted_figures(*case: Tensor) -> tuple[dict[str, float], PrecisionRecallCurve]:
    """Compute them as a user does who has no Numba."""
    with patch.object(counting, "find_spec", return_value=None):
        return our_figures(*case)


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mb() -> float:
    """Megabytes that this process took at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure_alone(side: str, rounds: int, num_queries: int, num_items: int) -> dict[str, float]:
    """Run one of our sides, "sort", "numba" or "asymmetric", with one label an item; the rest is as in `measure`."""
    generator = torch.Generator().manual_seed(0)
    case = draw(num_queries, num_items, generator)
    run: Callable[..., object] = {"sort": sorted_figures, "numba": our_figures}.get(side, asymmetric_average_precision)
    if side == "asymmetric":
        case = (case[0] * torch.rand(case[0].shape, generator=generator), *case[1:])
    before = peak_mb()
    times = [seconds_of(lambda: run(*case)) for _ in range(rounds)]
    return {"seconds": float(np.median(times)), "peak_mb_before": before, "peak_mb": peak_mb()}


def measure(rounds: int, num_queries: int, num_items: int) -> dict[str, float]:
    """Run all sides.

    Args:
        rounds: How often each is timed.
        num_queries: `Q`.
        num_items: `N`.

    Returns:
        What the benchmark prints.
    """
    generator = torch.Generator().manual_seed(0)
    queries, database, labels, database_labels = draw(num_queries, num_items, generator)
    hot, database_hot = draw_labels(num_queries, num_items, generator)
    one_label_case, case = (queries, database, labels, database_labels), (queries, database, hot, database_hot)
    ours: dict[str, Callable[[], object]] = {
        "one_label_seconds": lambda: sorted_figures(*one_label_case),
        "seconds": lambda: sorted_figures(*case),
    }
    found = {"peak_mb_before": peak_mb()}
    for run in ours.values():  # warms up
        run()
    found["peak_mb"] = peak_mb()
    if find_spec("numba"):
        by_numba: dict[str, Callable[[], object]] = {
            "one_label_numba_seconds": lambda: our_figures(*one_label_case),
            "numba_seconds": lambda: our_figures(*case),
        }
        for run in by_numba.values():
            run()
        found["numba_peak_mb"] = peak_mb()
        ours |= by_numba
    some = slice(0, LOOP_QUERIES)
    codes = (queries[some].float().numpy(), database.float().numpy())
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)
    one_label = (one_hot[labels[some]], one_hot[database_labels])
    several = (hot[some].long().numpy(), database_hot.long().numpy())
    loops: dict[str, Callable[[], object]] = {
        "loop_seconds": lambda: research_loop(*codes, *several, map_alone=False),
        "map_loop_seconds": lambda: research_loop(*codes, *several, map_alone=True),
        "one_label_loop_seconds": lambda: research_loop(*codes, *one_label, map_alone=False),
        "one_label_map_loop_seconds": lambda: research_loop(*codes, *one_label, map_alone=True),
    }
    for run in loops.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in loops | ours}
    for _ in range(rounds):
        for name, run in (loops | ours).items():
            times[name].append(seconds_of(run))
    found |= {name: float(np.median(values)) for name, values in times.items()}
    for name in ours:
        kind = "one_label_" if name.startswith("one_label_") else ""
        for loop in ("", "map_"):
            per_query = found[f"{kind}{loop}loop_seconds"] / LOOP_QUERIES
            ratio = f"{kind}{loop}{name.removeprefix(kind).replace('seconds', 'ratio')}"
            found[ratio] = per_query / (found[name] / num_queries)
    return found


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--database", type=int, default=117_000)
    parser.add_argument("--alone", choices=["sort", "numba", "asymmetric"], help="time one of our sides alone")
    arguments = parser.parse_args()
    setting = {**vars(arguments), "num_bits": NUM_BITS, "loop_queries": LOOP_QUERIES}
    sizes = (arguments.rounds, arguments.queries, arguments.database)
    print(json.dumps(setting | (measure_alone(arguments.alone, *sizes) if arguments.alone else measure(*sizes))))


if __name__ == "__main__":
    main()
