"""The search page: Gradio around an index and its model. It contacts no other server."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported

try:
    import gradio  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"The search page needs {error.name}; run `pip install 'modeling-crh[app]'`.", name=error.name
    ) from error

from modeling_crh.app.search_page import build_page
from modeling_crh.app.server import serve

__all__ = ["build_page", "serve"]
