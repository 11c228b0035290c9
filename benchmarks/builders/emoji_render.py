"""Render the SVG of an icon at 96 pixels on white, after checking that it is nothing but a bounded drawing."""

import io
import math
import re
import xml.etree.ElementTree as ET

import PIL.Image
from emoji_packages import IconSet

try:
    import resvg_py
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"Building the emoji benchmark needs {error.name}; run `pip install 'modeling-crh[emoji]'`.", name=error.name
    ) from error

SIDE = 96
MAX_CHARACTERS = 2**20
MAX_DEPTH = 64
SHAPES = {"circle", "ellipse", "path", "rect"}
STRUCTURE = {"clipPath", "defs", "g", "linearGradient", "mask", "radialGradient", "stop", "svg", "symbol", "use"}
FILTERS = {"feBlend", "feColorMatrix", "feComposite", "feFlood", "feGaussianBlur", "feOffset", "filter"}
ELEMENTS = {f"{{http://www.w3.org/2000/svg}}{name}" for name in SHAPES | STRUCTURE | FILTERS}
"""All that the drawings use. There is no text, which would depend on fonts, no image, no style sheet, no script."""


def icon_svg(icon_set: IconSet, name: str, *, mirrored: bool = False) -> str:
    """Make a complete SVG of one icon, `SIDE` x `SIDE`; an icon that is not square is centered.

    Args:
        icon_set: Icon set of the vendor.
        name: One of `icon_set.icons`.
        mirrored: Whether to swap left and right.

    Raises:
        ValueError: If a size is no positive number.
    """
    icon = icon_set.icons[name]
    left, top, width, height = (icon.get(key, icon_set.sizes[key]) for key in ("left", "top", "width", "height"))
    numbers = [left, top, width, height]
    if (
        not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        or min(numbers[2:]) <= 0
    ):
        raise ValueError(f"The drawing {name!r} of {icon_set.vendor} must have a positive size, but has {numbers}.")
    body = icon["body"]
    if mirrored:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}">{body}</svg>'


def check_svg(svg: str) -> None:
    """Refuse what could read a file, load a resource, run code or take unbounded time.

    Args:
        svg: A whole SVG. How often `use` may repeat what it points to is bounded by resvg itself.

    Raises:
        ValueError: If it is over 1 MiB, no XML, deeper than `MAX_DEPTH`, has a declaration, an element other than
            `ELEMENTS`, or a reference that leaves the file.

    Example:
        >>> check_svg('<svg xmlns="http://www.w3.org/2000/svg"><path fill="url(#a)" d="M1 1h2"/></svg>')
    """
    if len(svg) > MAX_CHARACTERS:
        raise ValueError(f"it must have at most {MAX_CHARACTERS} characters, but has {len(svg)}")
    if "<!" in svg or "<?" in svg:
        raise ValueError("it must be one element, but has a declaration")
    depth = 0
    try:
        for event, element in ET.iterparse(io.StringIO(svg), ["start", "end"]):
            depth += 1 if event == "start" else -1
            if depth > MAX_DEPTH:
                raise ValueError(f"it must nest at most {MAX_DEPTH} elements")
            _check_element(element)
    except ET.ParseError as error:
        raise ValueError(f"it must be XML, but is not: {error}") from error


def _check_element(element: ET.Element) -> None:
    if element.tag not in ELEMENTS:
        raise ValueError(f"it must draw with shapes, gradients and filters only, but has {element.tag!r}")
    for attribute, value in element.attrib.items():
        targets = re.findall(r"url\(\s*['\"]?\s*(.?)", value, re.IGNORECASE | re.DOTALL)
        targets += [value[:1]] if attribute.rpartition("}")[2] == "href" else []
        if any(target != "#" for target in targets) or "\\" in value:
            raise ValueError(f"it must refer only to parts of itself, but has {attribute}={value[:60]!r}")


def render_icon(icon_set: IconSet, name: str, *, mirrored: bool = False) -> PIL.Image.Image:
    """Draw one icon on white; what has no color of its own is black.

    Args:
        icon_set: Icon set of the vendor.
        name: One of `icon_set.icons`.
        mirrored: Whether to swap left and right.

    Returns:
        RGB of `SIDE` x `SIDE` pixels, which depend on the icon and on the version of resvg only.

    Raises:
        ValueError: If the SVG is refused, see `check_svg`, or cannot be drawn.
    """
    svg = icon_svg(icon_set, name, mirrored=mirrored)
    try:
        check_svg(svg)
        png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    except ValueError as error:
        raise ValueError(f"The drawing {name!r} of {icon_set.vendor} cannot be used: {error}.") from error
    with PIL.Image.open(io.BytesIO(png)) as image:
        return image.convert("RGB")
