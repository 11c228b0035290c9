"""Does it pay to scan the first bits of all codes, and to order what is found by all bits?

Method: a million random codes, a query at a time, one thread. `whole`: FAISS scans all bits for the 10 nearest.
`prefix`: FAISS scans the first bits, held as an index of their own, for the 1,000 nearest, which would then be ordered
by all bits (not timed). Both in turns, after a warm-up; median milliseconds of a query, and the ratio of the two.

    python benchmarks/bench_prefix_scan.py [--codes 1000000] [--rounds 5]
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np
from bench_search import medians
from numpy.typing import NDArray

LENGTHS = ((64, 16), (64, 32), (128, 32), (128, 64))
NUM_QUERIES, NEAREST, CANDIDATES = 20, 10, 1000


def build(packed: NDArray[np.uint8]) -> Any:
    """Make an index that scans packed codes."""
    index = faiss.IndexBinaryFlat(8 * packed.shape[1])
    index.add(packed)
    return index


def scan(index: Any, queries: NDArray[np.uint8], k: int) -> None:
    """Find the nearest of each query, one query at a time."""
    for query in queries:
        index.search(query[None], k)


def main() -> None:
    """Time all pairs of lengths."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for num_bits, prefix_bits in LENGTHS:
        packed = np.random.default_rng(0).integers(0, 256, (arguments.codes, num_bits // 8), dtype=np.uint8)
        first = np.ascontiguousarray(packed[:, : prefix_bits // 8])
        whole, prefix = build(packed), build(first)
        sides: list[Callable[[], object]] = [
            partial(scan, whole, packed[:NUM_QUERIES], NEAREST),
            partial(scan, prefix, first[:NUM_QUERIES], CANDIDATES),
        ]
        times = [1000 * seconds / NUM_QUERIES for seconds in medians(sides, arguments.rounds)]
        row = {"num_bits": num_bits, "prefix_bits": prefix_bits, "whole_ms": round(times[0], 2)}
        rows.append(row | {"prefix_ms": round(times[1], 2), "ratio": round(times[1] / times[0], 2)})
        print(rows[-1])
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
