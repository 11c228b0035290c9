"""What does a table of LanceDB cost beside an index in memory, and what does it find, over a million codes of 64 bits?

Method: `--codes` codes drawn as in bench_search.py, `clustered` and `uniform`, and a `HammingIndex` of kind flat over
them. The same codes are a `LanceIndex` in a temporary folder, `flat` first and then `ivf`. Each answers `--queries`
queries one at a time, k = 10, in turns with the index in memory, after a warm-up: `ms_single`, the median of the rounds
divided by the number of queries, and `ratio`, over the index in memory. `ms_batch` is all queries in one call.
`recall_at_10`: share of the ten found that are no farther away than the tenth of the scan. `same_as_flat`: whether ids
and distances are those of the index in memory, ties and all. `ms_where`: one query among the tenth of the items that
have one of ten labels. `seconds_to_write` the table, `seconds_to_index` it, `seconds_to_append` 10,000 codes with ids
that are checked to be new, `seconds_to_open`, and `ms_radius`, an exact search within two bits. `bytes_per_code`: of
all files of the table with its ids and labels, over the number of codes; `bytes_of_lists` of those are the index.
LanceDB has threads of its own, as many as the machine has cores; FAISS has one, unless OMP_NUM_THREADS says otherwise.

    python benchmarks/bench_lance.py [--codes 1000000] [--queries 50] [--rounds 3] [--data clustered,uniform]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from bench_search import K, draw_codes, medians
from numpy.typing import NDArray

from modeling_crh.search import HammingIndex
from modeling_crh.search.lance_index import LanceIndex

APPENDED, NUM_LABELS = 10_000, 10


def seconds(run: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    run()
    return round(time.perf_counter() - start, 3)


def bytes_below(folder: Path) -> int:
    """Size of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure(table: LanceIndex, index: HammingIndex, queries: NDArray[np.uint8], rounds: int) -> dict[str, Any]:
    """Search in a table, in turns with the index in memory."""
    singles = [queries[row : row + 1] for row in range(len(queries))]
    chosen = table.where({"label": "3"})
    times = medians(
        [
            lambda: [table.search(query, K) for query in singles],
            lambda: [index.search(query, K) for query in singles],
            lambda: table.search(queries, K),
            lambda: [chosen.search(query, K) for query in singles[:10]],
            lambda: [table.search_radius(query, 2) for query in singles[:10]],
        ],
        rounds,
    )
    found, expected = table.search(queries, K), index.search(queries, K)
    return {
        "kind": table.kind,
        "ms_single": round(1e3 * times[0] / len(singles), 3),
        "ms_single_in_memory": round(1e3 * times[1] / len(singles), 3),
        "ratio": round(times[0] / times[1], 1),
        "ms_batch": round(1e3 * times[2] / len(singles), 3),
        "ms_where": round(1e3 * times[3] / len(singles[:10]), 3),
        "ms_radius": round(1e3 * times[4] / len(singles[:10]), 3),
        "recall_at_10": round(float((found[1] <= expected[1][:, -1:]).mean()), 4),
        "same_as_flat": all(map(np.array_equal, found, expected)),
    }


def measure_data(data: str, num_codes: int, num_queries: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A row for each kind of table."""
    generator = np.random.default_rng(1)
    packed, queries = draw_codes(num_codes, data, generator), draw_codes(num_queries, data, generator)
    more = draw_codes(APPENDED, data, generator)
    labels = np.array([str(row % NUM_LABELS) for row in range(num_codes)])
    index, uri = HammingIndex(packed, kind="flat"), folder / f"{data}.lance"
    writing = {"seconds_to_write": seconds(lambda: LanceIndex.create(uri, packed, labels=labels, kind="flat"))}
    size = bytes_below(uri)
    rows = []
    for kind in ("flat", "ivf"):
        table = LanceIndex(uri)
        if kind == "ivf":
            writing["seconds_to_index"] = seconds(lambda: table.optimize("ivf"))  # noqa: B023
        row = {"codes": num_codes, "data": data, **measure(table, index, queries, rounds), **writing}
        row["seconds_to_open"] = seconds(lambda: LanceIndex(uri))
        row["bytes_per_code"] = round(bytes_below(uri) / num_codes, 2)
        row["bytes_of_lists"] = round((bytes_below(uri) - size) / num_codes, 2)
        ids, names = np.arange(num_codes, num_codes + APPENDED), ["new"] * APPENDED
        row["seconds_to_append"] = seconds(lambda: table.add(more, ids, labels=names))  # noqa: B023
        table.restore(1 if kind == "flat" else table.version - 1)
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Print one JSON document: a list with a row for each way to draw codes and each kind of table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default="clustered,uniform")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for data in arguments.data.split(","):
            rows += measure_data(data, arguments.codes, arguments.queries, arguments.rounds, Path(folder))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
