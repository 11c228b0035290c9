"""Show the page: on this machine alone, unless told otherwise, and without a word to anybody else."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from modeling_crh.app.gate import Gate
from modeling_crh.app.render import source
from modeling_crh.app.theme import page_theme
from modeling_crh.app.uploads import MAX_BYTES

_MAX_REQUEST = MAX_BYTES * 4 // 3 + 100_000  # an image in base 64, and what Gradio says about it


@contextmanager
def serving(page: gr.Blocks, host: str | None = None, port: int | None = None) -> Iterator[str]:
    """Serve the page while the context lasts; gives its address.

    Args:
        page: From `build_page`.
        host: Address to listen at; None is `GRADIO_SERVER_NAME`, which a Space sets, or else this machine alone.
        port: None is `GRADIO_SERVER_PORT`, or else the first free one from 7860 on.

    Raises:
        ValueError: If it cannot listen there.
    """
    settings: dict[str, Any] = {
        "theme": page_theme(),
        "head": f"<style>{source('page.css')}</style>",
        "app_kwargs": {"middleware": [Middleware(Gate, max_bytes=_MAX_REQUEST)], "openapi_url": None},
        "max_file_size": MAX_BYTES,
        "footer_links": [],
        "prevent_thread_lock": True,
        "quiet": True,
    }
    closed = ("inbrowser", "inline", "share", "show_error", "run_history", "enable_monitoring", "ssr_mode")
    settings |= dict.fromkeys((*closed, "pwa", "mcp_server"), False)
    host = host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    _check_address(host, port)
    page.launch(server_name=host, server_port=port, num_workers=0, **settings)
    try:
        yield str(page.local_url)
    finally:
        page.close(verbose=False)


def serve(page: gr.Blocks, host: str | None = None, port: int | None = None) -> None:
    """Serve the page until Ctrl-C. See `serving`."""
    with serving(page, host, port) as address:
        print(f"The search page is at {address}", flush=True)
        wait_for_interrupt()


def wait_for_interrupt() -> None:
    """Wait until Ctrl-C."""
    threading.Event().wait()


def _check_address(host: str, port: int | None) -> None:
    """Try to listen there, since Gradio tries every other port for minutes where the host is wrong."""
    for name, value, tried in (("host", host, 0), ("port", port, port or 0)):
        try:
            family, *_, address = socket.getaddrinfo(host.strip("[]"), tried, type=socket.SOCK_STREAM)[0]
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            rule = {"host": "an address of this machine", "port": "free"}[name]
            raise ValueError(f"`{name}` must be {rule}, but got {value!r}: {error.strerror}.") from error
