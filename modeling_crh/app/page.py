"""The page: ask by an image of one's own or one of the database, and see what lies nearest, bit by bit."""

from pathlib import Path
from typing import Any

import gradio as gr

from modeling_crh.app.conversation import GALLERY, LARGEST_K, Conversation
from modeling_crh.app.finder import Finder
from modeling_crh.app.pictures import Pictures, folder_pictures, no_pictures, stored_pictures
from modeling_crh.app.render import render, source
from modeling_crh.app.uploads import MAX_BYTES
from modeling_crh.search import read_index

_FIRST_K = 12
_MOST_WAITING = 32  # requests; whoever comes later is told to try again


def build_page(
    index: str | Path,
    model: str,
    *,
    image_root: str | Path | None = None,
    pictures: str | Path | None = None,
) -> gr.Blocks:
    """Build the search page of an index; `modeling_crh.app.server` shows it.

    Args:
        index: Of images: the file or table that `crh index` wrote, read into memory.
        model: Folder or Hub id of the model that made its codes.
        image_root: Folder of the images of the database. Without it, and for paths that lead out of it, items are shown
            by label and name.
        pictures: Instead of it, the file of thumbnails that a Space holds.

    Raises:
        ValueError: If an argument breaks its rule, or the model is not the one of the index.
    """
    if image_root is not None and pictures is not None:
        raise ValueError("`image_root` must be left out with `pictures`, but both are given.")
    loaded = read_index(index)
    chosen: Pictures = no_pictures
    if image_root is not None:
        chosen = folder_pictures(image_root)
    if pictures is not None:
        chosen = stored_pictures(pictures)
    return _lay_out(Finder(loaded, model, chosen))


def _lay_out(finder: Finder) -> gr.Blocks:
    index, talk = finder.index, Conversation(finder)
    page = gr.Blocks(title="Search by binary codes", analytics_enabled=False)
    with page:
        asked = gr.State(None)
        _html(render("header", index=index, model=finder.model_name))
        with gr.Row(elem_id="crh-columns"):
            with gr.Column(scale=1, min_width=280, elem_id="crh-ask"):
                upload = _html(render("upload"), "upload.js", max_bytes=MAX_BYTES, elem_id="crh-upload")
                message = _html(render("message", text=""))
                gallery = _html(talk.gallery(), "select.js")
                others = gr.Button("Show others", size="sm", visible=len(index) > GALLERY)
                most = min(LARGEST_K, len(index))
                k = gr.Slider(1, max(2, most), min(_FIRST_K, most), step=1, label="Images to show", buttons=[])
                radius = gr.Slider(0, index.num_bits, index.num_bits, step=1, label="Radius, in bits", buttons=[])
            with gr.Column(scale=3, min_width=300):
                answer = _html(render("hint", index=index), "select.js", "answer.js", elem_id="crh-answer")
        closed: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # to programs
        changed = [asked, message, answer]
        upload.upload(talk.by_image, [k, radius], changed, **closed)
        gallery.select(talk.by_item, [k, radius], changed, **closed)
        answer.select(talk.by_item, [k, radius], changed, **closed)
        for slider in (k, radius):
            slider.change(talk.again, [asked, k, radius], answer, trigger_mode="always_last", **closed)
        others.click(talk.others, None, gallery, **closed)
    page.queue(max_size=_MOST_WAITING, default_concurrency_limit=2)
    return page


def _html(content: str, *scripts: str, **settings: Any) -> Any:
    """A part of the page, with scripts of ours and no style but ours."""
    script = "\n".join(source(name) for name in scripts)
    return gr.HTML(content, js_on_load=script or None, apply_default_css=False, **settings)
