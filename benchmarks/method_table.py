"""The table of `bench_methods.py` as Markdown."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from method_rows import DATA, ROWS

Cell = dict[str, Any]


def render(cells: Sequence[Cell], results: str = "results.jsonl") -> str:
    """Render all cells that there are, a section a data set; `results` is the name of their file."""
    parts = [_INTRODUCTION.format(results=results)]
    for name, data in DATA.items():
        own = [cell for cell in cells if cell["dataset"] == name and cell["kind"] == "table"]
        if own:
            parts += [f"## {data.title}\n", *_sizes(own), *_rows(own), *_ablations(own), *_choices(cells, name)]
            place = "" if results == "results.jsonl" else f" --results docs/{results}"
            parts.append(f"\n    python benchmarks/bench_methods.py --data runs/methods-data{place} --dataset {name}\n")
    return "\n".join(parts)


_INTRODUCTION = """# Which method wins

Written by `benchmarks/bench_methods.py`. Every cell lies in `{results}` beside this file, with its seed and commit,
and is run again by the command below its table with `--row`, `--num-bits` and `--seed`, and another `--results`.

All methods train the same head with the same schedule on the same split; SHC's first stage has a third of the epochs,
and in another row its training has all of them. Learning rate and one setting of each method were chosen on the
validation split at 32 bits with seed 0. A figure is the tie-aware mAP of the queries against the database: mean and
standard deviation over the seeds and, in brackets, by how much the first row is better, with its 95 % interval
(Student's t over pairs of one seed). Seconds, PCC and least distance of the centers are those at 32 bits; the reference
of PCC is the cosine between the classes' mean features.
"""


def _sizes(cells: Sequence[Cell]) -> list[str]:
    numbers = [len(seeds) for seeds in _by_place(cells).values()]
    least, most = min(numbers), max(numbers)
    seeds = f"{least} seeds" if least == most else f"{least} to {most} seeds"
    return [f"{cells[0]['queries']:,} queries, {cells[0]['database']:,} in the database; {seeds} a cell.\n"]


def _rows(cells: Sequence[Cell]) -> list[str]:
    bits = sorted({cell["num_bits"] for cell in cells})
    values = _by_place(cells)
    lines = ["| method | " + " | ".join(f"{number} bits" for number in bits) + " | seconds | PCC | least distance |"]
    lines.append("| --- |" + " ---: |" * (len(bits) + 3))
    for name, row in ROWS.items():
        if row.is_ablation or not any((name, number) in values for number in bits):
            continue
        shown = [_figure(values, name, number) for number in bits]
        last = [cell for cell in cells if cell["row"] == name]
        lines.append(f"| {row.title} | " + " | ".join([*shown, *_facts(last, 32)]) + " |")
    return lines


def _ablations(cells: Sequence[Cell]) -> list[str]:
    names = [name for name, row in ROWS.items() if row.is_ablation and any(cell["row"] == name for cell in cells)]
    if not names:
        return []
    values = _by_place(cells)
    lines = ["", "Settings of CRH, at 32 bits:", "", "| setting | mAP | seconds | PCC | least distance |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for name in ("crh", *names):
        own = [cell for cell in cells if cell["row"] == name]
        lines.append(f"| {ROWS[name].title} | " + " | ".join([_figure(values, name, 32), *_facts(own, 32)]) + " |")
    return lines


def _choices(cells: Sequence[Cell], dataset: str) -> list[str]:
    tried: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell["kind"] == "grid" and cell["dataset"] == dataset:
            tried[cell["row"]].append(cell)
    lines = ["", "The grid, by mAP of the validation split; the first of each line was taken:", ""]
    for name, options in tried.items():
        ordered = sorted(options, key=lambda cell: -cell["map"])
        lines.append(f"- {ROWS[name].title}: " + "; ".join(f"{_words(cell)} {cell['map']:.3f}" for cell in ordered))
    return lines


def _by_place(cells: Sequence[Cell]) -> dict[tuple[str, int], dict[int, float]]:
    values: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for cell in cells:
        values[cell["row"], cell["num_bits"]][cell["seed"]] = cell["map"]
    return values


def _figure(values: dict[tuple[str, int], dict[int, float]], name: str, bits: int) -> str:
    """Mean and deviation, and by how much the reference is better on the same seeds: the preset best, or else CRH."""
    reference = "best" if ("best", bits) in values else "crh"
    own, first = values.get((name, bits), {}), values.get((reference, bits), {})
    if not own:
        return ""
    numbers = list(own.values())
    text = f"{np.mean(numbers):.3f}" + (f" ± {np.std(numbers, ddof=1):.3f}" if len(numbers) > 1 else "")
    both = [first[seed] - own[seed] for seed in own if seed in first]
    if name == reference or len(both) < 2:
        return text
    mean, error = float(np.mean(both)), float(np.std(both, ddof=1)) / math.sqrt(len(both))
    half = float(scipy.stats.t.ppf(0.975, len(both) - 1)) * error
    return f"{text} ({mean:+.3f}, {mean - half:+.3f} to {mean + half:+.3f})"


def _facts(cells: Sequence[Cell], bits: int) -> list[str]:
    """Seconds, PCC and least distance of the centers at one length."""
    own = [cell for cell in cells if cell["num_bits"] == bits] or list(cells)
    facts = [f"{np.median([cell['seconds'] for cell in own]):.0f}"]
    for name, form in (("pcc", ".3f"), ("center_distance_least", ".1f")):
        found = [cell[name] for cell in own if cell.get(name) is not None]
        facts.append(f"{np.mean(found):{form}}" if found else "")
    return facts


def _words(cell: Cell) -> str:
    settings: dict[str, float] = {}
    for part in ("training", "model", "method_settings"):
        settings |= cell["choice"].get(part, {})
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())
