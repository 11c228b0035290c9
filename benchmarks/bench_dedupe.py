"""How long does it take to group a million codes into near-duplicates?

Method: codes of 64 bits, drawn in three ways. `planted`: random bits, and a tenth of the codes are copies of others
with up to `--radius` bits flipped; the number of groups is compared with what was planted. `clustered`: 1,000 random
centers of which each code takes one and flips a tenth of its bits, as learned codes lie. `tight`: ten centers and a
twentieth of the bits, as a model of ten classes makes them: many equal codes, and large groups. Each is timed once,
from an index that is there to the list of groups. `seconds` and `groups` are those of `planted`. One thread.

    python benchmarks/bench_dedupe.py [--codes 1000000] [--radius 2]
"""

import argparse
import json
import os
import resource
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from modeling_crh.search import HammingIndex, near_duplicates

NUM_BITS = 64


def noisy_codes(size: int, num_centers: int, flipped: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Packed codes `(size, 8)`, each a random center with a share of its bits flipped."""
    centers = generator.integers(0, 256, (num_centers, NUM_BITS // 8), dtype=np.uint8)
    flips = generator.random((size, NUM_BITS), dtype=np.float32) < flipped
    return centers[generator.integers(0, num_centers, size)] ^ np.packbits(flips, axis=1)


def planted_codes(size: int, radius: int, generator: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """Random packed codes, the last tenth of them near-copies of the first; and the number of copies."""
    copies = size // 10
    packed = generator.integers(0, 256, (size, NUM_BITS // 8), dtype=np.uint8)
    bits = np.unpackbits(packed[:copies], axis=1)
    for _ in range(radius):
        bits[np.arange(copies), generator.integers(0, NUM_BITS, copies)] ^= 1
    packed[size - copies :] = np.packbits(bits, axis=1)
    return packed, copies


def measure(packed: NDArray[np.uint8], radius: int) -> dict[str, Any]:
    """Seconds, number of groups, and items of the largest one."""
    index = HammingIndex(packed, kind="flat")
    start = time.perf_counter()
    groups = near_duplicates(index, radius)
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 2),
        "groups": len(groups),
        "largest": max((len(group) for group in groups), default=0),
    }


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--radius", type=int, default=2)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    packed, copies = planted_codes(arguments.codes, arguments.radius, generator)
    found: dict[str, Any] = {**vars(arguments), **measure(packed, arguments.radius), "planted": copies}
    found["clustered"] = measure(noisy_codes(arguments.codes, 1000, 0.1, generator), arguments.radius)
    found["tight"] = measure(noisy_codes(arguments.codes, 10, 0.05, generator), arguments.radius)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    found["peak_mb"] = round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
