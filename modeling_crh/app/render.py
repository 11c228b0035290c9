"""The parts of the page as HTML, with everything escaped that an index says."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from modeling_crh.app.bit_pattern import bit_pattern
from modeling_crh.app.finder import Answer
from modeling_crh.page_templates import page_templates

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
