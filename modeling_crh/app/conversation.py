"""What the page says to what a person does; it trusts nothing that comes from a browser."""

from collections.abc import Callable
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from modeling_crh.app.finder import Finder, Query
from modeling_crh.app.render import render, render_answer
from modeling_crh.app.uploads import read_upload

LARGEST_K = 60
GALLERY = 12
"""Images of the database to choose from."""

Changes = tuple[Any, str, Any]
"""The query, which Gradio keeps for each person apart; a message; and the answer."""


class Conversation:
    """The functions behind the page. What they keep of a person is the `Query` that they return.

    Args:
        finder: That answers.
    """

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    def by_image(self, k: float, radius: float, event: gr.EventData) -> Changes:
        """Ask by an image that has been sent."""
        sent = _sent(event)
        return self._ask(lambda: self.finder.of_image(read_upload(sent.get("content"), sent.get("size"))), k, radius)

    def by_item(self, k: float, radius: float, event: gr.EventData) -> Changes:
        """Ask by an item that has been clicked."""
        return self._ask(lambda: self.finder.of_item(_sent(event).get("position")), k, radius)

    def again(self, query: Query | None, k: float, radius: float) -> Any:
        """Ask the same once more, after a slider has moved."""
        return gr.skip() if query is None else self._answer(query, k, radius)

    def gallery(self) -> str:
        """Items from the whole database, which often stands in the order of its classes."""
        num_items = len(self.finder.index)
        return self._show(np.linspace(0, num_items - 1, min(GALLERY, num_items)).astype(np.int64))

    def others(self) -> str:
        """Other items, at random."""
        return self._show(np.random.default_rng().choice(len(self.finder.index), GALLERY, replace=False))

    def _ask(self, find: Callable[[], Query], k: float, radius: float) -> Changes:
        try:
            query = find()
        except ValueError as error:  # its sentence is for the person who asks
            return gr.skip(), render("message", text=str(error)), gr.skip()
        return query, render("message", text=""), self._answer(query, k, radius)

    def _answer(self, query: Query, k: float, radius: float) -> str:
        num_items, num_bits = len(self.finder.index), self.finder.index.num_bits
        most, bits = int(np.clip(k, 1, min(LARGEST_K, num_items))), int(np.clip(radius, 0, num_bits))
        return render_answer(self.finder.search(query, most, bits), num_items, most, bits, num_bits)

    def _show(self, positions: NDArray[np.int64]) -> str:
        return render("gallery", items=self.finder.items(positions))


def _sent(event: gr.EventData) -> dict[str, Any]:
    """What a script of the page has sent, or somebody who pretends to be one."""
    return event._data if isinstance(event._data, dict) else {}
