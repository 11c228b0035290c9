"""The parts of the search page as HTML, with everything escaped that an index says."""

from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from modeling_crh.app.finder import Answer
from modeling_crh.runtime.html import page_templates

_CELL, _GAP = 8, 1


def bit_pattern(code: NDArray[np.uint8], query: NDArray[np.uint8] | None = None) -> Markup:
    """An SVG of K cells, row by row from the first bit on.

    Args:
        code: `(K / 8,)` uint8.
        query: `(K / 8,)` uint8, to mark the bits in which the two differ.

    Example:
        >>> print(bit_pattern(np.array([0b10000001], np.uint8), np.array([0b10000000], np.uint8)))
        <svg class="bits" viewBox="0 0 63 7" role="img" aria-label="1 bit differs: 8"><path ...
    """
    bits = np.unpackbits(code).astype(bool)  # (K,)
    differs = np.zeros_like(bits) if query is None else bits != np.unpackbits(query).astype(bool)
    columns = _columns(len(bits))
    size = [count * _CELL - _GAP for count in (columns, -(-len(bits) // columns))]
    drawn = Markup("").join(
        _cells(np.flatnonzero(chosen), columns, name)
        for name, chosen in (
            ("one", bits & ~differs),
            ("zero", ~bits & ~differs),
            ("other-one", bits & differs),
            ("other-zero", ~bits & differs),
        )
    )
    label = _label(bits, differs, query is None)
    frame = '<svg class="bits" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return Markup(frame).format(*size, label, drawn)


def _columns(num_bits: int) -> int:
    """About four times as wide as high."""
    fitting = [columns for columns in (8, 16, 32, 64) if num_bits % columns == 0 and columns * columns <= 4 * num_bits]
    return max(fitting, default=8)


def _cells(numbers: NDArray[np.int64], columns: int, name: str) -> Markup:
    if not len(numbers):
        return Markup("")
    side = _CELL - _GAP
    squares = (
        f"M{number % columns * _CELL} {number // columns * _CELL}h{side}v{side}h-{side}z" for number in numbers.tolist()
    )
    return Markup('<path class="{}" d="{}"/>').format(name, "".join(squares))


def _label(bits: NDArray[np.bool_], differs: NDArray[np.bool_], alone: bool) -> str:
    if alone:
        return f"Code of {len(bits)} bits: {np.packbits(bits).tobytes().hex()}"
    numbers = [str(number) for number in (np.flatnonzero(differs) + 1).tolist()]
    if not numbers:
        return "No bit differs"
    return f"{len(numbers)} {'bit differs' if len(numbers) == 1 else 'bits differ'}: {', '.join(numbers)}"


_TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, **values: Any) -> str:
    """A template of this folder with its values filled in."""
    return _environment().get_template(f"{name}.html").render(**values)


def render_answer(answer: Answer, num_items: int, k: int, radius: int, num_bits: int) -> str:
    """A query and what it has found.

    Args:
        answer: Of the finder.
        num_items: Of the database.
        k: That was asked for.
        radius: That was asked for, in bits.
        num_bits: `K`.
    """
    count = len(answer.hits)
    within = "" if radius == num_bits else f" within {radius} {'bit' if radius == 1 else 'bits'}"
    if not count:
        found = f"Nothing lies{within}"
    elif count < min(k, num_items):
        found = f"All {count}{within}" if count > 1 else f"One alone{within}"
    else:
        found = f"The {count} nearest of {num_items:,}{within}" if count > 1 else f"The nearest of {num_items:,}"
    return render("answer", answer=answer, found=found)


def source(name: str) -> str:
    """A script or a style sheet of this folder."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def milliseconds(value: float) -> str:
    """With two digits that count.

    Example:
        >>> milliseconds(0.0734), milliseconds(3.21), milliseconds(123.4)
        ('0.073 ms', '3.2 ms', '123 ms')
    """
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


@cache
def _environment() -> Environment:
    environment = page_templates(_TEMPLATES)
    environment.globals |= {"bit_pattern": bit_pattern, "milliseconds": milliseconds}
    return environment


_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

_COLORS = {
    "body_background_fill": ("#f7f6f3", "#141312"),
    "body_text_color": ("#1c1b19", "#edece8"),
    "body_text_color_subdued": ("#5f5d57", "#a9a79f"),
    "background_fill_primary": ("#ffffff", "#1e1d1b"),
    "background_fill_secondary": ("#f7f6f3", "#141312"),
    "block_background_fill": ("transparent", "transparent"),
    "block_title_text_color": ("#1c1b19", "#edece8"),
    "button_secondary_border_color": ("#d6d3cb", "#4a4743"),
    "button_secondary_border_color_hover": ("#5f5d57", "#a9a79f"),
    "block_label_text_color": ("#1c1b19", "#edece8"),
    "border_color_primary": ("#e4e2dc", "#3a3834"),
    "slider_color": ("#2566c8", "#78acff"),
    "input_background_fill": ("#ffffff", "#1e1d1b"),
    "button_secondary_background_fill": ("#ffffff", "#1e1d1b"),
    "button_secondary_background_fill_hover": ("#efede8", "#2a2826"),
    "button_secondary_text_color": ("#1c1b19", "#edece8"),
}  # by day and by night


def page_theme() -> Any:
    """Gradio's plainest theme in the colours of the reports."""
    theme = gr.themes.Base(font=_FONT, font_mono=_MONO, text_size=gr.themes.sizes.text_md)
    pairs = {name: day for name, (day, _) in _COLORS.items()} | {
        f"{name}_dark": night for name, (_, night) in _COLORS.items()
    }
    flat = {"block_border_width": "0px", "block_shadow": "none", "block_padding": "0px", "button_border_width": "1px"}
    return theme.set(**pairs, **flat, color_accent="#2566c8")
