"""Build the search page: layout, event handlers, and the HTML of its parts."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from modeling_crh.app.finder import MAX_BYTES, Answer, Finder, Item, folder_pictures, read_upload, stored_pictures
from modeling_crh.runtime.html import page_templates
from modeling_crh.search import read_index

LARGEST_K = 60
GALLERY = 12  # images of the database to choose from
_FIRST_K = 12
_MOST_WAITING = 32  # requests in the queue; later ones are asked to try again
_TEMPLATES = Path(__file__).parent / "templates"
_CELL, _GAP = 8, 1

Changes = tuple[Any, str, Any]
"""A visitor's query, a message, and the answer as HTML."""


def bit_pattern(code: NDArray[np.uint8], query: NDArray[np.uint8] | None = None) -> Markup:
    """Draw a packed code as an SVG of K cells, row by row from the first bit on, about four times as wide as high.

    The bits that differ from a packed query are marked.

    Example:
        >>> print(bit_pattern(np.array([0b10000001], np.uint8), np.array([0b10000000], np.uint8)))
        <svg class="bits" viewBox="0 0 63 7" role="img" aria-label="1 bit differs: 8"><path ...
    """
    bits = np.unpackbits(code).astype(bool)  # (K,)
    differs = np.zeros_like(bits) if query is None else bits != np.unpackbits(query).astype(bool)
    fitting = [width for width in (8, 16, 32, 64) if len(bits) % width == 0 and width * width <= 4 * len(bits)]
    columns, side = max(fitting, default=8), _CELL - _GAP
    kinds = {"one": bits & ~differs, "zero": ~(bits | differs)}
    kinds |= {"other-one": bits & differs, "other-zero": ~bits & differs}
    drawn = Markup("")
    for name, chosen in kinds.items():
        cells = [divmod(number, columns) for number in np.flatnonzero(chosen).tolist()]
        squares = "".join(f"M{column * _CELL} {row * _CELL}h{side}v{side}h-{side}z" for row, column in cells)
        drawn += Markup('<path class="{}" d="{}"/>').format(name, squares) if cells else ""
    numbers = (np.flatnonzero(differs) + 1).tolist()
    if query is None:
        label = f"Code of {len(bits)} bits: {code.tobytes().hex()}"
    elif not numbers:
        label = "No bit differs"
    else:
        verb = "bit differs" if len(numbers) == 1 else "bits differ"
        label = f"{len(numbers)} {verb}: {', '.join(map(str, numbers))}"
    width, height = (count * _CELL - _GAP for count in (columns, -(-len(bits) // columns)))
    frame = '<svg class="bits" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return Markup(frame).format(width, height, label, drawn)


def milliseconds(value: float) -> str:
    """Write a duration with two significant digits.

    Example:
        >>> milliseconds(0.0734), milliseconds(3.21), milliseconds(123.4)
        ('0.073 ms', '3.2 ms', '123 ms')
    """
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


@cache
def _environment() -> Environment:
    return page_templates(_TEMPLATES, bit_pattern=bit_pattern, milliseconds=milliseconds)


def render(name: str, **values: Any) -> str:
    """Fill in a template of the page, which escapes all values."""
    return _environment().get_template(f"{name}.html").render(**values)


def render_answer(answer: Answer, num_items: int, k: int, radius: int, num_bits: int) -> str:
    """Render a query and the `k` nearest of `num_items` items within `radius` of `num_bits` bits."""
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
    """Read a script or a style sheet of the page."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


class Conversation:
    """Event handlers of the page. They keep nothing of a visitor but the query that they return."""

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    def by_image(self, k: float, radius: float, event: gr.EventData) -> Changes:
        """Search with an uploaded image."""
        sent = _sent(event)
        return self._ask(lambda: self.finder.of_image(read_upload(sent.get("content"), sent.get("size"))), k, radius)

    def by_text(self, text: str | None, k: float, radius: float) -> Changes:
        """Search with a text."""
        return self._ask(lambda: self.finder.of_text(text), k, radius)

    def by_item(self, k: float, radius: float, event: gr.EventData) -> Changes:
        """Search with an item that was clicked."""
        return self._ask(lambda: self.finder.of_item(_sent(event).get("position")), k, radius)

    def again(self, query: Item | None, k: float, radius: float) -> Any:
        """Repeat the query with new slider values."""
        return gr.skip() if query is None else self._answer(query, k, radius)

    def gallery(self) -> str:
        """Show items spread over the whole database, which is often sorted by class."""
        num_items = len(self.finder.index)
        return self._show(np.linspace(0, num_items - 1, min(GALLERY, num_items)).astype(np.int64))

    def others(self) -> str:
        """Show other items, at random."""
        num_items = len(self.finder.index)
        return self._show(np.random.default_rng().choice(num_items, min(GALLERY, num_items), replace=False))

    def _ask(self, find: Callable[[], Item], k: float, radius: float) -> Changes:
        try:
            query = find()
        except ValueError as error:  # its message is for the visitor
            return gr.skip(), render("message", text=str(error)), gr.skip()
        return query, render("message", text=""), self._answer(query, k, radius)

    def _answer(self, query: Item, k: float, radius: float) -> str:
        num_items, num_bits = len(self.finder.index), self.finder.index.num_bits
        most, bits = int(np.clip(k, 1, min(LARGEST_K, num_items))), int(np.clip(radius, 0, num_bits))
        return render_answer(self.finder.search(query, most, bits), num_items, most, bits, num_bits)

    def _show(self, positions: NDArray[np.int64]) -> str:
        return render("gallery", items=self.finder.items(positions))


def _sent(event: gr.EventData) -> dict[str, Any]:
    """Return the data of an event, which may not come from a script of the page."""
    return event._data if isinstance(event._data, dict) else {}


def build_page(
    index: str | Path,
    model: str,
    *,
    text_model: str | None = None,
    image_root: str | Path | None = None,
    pictures: str | Path | None = None,
    **settings: Any,
) -> gr.Blocks:
    """Build the search page of an index; `modeling_crh.app.server` shows it.

    Args:
        index: File or table from `crh index`, of codes of images; it is read into memory.
        model: Folder or Hub id of the model that made the codes.
        text_model: Folder or Hub id of a model of texts that was trained to the centers of `model`, to search by words.
        image_root: Folder of the images of the database. Without it, and for paths that lead out of it, only label and
            name of an item are shown.
        pictures: File of thumbnails, as in a Space, to show instead of images.
        **settings: `dtype` and `compiled` of the `Encoder`, see `load_encoder`.

    Raises:
        ValueError: If an argument cannot be used, another model made the codes, or `text_model` has other centers.
    """
    if image_root is not None and pictures is not None:
        raise ValueError("`image_root` must be left out with `pictures`, but both are given.")
    loaded = read_index(index)
    if pictures is not None:
        settings["pictures"] = stored_pictures(pictures)
    elif image_root is not None:
        settings["pictures"] = folder_pictures(image_root, loaded)
    return _lay_out(Finder(loaded, model, text_model=text_model, **settings))


def _lay_out(finder: Finder) -> gr.Blocks:
    index, talk = finder.index, Conversation(finder)
    page = gr.Blocks(title="Search by binary codes", analytics_enabled=False)
    with page:
        asked = gr.State(None)
        _html(render("header", index=index, model=finder.model_name))
        with gr.Row(elem_id="crh-columns"):
            with gr.Column(scale=1, min_width=280, elem_id="crh-ask"):
                words = gr.Textbox(label="Words to search by", max_lines=1) if finder.reads_texts else None
                upload = _html(render("upload"), "upload.js", max_bytes=MAX_BYTES, elem_id="crh-upload")
                message = _html(render("message", text=""))
                gallery = _html(talk.gallery(), "select.js")
                others = gr.Button("Show others", size="sm", visible=len(index) > GALLERY)
                most = min(LARGEST_K, len(index))
                k = gr.Slider(1, max(2, most), min(_FIRST_K, most), step=1, label="Images to show", buttons=[])
                radius = gr.Slider(0, index.num_bits, index.num_bits, step=1, label="Radius, in bits", buttons=[])
            with gr.Column(scale=3, min_width=300):
                answer = _html(
                    render("hint", index=index, reads_texts=finder.reads_texts),
                    "select.js",
                    "answer.js",
                    elem_id="crh-answer",
                )
        closed: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # to programs
        changed = [asked, message, answer]
        upload.upload(talk.by_image, [k, radius], changed, **closed)
        if words is not None:
            words.submit(talk.by_text, [words, k, radius], changed, **closed)
        gallery.select(talk.by_item, [k, radius], changed, **closed)
        answer.select(talk.by_item, [k, radius], changed, **closed)
        for slider in (k, radius):
            slider.change(talk.again, [asked, k, radius], answer, trigger_mode="always_last", **closed)
        others.click(talk.others, None, gallery, **closed)
    page.queue(max_size=_MOST_WAITING, default_concurrency_limit=2)
    return page


def _html(content: str, *scripts: str, **settings: Any) -> Any:
    """Make a part of the page from HTML and our scripts, without Gradio's styles."""
    script = "\n".join(source(name) for name in scripts)
    return gr.HTML(content, js_on_load=script or None, apply_default_css=False, **settings)
