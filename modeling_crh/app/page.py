"""The page: ask by an image of one's own or one of the database, and see what lies nearest, bit by bit."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from modeling_crh.app.finder import Finder, Query
from modeling_crh.app.pictures import folder_pictures, no_pictures, stored_pictures
from modeling_crh.app.render import render, render_answer, source
from modeling_crh.app.uploads import MAX_BYTES, read_upload
from modeling_crh.search import HammingIndex

_LARGEST_K = 60
_FIRST_K = 12
_GALLERY = 12


def build_page(
    index: str | Path,
    model: str,
    *,
    image_root: str | Path | None = None,
    pictures: str | Path | None = None,
) -> gr.Blocks:
    """Build the search page of an index; `modeling_crh.app.server` shows it.

    Args:
        index: File of an index of images.
        model: Folder or Hub id of the model that made its codes.
        image_root: Folder of the images of the database. Without it, and for paths that lead out of it, items are shown
            by label and name.
        pictures: Instead of it, the file of thumbnails that a Space holds.

    Raises:
        ValueError: If an argument breaks its rule, or the model is not the one of the index.
    """
    if image_root is not None and pictures is not None:
        raise ValueError("`image_root` must be left out with `pictures`, but both are given.")
    loaded = HammingIndex.load(index)
    chosen = no_pictures
    if image_root is not None:
        chosen = folder_pictures(image_root)
    if pictures is not None:
        chosen = stored_pictures(pictures)
    return _lay_out(Finder(loaded, model, chosen))


def _lay_out(finder: Finder) -> gr.Blocks:
    index = finder.index
    with gr.Blocks(title="Search by binary codes", analytics_enabled=False) as page:
        asked = gr.State(None)
        _html(render("header", index=index, model=finder.model_name))
        with gr.Row(elem_id="crh-columns"):
            with gr.Column(scale=1, min_width=280, elem_id="crh-ask"):
                upload = _html(
                    render("upload"), js_on_load=source("upload.js"), max_bytes=MAX_BYTES, elem_id="crh-upload"
                )
                message = _html(_message(""))
                gallery = _html(_gallery(finder, _spread(len(index))), js_on_load=source("select.js"))
                others = gr.Button("Show others", size="sm", visible=len(index) > _GALLERY)
                most = min(_LARGEST_K, len(index))
                k = gr.Slider(1, max(2, most), min(_FIRST_K, most), step=1, label="Images to show", buttons=[])
                radius = gr.Slider(0, index.num_bits, index.num_bits, step=1, label="Radius, in bits", buttons=[])
            with gr.Column(scale=3, min_width=300):
                answer = _html(
                    render("hint", index=index),
                    js_on_load=source("select.js") + source("answer.js"),
                    elem_id="crh-answer",
                )
        _connect(finder, asked, upload, message, gallery, others, k, radius, answer)
    page.queue(max_size=32, default_concurrency_limit=2)
    return page


def _connect(
    finder: Finder, asked: Any, upload: Any, message: Any, gallery: Any, others: Any, k: Any, radius: Any, answer: Any
) -> None:
    """Say what happens when something is clicked; nothing of it is an endpoint for programs."""
    closed: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def ask(find: Any, count: float, bits: float) -> tuple[Any, str, Any]:
        try:
            query = find()
        except ValueError as error:  # its sentence is for the person who asks
            return gr.skip(), _message(str(error)), gr.skip()
        return query, _message(""), _answer(finder, query, count, bits)

    def by_image(count: float, bits: float, event: gr.EventData) -> tuple[Any, str, Any]:
        sent = _sent(event)
        return ask(lambda: finder.of_image(read_upload(sent.get("content"), sent.get("size"))), count, bits)

    def by_item(count: float, bits: float, event: gr.EventData) -> tuple[Any, str, Any]:
        return ask(lambda: finder.of_item(_sent(event).get("position")), count, bits)

    def again(query: Query | None, count: float, bits: float) -> Any:
        return gr.skip() if query is None else _answer(finder, query, count, bits)

    def shuffle() -> str:
        return _gallery(finder, np.random.default_rng().choice(len(finder.index), _GALLERY, replace=False))

    changed = [asked, message, answer]
    upload.upload(by_image, [k, radius], changed, **closed)
    for tiles in (gallery, answer):
        tiles.select(by_item, [k, radius], changed, **closed)
    for slider in (k, radius):
        slider.change(again, [asked, k, radius], answer, trigger_mode="always_last", **closed)
    others.click(shuffle, None, gallery, **closed)


def _html(content: str, **settings: Any) -> Any:
    """A part of the page, with no style but ours."""
    return gr.HTML(content, apply_default_css=False, **({"js_on_load": None} | settings))


def _sent(event: gr.EventData) -> dict[str, Any]:
    """What a script of the page has sent, or somebody who pretends to be one."""
    return event._data if isinstance(event._data, dict) else {}


def _answer(finder: Finder, query: Query, count: float, bits: float) -> str:
    index = finder.index
    k = int(np.clip(count, 1, min(_LARGEST_K, len(index))))
    radius = int(np.clip(bits, 0, index.num_bits))
    return render_answer(finder.search(query, k, radius), len(index), k, radius, index.num_bits)


def _gallery(finder: Finder, positions: Any) -> str:
    return render("gallery", items=finder.items(positions))


def _spread(num_items: int) -> Any:
    """Positions from the whole database, which often stands in the order of its classes."""
    return np.linspace(0, num_items - 1, min(_GALLERY, num_items)).astype(np.int64)


def _message(text: str) -> str:
    return render("message", text=text)
