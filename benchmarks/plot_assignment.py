"""Draw how the cost of a reassignment grows with C, M and K: `python benchmarks/plot_assignment.py --out FILE.png`.

One of the three grows while the others stay at C = 2,000, M = 4,000 (8,000 where C grows) and K = 64; heads of 16 bits.
Statistics are those of `bench_assignment.py`; a point is the fastest of three calls, of greedy and Hungarian in turn.
Dashed lines are the formulas, through the first point of each method: C M K for greedy, which looks at every word for
every class, and H C^2 M for Hungarian's worst case. The last line of output is one JSON document, with the slope of
each curve in log-log.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import matplotlib
import numpy as np
import typer
from bench_assignment import draw_statistics

from modeling_crh.cli import run as run_command
from modeling_crh.codebook import draw_centers
from modeling_crh.training.assignment import reassign

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HEAD_DIM = 16
C, M, K = 2_000, 4_000, 64
CASES = {
    "C": [(number, 8_000, K) for number in (500, 1_000, 2_000, 4_000, 8_000)],
    "M": [(C, number, K) for number in (2_000, 4_000, 8_000, 16_000, 32_000)],
    "K": [(C, M, number) for number in (16, 32, 64, 128, 256)],
}
COLORS = {"greedy": "#0072B2", "hungarian": "#D55E00"}
ROUNDS = 3


def plot(out: Annotated[Path, typer.Option(help="The picture.")]) -> None:
    """Measure and draw."""
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
    slopes: dict[str, dict[str, float]] = {}
    for panel, (name, cases) in zip(panels, CASES.items(), strict=True):
        seconds = [measure(*case) for case in cases]
        values = [case[list(CASES).index(name)] for case in cases]
        slopes[name] = {}
        for method, color in COLORS.items():
            own = [found[method] for found in seconds]
            costs = [formula(method, *case) for case in cases]
            panel.loglog(values, own, "o-", color=color, label=method)
            panel.loglog(values, [own[0] * cost / costs[0] for cost in costs], "--", color=color, linewidth=1)
            slopes[name][method] = round(float(np.polyfit(np.log(values), np.log(own), 1)[0]), 2)
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.minorticks_off()
        panel.set_xlabel(name)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds")
    panels[0].legend()
    figure.savefig(out, dpi=110)
    print(json.dumps({"slopes": slopes, "plot": str(out)}))


def measure(num_labels: int, codebook_size: int, num_bits: int) -> dict[str, float]:
    """Seconds from statistics to new centers, by method."""
    codebook, assignment = draw_centers(num_bits // HEAD_DIM, codebook_size, HEAD_DIM, num_labels, seed=0)
    statistics = draw_statistics(num_labels, np.random.default_rng(0), num_bits)
    fastest: dict[str, float] = dict.fromkeys(COLORS, np.inf)
    for _ in range(ROUNDS):
        for method in COLORS:
            started = time.perf_counter()
            chosen: Literal["greedy", "hungarian"] = "greedy" if method == "greedy" else "hungarian"
            reassign(codebook, assignment, statistics, chosen, np.random.default_rng(1))
            fastest[method] = min(fastest[method], time.perf_counter() - started)
    print(num_labels, codebook_size, num_bits, fastest, flush=True)
    return fastest


def formula(method: str, num_labels: int, codebook_size: int, num_bits: int) -> float:
    """What the cost should be proportional to."""
    if method == "greedy":
        return num_labels * codebook_size * num_bits
    return num_bits // HEAD_DIM * num_labels**2 * codebook_size


if __name__ == "__main__":
    run_command(plot)
