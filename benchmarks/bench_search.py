"""How many milliseconds does a query take in an index of a million codes, and what does our interface add to FAISS?

Method: `--codes` codes of 64 bits, and queries drawn as they are. Learned codes lie in clusters: `clustered` is 1,000
random centers of which each code takes one and flips a tenth of its bits. `uniform` is random bits, where every code
is far from every other: the worst case for everything that is not a scan. Each kind of index is built by us; then
`HammingIndex.search` and FAISS's own `search` of the same structure answer the same batch of queries, k = 10, in
turns, after a warm-up, and `ratio` is our median time over FAISS's. Answers one query at a time are timed too:
`ms_single` and `ratio_single`. `recall_at_10`: share of the ten found that are no farther away than the tenth of a scan
(by distance, since many codes tie). `bytes_per_code` is what the process grew by while the index was built from packed
codes without ids, with the free memory of its building given back; `file_bytes_per_code` is the saved file. One thread,
unless OMP_NUM_THREADS says otherwise.

`--structures` compares what FAISS has for binary codes instead, without our interface: the lists of `ivf` by the number
that a query searches, the graph of hnsw by the candidates that it keeps, and the tables of multihash by the bits that
it flips; and the graph of usearch, if it is installed. `--of` takes codes that `crh encode` wrote, the last of which
are the queries.

    python benchmarks/bench_search.py [--codes 1000000] [--queries 500] [--rounds 7] [--kinds flat,ivf]
    python benchmarks/bench_search.py --structures [--of runs/codes]
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np
from numpy.typing import NDArray

from modeling_crh.search import HammingIndex, index_codes

NUM_BITS, NUM_CENTERS, K = 64, 1000, 10
FLIPPED = {"clustered": 0.1, "uniform": 0.5}


def draw_codes(size: int, data: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Packed codes `(size, 8)`, each a center with a share of its bits flipped; the centers are always the same."""
    centers = np.random.default_rng(0).integers(0, 256, (NUM_CENTERS, NUM_BITS // 8), dtype=np.uint8)
    parts = []
    for start in range(0, size, 100_000):
        rows = min(100_000, size - start)
        flips = generator.random((rows, NUM_BITS), dtype=np.float32) < FLIPPED[data]
        parts.append(centers[generator.integers(0, NUM_CENTERS, rows)] ^ np.packbits(flips, axis=1))
    return np.concatenate(parts)


def resident_bytes() -> int:
    """Memory of this process, after what is free has been given back."""
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def medians(sides: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each side; they run in turns, after a warm-up."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for side, run in enumerate(sides):
            start = time.perf_counter()
            run()
            if number:
                times[side].append(time.perf_counter() - start)
    return [float(np.median(found)) for found in times]


def measure(
    kind: str, packed: NDArray[np.uint8], queries: NDArray[np.uint8], worst: NDArray[np.int32], rounds: int
) -> dict[str, Any]:
    """One kind of index; `worst` is the tenth distance of each query in a scan, `(Q, 1)`."""
    before, start = resident_bytes(), time.perf_counter()
    index = HammingIndex(packed, kind=kind)
    seconds = time.perf_counter() - start
    size = resident_bytes() - before
    bare = index._lists or index._flat
    batch = medians([lambda: index.search(queries, K), lambda: bare.search(queries, K)], rounds)
    singles = [queries[row : row + 1] for row in range(min(100, len(queries)))]
    single = medians(
        [lambda: [index.search(query, K) for query in singles], lambda: [bare.search(query, K) for query in singles]],
        rounds,
    )
    distances = index.search(queries, K)[1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "index")
        index.save(file)
        start = time.perf_counter()
        HammingIndex.load(file)
        loading, file_size = time.perf_counter() - start, file.stat().st_size
    return {
        "index": kind,
        "ratio": round(batch[0] / batch[1], 3),
        "ms_per_query": round(1e3 * batch[0] / len(queries), 4),
        "recall_at_10": round(float((distances <= worst).mean()), 4),
        "bytes_per_code": round(size / len(packed), 2),
        "ms_single": round(1e3 * single[0] / len(singles), 4),
        "ratio_single": round(single[0] / single[1], 3),
        "file_bytes_per_code": round(file_size / len(packed), 2),
        "seconds_to_build": round(seconds, 2),
        "seconds_to_load": round(loading, 3),
    }


def faiss_structures(packed: NDArray[np.uint8]) -> Iterator[tuple[str, Any]]:
    """FAISS's structures for approximate search of packed codes `(N, K / 8)`, each with several settings."""
    num_bits, num_codes = 8 * packed.shape[1], len(packed)
    lists = 2 ** math.ceil(math.log2(math.sqrt(num_codes)))
    ivf = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(num_bits), num_bits, lists)
    ivf.train(packed)
    ivf.add(packed)
    for ivf.nprobe in (1, 2, 4, 8, 16, 32, lists // 16):
        yield f"ivf, {ivf.nprobe} of {lists} lists", ivf
    graph = faiss.IndexBinaryHNSW(num_bits, 16)
    graph.add(packed)
    for graph.hnsw.efSearch in (16, 32, 64, 128, 256):
        yield f"hnsw, {graph.hnsw.efSearch} candidates", graph
    part = max(8, round(math.log2(num_codes) / 4) * 4)
    tables = faiss.IndexBinaryMultiHash(num_bits, num_bits // part, part)
    tables.add(packed)
    for tables.nflip in (0, 1, 2):
        yield f"multihash, {num_bits // part} tables of {part} bits, {tables.nflip} flipped", tables
    if importlib.util.find_spec("usearch"):
        yield from usearch_structures(packed)


class UsearchGraph:
    """usearch's graph of binary codes, asked as FAISS is."""

    def __init__(self, packed: NDArray[np.uint8]) -> None:
        from usearch.index import Index

        self.index = Index(ndim=8 * packed.shape[1], metric="hamming", dtype="b1", connectivity=16)
        self.index.add(np.arange(len(packed)), packed, threads=1)

    def search(self, queries: NDArray[np.uint8], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and positions, `(Q, k)`."""
        found = self.index.search(queries, k, threads=1)
        return found.distances, found.keys.astype(np.int64)


def usearch_structures(packed: NDArray[np.uint8]) -> Iterator[tuple[str, Any]]:
    """The graph of usearch with several numbers of candidates."""
    graph = UsearchGraph(packed)
    for graph.index.expansion_search in (16, 64, 256):
        yield f"usearch, {graph.index.expansion_search} candidates", graph


def compare_structures(packed: NDArray[np.uint8], queries: NDArray[np.uint8], rounds: int) -> Iterator[dict[str, Any]]:
    """Time and recall of FAISS's own search of each structure, in batches."""
    scan = faiss.IndexBinaryFlat(8 * packed.shape[1])
    scan.add(packed)
    worst = scan.search(queries, K)[0][:, -1:]
    for name, structure in chain([("flat", scan)], faiss_structures(packed)):
        distances, positions = structure.search(queries, K)
        (seconds,) = medians([partial(structure.search, queries, K)], rounds)
        recall = float(((distances <= worst) & (positions >= 0)).mean())
        yield {"structure": name, "ms_per_query": round(1e3 * seconds / len(queries), 4), "recall_at_10": recall}


def main() -> None:
    """Print one JSON document: a list with a row for each kind or structure and each way to draw codes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", default="flat,ivf")
    parser.add_argument("--structures", action="store_true", help="compare FAISS's own structures")
    parser.add_argument("--of", type=Path, help="folder of codes for --structures, instead of codes that are drawn")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for data in [str(arguments.of)] if arguments.of else FLIPPED:
        generator = np.random.default_rng(1)
        if arguments.of:
            packed, queries = np.split(index_codes(arguments.of, kind="flat").packed, [-arguments.queries])
        else:
            packed = draw_codes(arguments.codes, data, generator)
            queries = draw_codes(arguments.queries, data, generator)
        if arguments.structures:
            for row in compare_structures(packed, queries, arguments.rounds):
                rows.append({"codes": len(packed), "data": data, **row})
                print(rows[-1], flush=True)
            continue
        scan = faiss.IndexBinaryFlat(NUM_BITS)
        scan.add(packed)
        worst = scan.search(queries, K)[0][:, -1:]
        del scan
        for kind in arguments.kinds.split(","):
            row = {"codes": arguments.codes, "data": data}
            rows.append(row | measure(kind, packed, queries, worst, arguments.rounds))
            print(rows[-1], flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
