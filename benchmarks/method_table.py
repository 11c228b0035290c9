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
    stem = results.partition(".")[0]
    parts = [_INTRODUCTION.format(results=results), *_verdicts(cells), ""]
    for name, data in DATA.items():
        own = [cell for cell in cells if cell["dataset"] == name and cell["kind"] == "table"]
        if own:
            parts += [f"## {data.title}\n", _sizes(own)]
            parts += [f"![mAP over bits]({chart_name(stem, name)})\n"] if chart_rows(own, first_figure(own)) else []
            for figure in _figures(own):
                parts += [f"{_FIGURES[figure]}\n", *_table(own, figure), ""]
            parts += [*_any_length(own), *_ablations(own), *_facts_of_rows(own), *_choices(cells, data.grid_of or name)]
            parts.append(f"\n    python benchmarks/bench_methods.py --data runs/methods-data --dataset {name}\n")
    return "\n".join(parts)


def _verdicts(cells: Sequence[Cell]) -> list[str]:
    """A line a data set and length: CRH beside the best of the other codes of equal length."""
    lines = [
        "| data | bits | CRH, preset best | the paper's form | the first of the others |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, data in DATA.items():
        own = [cell for cell in cells if cell["dataset"] == name and cell["kind"] == "table"]
        values = _by_place(own, first_figure(own)) if own else {}
        for bits in _bits(own):
            means = {row: float(np.mean(list(values[row, bits].values()))) for row in ROWS if (row, bits) in values}
            others = {row: mean for row, mean in means.items() if ROWS[row].is_rival}
            if not others or "best" not in means:
                continue
            first = max(others, key=lambda row: others[row])
            shown = f"{ROWS[first].title} {_figure(values, first, bits)}"
            paper = f"{means['crh']:.3f}" if "crh" in means else ""
            lines.append(f"| {data.title} | {bits} | {means['best']:.3f} | {paper} | {shown} |")
    return lines


def chart_name(stem: str, dataset: str) -> str:
    """Name the chart of a data set."""
    return f"{stem}-{dataset}.png"


def first_figure(cells: Sequence[Cell]) -> str:
    """Name the figure of the first table, which the chart shows."""
    return _figures(cells)[0]


def chart_rows(cells: Sequence[Cell], figure: str) -> dict[str, dict[int, list[float]]]:
    """Values of the seeds by row and number of bits, for rows that have several lengths."""
    values = _by_place(cells, figure)
    rows = {
        name: {bits: list(values[name, bits].values()) for bits in _bits(cells) if (name, bits) in values}
        for name, row in ROWS.items()
        if not row.is_ablation and not row.num_bytes
    }
    return {name: lengths for name, lengths in rows.items() if len(lengths) > 1}


_INTRODUCTION = """# Methods at equal budget

Written by `benchmarks/bench_methods.py`. Every cell lies in `{results}` beside this file, with its seed and commit,
and is run again by the command below its section with `--row`, `--num-bits` and `--seed`, and another `--results`.

All methods train the same head with the same schedule on the same split; SHC's first stage has a third of the epochs,
and in another row its training has all of them. Learning rate and one setting of each method were chosen on the
validation split at 32 bits with seed 0, of emoji pictures the learning rate alone. A figure is the mean and standard
deviation over the seeds and, in brackets, by how much the first row is better, with its 95 % interval (Student's t over
pairs of one seed; a figure of one seed has neither); where the size of an item does not depend on the bits, better than
the first row at 32 bits. PCC compares the centers with the cosine between the classes' mean features.

First, CRH beside the best of the other codes of equal length, by the first figure of each section below; a length at
which no other method was run is left out.
"""

_FIGURES = {
    "map": "mAP by Hamming distance, tie-aware:",
    "map_asymmetric": "mAP where the query keeps its numbers and the database its bits:",
    "map_unseen_alone": "Queries of unseen classes in a database of unseen classes, mAP by Hamming distance:",
    "map_asymmetric_unseen_alone": "The same where the query keeps its numbers:",
    "map_unseen": "Queries of unseen classes in a database of all classes, mAP by Hamming distance:",
    "map_asymmetric_unseen": "The same where the query keeps its numbers:",
    "map_seen": "Queries of seen classes in a database of all classes, mAP by Hamming distance:",
    "map_asymmetric_seen": "The same where the query keeps its numbers:",
}


def _figures(cells: Sequence[Cell]) -> list[str]:
    """Figures that the cells have; of unseen classes rather than of all queries together."""
    apart = any("map_unseen" in cell for cell in cells)
    return [name for name in _FIGURES if ("seen" in name) == apart and any(name in cell for cell in cells)]


def _bits(cells: Sequence[Cell]) -> list[int]:
    return sorted({cell["num_bits"] for cell in cells})


def _sizes(cells: Sequence[Cell]) -> str:
    numbers = [len(seeds) for seeds in _by_place(cells, "map").values()]
    least, most = min(numbers), max(numbers)
    seeds = f"{least} seed{'s' if least > 1 else ''}" if least == most else f"{least} to {most} seeds"
    return f"{cells[0]['queries']:,} queries, {cells[0]['database']:,} in the database; {seeds} a cell.\n"


def _table(cells: Sequence[Cell], figure: str) -> list[str]:
    values, bits = _by_place(cells, figure), _bits(cells)
    lines = ["| method | " + " | ".join(f"{number} bits" for number in bits) + " |", "| --- |" + " ---: |" * len(bits)]
    for name, row in ROWS.items():
        if row.is_ablation or row.num_bytes or not any((name, number) in values for number in bits):
            continue
        shown = [_figure(values, name, number) for number in bits]
        lines.append(f"| {row.title} | " + " | ".join(shown) + " |")
    return lines


def _any_length(cells: Sequence[Cell]) -> list[str]:
    """Rows whose size does not depend on the number of bits."""
    names = [name for name, row in ROWS.items() if row.num_bytes and any(cell["row"] == name for cell in cells)]
    if not names:
        return []
    figures = _figures(cells)
    lines = ["Not at equal bytes:", "", "| method | bytes an item | " + " | ".join(figures) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(figures))
    for name in names:
        shown = [_figure(_by_place(cells, figure), name, 32) for figure in figures]
        lines.append(f"| {ROWS[name].title} | {ROWS[name].num_bytes} | " + " | ".join(shown) + " |")
    return [*lines, ""]


def _facts_of_rows(cells: Sequence[Cell]) -> list[str]:
    """Seconds, PCC and least distance of the centers of every row at 32 bits, folded away."""
    own = [cell for cell in cells if cell["num_bits"] == 32]
    lines = ["", "<details><summary>Seconds and centers at 32 bits</summary>", ""]
    lines += ["| method | seconds | PCC | least distance |", "| --- | ---: | ---: | ---: |"]
    for name, row in ROWS.items():
        found = [cell for cell in own if cell["row"] == name]
        if found and not row.is_ablation:
            lines.append(f"| {row.title} | " + " | ".join(_facts(found)) + " |")
    return [*lines, "", "</details>"]


def _ablations(cells: Sequence[Cell]) -> list[str]:
    names = [name for name, row in ROWS.items() if row.is_ablation and any(cell["row"] == name for cell in cells)]
    if not names:
        return []
    values = _by_place(cells, "map")
    lines = ["Settings of CRH, at 32 bits:", "", "| setting | mAP | seconds | PCC | least distance |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for name in ("crh", *names):
        own = [cell for cell in cells if cell["row"] == name and cell["num_bits"] == 32]
        lines.append(f"| {ROWS[name].title} | " + " | ".join([_figure(values, name, 32), *_facts(own)]) + " |")
    return lines


def _choices(cells: Sequence[Cell], dataset: str) -> list[str]:
    tried: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell["kind"] == "grid" and cell["dataset"] == dataset:
            tried[cell["row"]].append(cell)
    summary = "The grid, by mAP of the validation split; the first of each line was taken"
    lines = ["", f"<details><summary>{summary}</summary>", ""]
    for name, options in tried.items():
        ordered = sorted(options, key=lambda cell: -cell["map"])
        lines.append(f"- {ROWS[name].title}: " + "; ".join(f"{_words(cell)} {cell['map']:.3f}" for cell in ordered))
    return [*lines, "", "</details>"]


def _by_place(cells: Sequence[Cell], figure: str) -> dict[tuple[str, int], dict[int, float]]:
    values: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for cell in cells:
        if figure in cell:
            values[cell["row"], cell["num_bits"]][cell["seed"]] = cell[figure]
    return values


def _figure(values: dict[tuple[str, int], dict[int, float]], name: str, bits: int) -> str:
    """Mean and deviation, and by how much the reference is better on the same seeds: the preset best, or else CRH."""
    reference = "best" if ("best", bits) in values else "crh"
    own, first = values.get((name, bits), {}), values.get((reference, bits), {})
    if not own:
        return ""
    text = f"{np.mean(list(own.values())):.3f}" + _deviation(list(own.values()))
    both = [first[seed] - own[seed] for seed in own if seed in first]
    if name == reference or len(both) < 2:
        return text
    mean, error = float(np.mean(both)), float(np.std(both, ddof=1)) / math.sqrt(len(both))
    half = float(scipy.stats.t.ppf(0.975, len(both) - 1)) * error
    return f"{text} ({mean:+.3f}, {mean - half:+.3f} to {mean + half:+.3f})"


def _deviation(values: Sequence[float]) -> str:
    return f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""


def _facts(cells: Sequence[Cell]) -> list[str]:
    """Seconds, PCC and least distance of the centers."""
    facts = [f"{np.median([cell['seconds'] for cell in cells]):.0f}"]
    for name, form in (("pcc", ".3f"), ("center_distance_least", ".1f")):
        found = [cell[name] for cell in cells if cell.get(name) is not None]
        facts.append(f"{np.mean(found):{form}}" if found else "")
    return facts


def _words(cell: Cell) -> str:
    settings: dict[str, float] = {}
    for part in ("training", "model", "method_settings"):
        settings |= cell["choice"].get(part, {})
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())
