"""Serve the search page and nothing else, by default only on this machine."""

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from modeling_crh.app.finder import MAX_BYTES
from modeling_crh.app.search_page import source
from modeling_crh.runtime.terminal import say

_OPEN = {
    "GET": r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static)/.+"
    r"|/gradio_api/(startup-events|queue/data|heartbeat/\w+)",
    "POST": r"/gradio_api/queue/join",
}
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'none'",
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
}


class Gate:
    """ASGI middleware that closes Gradio's routes for files, uploads and programs, and limits the size of requests.

    A request reads only the page's own scripts and styles from the disk, and writes nothing to it.

    Args:
        app: ASGI app behind the gate.
        max_bytes: Largest length of a request in bytes.
    """

    def __init__(self, app: Any, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through, or answer 403, 404, 411 or 413."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = event | {"headers": [*event.get("headers", []), *_HEADERS.items()]}
            await send(event)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Any) -> PlainTextResponse | None:
        method = "GET" if scope.get("method") == "HEAD" else scope.get("method", "")
        if not re.fullmatch(_OPEN.get(method, ""), scope["path"]):
            return PlainTextResponse("Not found", 404)
        length = dict(scope["headers"]).get(b"content-length")
        if method == "POST" and length is None:
            return PlainTextResponse("Say how long it is", 411)
        if length is not None and int(length) > self.max_bytes:
            return PlainTextResponse("Too large", 413)
        return None


_MAX_REQUEST = MAX_BYTES * 4 // 3 + 100_000  # an image in base 64, and Gradio's own fields


@contextmanager
def serving(page: gr.Blocks, host: str | None = None, port: int | None = None) -> Iterator[str]:
    """Serve the page while the context lasts; yield its address.

    Args:
        page: Page from `build_page`.
        host: Address to listen on; None takes `GRADIO_SERVER_NAME`, which a Space sets, or else only this machine.
        port: Port to listen on; None takes `GRADIO_SERVER_PORT`, or else the first free one from 7860 on.

    Raises:
        ValueError: If address or port cannot be used.
    """
    settings: dict[str, Any] = {
        "theme": gr.themes.Base(font=[], font_mono=[], text_size=gr.themes.sizes.text_md),  # page.css has the rest
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
    """Serve the page until Ctrl-C, and print its address; see `serving`."""
    with serving(page, host, port) as address:
        say(f"The search page is at {address}")
        wait_for_interrupt()


def wait_for_interrupt() -> None:
    """Wait until Ctrl-C."""
    threading.Event().wait()


def _check_address(host: str, port: int | None) -> None:
    """Check that the address can be bound: Gradio would try every port for minutes if the host is wrong."""
    for name, value, tried in (("host", host, 0), ("port", port, port or 0)):
        try:
            family, *_, address = socket.getaddrinfo(host.strip("[]"), tried, type=socket.SOCK_STREAM)[0]
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            rule = {"host": "an address of this machine", "port": "free"}[name]
            raise ValueError(f"`{name}` must be {rule}, but got {value!r}: {error.strerror}.") from error
