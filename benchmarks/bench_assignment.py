"""How long does reassignment take, and how much memory, from class statistics to new centers?

Method: 64 bits; M = 2C, each length of head by the default rule; `shared` has all 16 words of heads of 4 bits, each for
at most C / 16 classes, rounded up. The statistics are those of ten codes a class, drawn
around 50 centers that the classes share and with a fifth of the bits flipped, so that many classes want the same words:
harder than what training ends with. Each case runs in a process of its own, whose peak of memory includes the imports.
`same_as_plain` compares greedy with a loop that looks, for one class after the other, at every word: `--no-plain` skips
it, which at 100,000 classes takes as long as a coffee. For shared words it compares the total cost with that of scipy's
Hungarian on copies of the words, up to 1,000 classes. It is null where it was not compared, and for Hungarian, whose
plain form it is: one call of scipy.

    python benchmarks/bench_assignment.py [--labels 1000,10000,100000,1000000] [--no-plain]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from modeling_crh import CRHConfig
from modeling_crh.codebook import SHARED_HEAD_DIM, choose_head_dim, draw_centers, word_capacity
from modeling_crh.training.assignment import (
    HUNGARIAN_ENTRIES,
    AssignmentMethod,
    ClassStatistics,
    assignment_cost,
    reassign,
)

NUM_BITS, SAMPLES, GROUPS = 64, 10, 50
MOST_COPIED, MOST_GREEDY = 1000, 100_000  # classes


def draw_statistics(num_labels: int, generator: np.random.Generator, num_bits: int = NUM_BITS) -> ClassStatistics:
    """Statistics of ten codes a class."""
    group = np.where(generator.random((GROUPS, num_bits)) < 0.5, 1, -1)[generator.integers(0, GROUPS, num_labels)]
    flipped = generator.binomial(SAMPLES, 0.2, (num_labels, num_bits))
    sums = torch.from_numpy((group * (SAMPLES - 2 * flipped)).astype(np.float64))
    return ClassStatistics(sums, torch.full((num_labels,), float(SAMPLES), dtype=torch.float64))


def plain_greedy(sums: NDArray[np.float32], words: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """One class after the other looks at every word; sums of signs are exact in float32 here."""
    chosen = np.empty(len(sums), np.int64)
    taken = np.zeros(len(words), bool)
    for label in order:
        products = words @ sums[label]
        products[taken] = -np.inf
        chosen[label] = products.argmax()
        taken[chosen[label]] = True
    return chosen


def cases(counts: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield each number of classes with each method that can be run with it."""
    for count in counts:
        for method in ("greedy", "hungarian", "shared"):
            too_many = {"hungarian": 2 * count * count > HUNGARIAN_ENTRIES, "greedy": count > MOST_GREEDY}
            if not too_many.get(method, False):
                yield count, method


def measure(num_labels: int, method: str, compare: bool, device: torch.device | str = "cpu") -> dict[str, object]:
    """One case, in this process; statistics, codebook and assignment lie on `device`."""
    is_shared = method == "shared"
    head_dim = SHARED_HEAD_DIM if is_shared else choose_head_dim(NUM_BITS, 2 * num_labels)
    size = 2**head_dim if is_shared else 2 * num_labels
    capacity = word_capacity(num_labels, head_dim, CRHConfig.shared_room) if is_shared else 1
    codebook, assignment = draw_centers(NUM_BITS // head_dim, size, head_dim, num_labels, capacity=capacity, seed=0)
    statistics = draw_statistics(num_labels, np.random.default_rng(0))
    chosen: AssignmentMethod = "greedy" if method == "greedy" else "hungarian"
    there = ClassStatistics(statistics.sums.to(device), statistics.weights.to(device))
    place = codebook.to(device), assignment.to(device)
    started = time.perf_counter()
    new = reassign(*place, there, chosen, _generator(), capacity=capacity).cpu()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    same = None
    if method == "greedy" and compare:
        generator, sums = _generator(), statistics.sums.float().split(codebook.shape[2], dim=1)
        same = all(
            np.array_equal(
                plain_greedy(sums[head].numpy(), words.float().numpy(), generator.permutation(num_labels)), new[head]
            )
            for head, words in enumerate(codebook)
        )
    if is_shared and compare and num_labels <= MOST_COPIED:
        same = all(
            is_least(assignment_cost(means, words), capacity, held)
            for means, words, held in zip(statistics.means().split(head_dim, 1), codebook, new.numpy(), strict=True)
        )
    result = {"labels": num_labels, "method": method, "heads": len(codebook), "seconds": round(seconds, 3)}
    return result | {"peak_mb": round(peak), "same_as_plain": same}


def is_least(cost: NDArray[np.float64], capacity: int, chosen: NDArray[np.int64]) -> bool:
    """Whether an assignment costs as little as that of Hungarian on `capacity` copies of each word."""
    copies = np.repeat(cost, capacity, axis=1)  # (C, M * capacity)
    least = copies[linear_sum_assignment(copies)].sum()
    return bool(np.isclose(cost[np.arange(len(cost)), chosen].sum(), least, rtol=1e-12))


def _generator() -> np.random.Generator:
    return np.random.default_rng(1)


def main() -> None:
    """Run every case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labels", default="1000,10000,100000,1000000", help="numbers of classes, with commas between")
    parser.add_argument("--no-plain", action="store_true", help="do not compare greedy with a plain loop")
    parser.add_argument("--method", help="run one case here and print it")
    arguments = parser.parse_args()
    counts = [int(number) for number in arguments.labels.split(",")]
    if arguments.method:
        print(json.dumps(measure(counts[0], arguments.method, not arguments.no_plain)))
        return
    results = []
    for count, method in cases(counts):
        command = [sys.executable, __file__, "--labels", str(count), "--method", method]
        command += ["--no-plain"] if arguments.no_plain else []
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(shown, end="", file=sys.stderr)
        results.append(json.loads(shown))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
