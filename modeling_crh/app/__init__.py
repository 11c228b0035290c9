"""The search page: Gradio around an index and its model. It contacts no other server."""

import os

from modeling_crh.checks import needs_extra

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported

with needs_extra("The search page", "app"):
    import gradio  # noqa: F401

from modeling_crh.app.search_page import build_page
from modeling_crh.app.server import serve

__all__ = ["build_page", "serve"]
