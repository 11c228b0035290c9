"""Charts of `bench_methods.py`: mAP over the number of bits, a line a method, with the band of its seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from method_rows import DATA, ROWS
from method_table import chart_name, chart_rows, first_figure

OURS = {"best": "#000000", "crh": "#0B3D91"}
"""Colors of the two rows that every chart shows first."""


def draw_charts(cells: Sequence[dict[str, Any]], results: Path) -> None:
    """Draw the chart of each data set beside the file of the cells."""
    for dataset in DATA:
        own = [cell for cell in cells if (cell["dataset"], cell["kind"]) == (dataset, "table")]
        rows = chart_rows(own, first_figure(own)) if own else {}
        if not rows:
            continue
        figure, panel = plt.subplots(figsize=(8.0, 4.8), layout="constrained")
        colors = plt.colormaps["tab20"].colors  # type: ignore[attr-defined]
        order = sorted(rows, key=lambda name: -np.mean(rows[name][max(rows[name])]))
        for number, name in enumerate(order):
            bits = sorted(rows[name])
            seeds = [rows[name][length] for length in bits]
            style = {"color": OURS.get(name, colors[number % len(colors)]), "linewidth": 2.5 if name in OURS else 1.2}
            style["linestyle"] = "-" if number < len(colors) else "--"  # where colors come a second time
            panel.plot(bits, [np.mean(one) for one in seeds], **style, marker="o", markersize=3)
            least, most = [min(one) for one in seeds], [max(one) for one in seeds]
            panel.fill_between(bits, least, most, color=style["color"], alpha=0.2)
            panel.plot([], [], **style, label=ROWS[name].title)
        panel.set(xlabel="bits", ylabel="mAP", xticks=sorted({bits for row in rows.values() for bits in row}))
        panel.set_title(DATA[dataset].title)
        panel.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=7)
        figure.savefig(results.parent / chart_name(results.stem, dataset), dpi=120)
        plt.close(figure)
