"""Serve the search page and nothing else, by default only on this machine."""

import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.route_utils import CustomCORSMiddleware
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from uvicorn.config import HTTP_PROTOCOLS

from modeling_crh.app.finder import MAX_BYTES
from modeling_crh.app.search_page import source
from modeling_crh.runtime.terminal import plain_output, say

_OPEN = {
    "GET": r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static)/.{1,200}"
    r"|/gradio_api/(startup-events|queue/data|heartbeat/\w{1,200})",
    "POST": r"/gradio_api/queue/join",
}
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'none'",
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
}
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


class Hosts:
    """Host names that the page answers to; any other could be a web site's that points here to read the page.

    An address always leads to the machine that has it, so a page that listens on all addresses answers to each of them.

    Args:
        host: Address that the page listens on.
        allowed: Other names and addresses that lead to it, without scheme and port. Those of a Space come from
            `SPACE_HOST`, and it answers to every `*.hf.space`, since the Hub alone gives out such names.

    Raises:
        ValueError: If one of `allowed` is no name or address.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self.named = {_bare(name) for name in allowed}
        for name in self.named:
            if not re.fullmatch(r"[\w.-]+", name, re.ASCII) and not _is_address(name):
                raise ValueError(
                    "`allowed_hosts` must be names or addresses without scheme and port, such as 'photos.example.org', "
                    f"but got {name!r}."
                )
        of_space = os.environ.get("SPACE_HOST", "")
        self.named |= {_bare(name.strip()) for name in of_space.split(",") if name.strip()}
        self.names = self.named | _THIS_MACHINE | {_bare(host)}
        self.suffix = ".hf.space" if of_space else None
        self.on_all = _is_address(_bare(host)) and ipaddress.ip_address(_bare(host)).is_unspecified

    def admit(self, authority: str) -> bool:
        """Whether a request with this `Host` may pass, with or without a port."""
        name = _host_name(authority)
        is_of_hub = self.suffix is not None and name.endswith(self.suffix)
        return name in self.names or is_of_hub or (self.on_all and _is_address(name))

    def own(self, origin: str, authority: str) -> bool:
        """Whether an `Origin` is the page itself, by the `Host` of the request or by a name that it was given."""
        of_origin = origin.lower().partition("://")[2]
        return of_origin != "" and (of_origin == authority.lower() or _host_name(of_origin) in self.named)


def _bare(name: str) -> str:
    return name.lower().removeprefix("[").removesuffix("]")


def _host_name(authority: str) -> str:
    """Return the host of `host:port`, without the brackets of an IPv6 address; empty if it is malformed."""
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d*)?", authority.lower(), re.ASCII)
    return "" if found is None else found[1] or found[2]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Gate:
    """ASGI middleware that closes Gradio's routes for files, uploads and programs, and limits the size of requests.

    A request reads only the page's own scripts and styles from the disk, and writes nothing to it. It must ask for
    one of the page's names, come from no page of another site, and have at most `max_bytes`.
    """

    def __init__(self, app: Any, max_bytes: int, hosts: Hosts) -> None:
        self.app, self.max_bytes, self.hosts = app, max_bytes, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through, or answer 403, 404, 411 or 413."""
        if scope["type"] == "lifespan":
            _take_out_cors(scope["app"])
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
        host, origin, forwarded = (
            [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
            for wanted in (b"host", b"origin", b"x-forwarded-host")
        )
        said = [name.strip() for names in forwarded for name in names.split(",")]  # Gradio writes it into the page
        if len(host) != 1 or not all(map(self.hosts.admit, host + said)):
            return PlainTextResponse(
                "This host name is not allowed; start the page with `crh app --allowed-host NAME`.", 403
            )
        if not all(self.hosts.own(one, host[0]) for one in origin):
            return PlainTextResponse(
                "Requests from pages of other sites are refused; see `crh app --allowed-host`.", 403
            )
        method = "GET" if scope.get("method") == "HEAD" else scope.get("method", "")
        if not re.fullmatch(_OPEN.get(method, ""), scope["path"]):
            return PlainTextResponse("Not found", 404)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        if (method == "POST" and length is None) or b"transfer-encoding" in headers:
            return PlainTextResponse("Content-Length is required", 411)
        if length is not None and int(length) > self.max_bytes:
            return PlainTextResponse("Too large", 413)
        return None


def _take_out_cors(app: Any) -> None:
    """Take Gradio's CORS middleware out when the server starts: it comes before the gate and lets other sites read."""
    app.user_middleware = [kept for kept in app.user_middleware if kept.cls is not CustomCORSMiddleware]
    app.middleware_stack = app.build_middleware_stack()


_MAX_REQUEST = MAX_BYTES * 4 // 3 + 100_000  # an image in base 64, and Gradio's own fields


@contextmanager
def serving(
    page: gr.Blocks, host: str | None = None, port: int | None = None, allowed_hosts: Iterable[str] = ()
) -> Iterator[str]:
    """Serve the page while the context lasts; yield its address.

    Args:
        page: Page from `build_page`.
        host: Address to listen on; None takes `GRADIO_SERVER_NAME`, which a Space sets, or else only this machine.
        port: Port to listen on; None takes `GRADIO_SERVER_PORT`, or else the first free one from 7860 on.
        allowed_hosts: Names and addresses by which the page may be asked for, beside `host` and those of this machine;
            see `Hosts`.

    Raises:
        ValueError: If address or port cannot be used, or one of `allowed_hosts` is no name or address.
    """
    host = host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    gate = Middleware(Gate, max_bytes=_MAX_REQUEST, hosts=Hosts(host, allowed_hosts))
    settings: dict[str, Any] = {
        "theme": gr.themes.Base(font=[], font_mono=[], text_size=gr.themes.sizes.text_md),  # page.css has the rest
        "head": f"<style>{source('page.css')}</style>",
        "app_kwargs": {"middleware": [gate], "openapi_url": None},
        "max_file_size": MAX_BYTES,
        "footer_links": [],
        "prevent_thread_lock": True,
        "quiet": True,
    }
    closed = ("inbrowser", "inline", "share", "show_error", "run_history", "enable_monitoring", "ssr_mode")
    settings |= dict.fromkeys((*closed, "pwa", "mcp_server"), False)
    _check_address(host, port)
    chosen, HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["auto"], HTTP_PROTOCOLS["h11"]  # httptools takes heads of any size
    try:
        page.launch(server_name=host, server_port=port, num_workers=0, **settings)
    finally:
        HTTP_PROTOCOLS["auto"] = chosen
    try:
        yield str(page.local_url)
    finally:
        page.close(verbose=False)


def serve(page: gr.Blocks, host: str | None = None, port: int | None = None, allowed_hosts: Iterable[str] = ()) -> None:
    """Serve the page until Ctrl-C, and print its address; see `serving`."""
    with serving(page, host, port, allowed_hosts) as address:
        say(f"The search page is at {address}")
        with plain_output():  # Gradio prints what a visitor has sent in the traceback of an error
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
