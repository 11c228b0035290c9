"""A packed code as a small drawing: a cell a bit, dark where it is 1, and marked where it is not that of the query."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

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
