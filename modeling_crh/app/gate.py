"""What the server of the page answers to: the page, its scripts and its queue; and nothing else that Gradio can do."""

import re
from typing import Any

from starlette.responses import PlainTextResponse

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
    """ASGI middleware: closes Gradio's routes for files, uploads and programs, and bounds what is sent.

    Nothing but the page's own scripts and styles is read from the disk for a request, and nothing is written to it.

    Args:
        app: What is behind it.
        max_bytes: Of a request.
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
