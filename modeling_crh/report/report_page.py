"""Write the HTML page of a report, and the files beside it."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from modeling_crh.metrics import CenterSemantics, SemanticCorrelation, center_similarity, worst_classes
from modeling_crh.metrics.figures import explain_figure
from modeling_crh.report.centers_plot import CenterTables, center_tables, draw_centers
from modeling_crh.report.content import ReportContent, SearchResult
from modeling_crh.report.plots import DARK, LIGHT, draw_contact_sheet, draw_precision_recall, draw_training, read_series
from modeling_crh.runtime.atomic_files import whole_file
from modeling_crh.runtime.html import Thumbnail, page_templates
from modeling_crh.runtime.terminal import format_figure

_TEMPLATES = Path(__file__).parent / "templates"


class Plot(NamedTuple):
    """One plot as PNG files: for light and dark pages, in wide and narrow form."""

    light: bytes
    dark: bytes
    light_narrow: bytes
    dark_narrow: bytes


def draw_plots(content: ReportContent) -> dict[str, Plot]:
    """Draw the plots `precision_recall`, `centers` and `training`, four times each."""
    cases = [(palette, narrow) for narrow in (False, True) for palette in (LIGHT, DARK)]
    tables = center_tables(content)
    return {
        "precision_recall": Plot(*(draw_precision_recall(content.curve, color, narrow=way) for color, way in cases)),
        "centers": Plot(*(draw_centers(tables, color, narrow=way) for color, way in cases)),
        "training": Plot(*(draw_training(content.history, color, narrow=way) for color, way in cases)),
    }


def render_page(content: ReportContent, plots: Mapping[str, Plot]) -> str:
    """Fill in the template, which escapes all text, with all pictures embedded; the plots come from `draw_plots`."""
    templates = page_templates(_TEMPLATES, thumbnail=Thumbnail.of, png_uri=_png_uri, format_fact=_format_fact)
    return templates.get_template("report.html").render(
        content=content,
        plots=plots,
        precision=_headline_precision(content),
        num_bytes=-(-content.num_bits // 8),
        hits_text=_describe_hits(content),
        curve_text=_describe_curve(content),
        order_text=_describe_order(content, center_tables(content)),
        centers_text=_describe_centers(content),
        semantics=[_describe_semantics(item) for item in content.semantics or ()],
        training_text=_describe_training(content),
        worst=worst_classes(content.classes or ()),
        rows=[(*explain_figure(name), _format_values(content, name)) for name in content.figures],
    )


def _headline_precision(content: ReportContent) -> tuple[str, str, float] | None:
    """Return words, meaning and value of precision@10, or else of the first precision@k."""
    names = [name for name in content.figures if name.startswith("precision_at_")]
    if not names:
        return None
    name = "precision_at_10" if "precision_at_10" in names else names[0]
    return *explain_figure(name), content.figures[name]


def _describe_hits(content: ReportContent) -> str:
    hits, shown = _count_hits(content.results)
    words = f"{hits} of {shown} items shown are hits"
    if content.comparison is not None:
        others = _count_hits(content.comparison.results)[0]
        words += f" with {content.comparison.own_name}, {others} with {content.comparison.name}"
    return f"{words}. Distances are in bits of {content.num_bits}; items at the same distance stand in database order."


def _count_hits(results: Sequence[SearchResult]) -> tuple[int, int]:
    return sum(result.hits for result in results), sum(len(result.neighbours) for result in results)


def _format_values(content: ReportContent, name: str) -> list[str]:
    """Format a figure of the report and, with a comparison, of the other experiment."""
    sides = [content.figures] + ([content.comparison.figures] if content.comparison is not None else [])
    return [format_figure(side[name]) if name in side else "" for side in sides]


def _describe_curve(content: ReportContent) -> str:
    radius = min(2, content.num_bits)
    precision, recall = content.curve.precision[radius].item(), content.curve.recall[radius].item()
    return (
        f"Looking up everything within {radius} bits finds {recall:.0%} of the relevant items at a precision of "
        f"{precision:.2f}."
    )


def _describe_order(content: ReportContent, tables: CenterTables) -> str:
    """Describe the tables of centers: the meaning of a cell, and the order of the rows."""
    scale = "1 if two centers are equal, 0 if they agree in half of the bits, \N{MINUS SIGN}1 if they are opposite"
    if tables.has_nodes:
        cells = f"A cell is the mean similarity over the pairs of different classes in two branches: {scale}."
    else:
        cells = f"{scale}; the diagonal, always 1, is left blank."
    if content.taxonomy is None:
        return f"{cells} Both tables have one order, which puts classes together that are similar at the end."
    names = [branch.name for branch in tables.branches if branch.name]
    lines = f"; thin lines part, from the top, {', '.join(names)}" if len(names) > 1 else ""
    return f"{cells} Both tables follow the taxonomy of the classes{lines}."


def _describe_centers(content: ReportContent) -> str:
    changed = int((content.centers_before != content.centers_after).any(dim=1).sum())
    if not changed:
        return "No class moved, so both tables are the same."
    moved = f"Classes that hold another center than at the start: {changed} of {len(content.label_names)}."
    if len(content.label_names) < 2:
        return moved
    table = center_similarity(content.centers_after).fill_diagonal_(-2)  # excludes pairs of a class with itself
    one, other = divmod(int(table.argmax()), len(table))
    bits = round(content.num_bits * (1 - table[one, other].item()) / 2)
    names = f"{content.label_names[one]} and {content.label_names[other]}"
    return f"{moved} The closest two are now {names}, {bits} of {content.num_bits} bits apart."


def _describe_semantics(item: CenterSemantics) -> tuple[str, str, str]:
    """Return reference, both correlations, and their p values as text."""
    before, after = item.before, item.after
    values = " → ".join(f"{round(side.pcc, 3) + 0.0:.3f}" for side in (before, after))  # + 0.0 makes 0 of -0
    values = values.replace("-", "\N{MINUS SIGN}")
    detail = f"p {_format_p(before)} before, {_format_p(after)} after, over {after.num_pairs:,} pairs of classes"
    return item.reference, values, detail


def _format_p(correlation: SemanticCorrelation) -> str:
    return f"{correlation.p_value:.{max(3, len(str(correlation.num_permutations)))}f}"


def _describe_training(content: ReportContent) -> str:
    parts = []
    for key, words, form in (("loss", "Loss", ".3g"), ("eval_map", "mAP on validation", ".3f")):
        values = read_series(content.history, key)[1]
        if values:
            start = f"went from {values[0]:{form}} to" if len(values) > 1 else "was"
            parts.append(f"{words} {start} {values[-1]:{form}}.")
    if parts and read_series(content.history, "eval_map_lower")[1]:
        parts.append("The band around mAP lies between its lower and upper bound.")
    return " ".join(parts) or "The history holds neither losses nor evaluations."


def _format_fact(value: str | float | int) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _png_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def write_report(content: ReportContent, folder: str | Path) -> Path:
    """Write the self-contained `report.html`, and its pictures as PNG files beside it; return its path.

    Everything is drawn before anything is written, and the files appear only when all are complete; older files of
    these names are replaced. The folder is created if missing.
    """
    folder = Path(folder)
    plots = draw_plots(content)
    page = render_page(content, plots)
    files = {"report.html": page.encode("utf-8", "replace")}  # a label may hold half a surrogate pair
    files["contact_sheet.png"] = draw_contact_sheet(content.results, LIGHT)
    files |= {f"{name}.png": plot.light for name, plot in plots.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as unfinished:
        for name, data in files.items():
            unfinished.enter_context(whole_file(folder / name)).write_bytes(data)
    return folder / "report.html"
