"""Talk to the page's server as its scripts do, or as somebody would who pretends to be one of them."""

import json
from typing import Any

import httpx


def dependencies(address: str) -> dict[str, dict[str, Any]]:
    """What the page's server can be asked to do, by the name of its function."""
    return {found["api_name"]: found for found in httpx.get(f"{address}config").json()["dependencies"]}


def ask(address: str, name: str, data: list[Any], event: Any = None, session: str = "stranger") -> dict[str, Any]:
    """Put one question into the queue, and wait for what comes of it: the last message about it."""
    found = dependencies(address)[name]
    body = {"data": data, "event_data": event, "fn_index": found["id"], "session_hash": session}
    joined = httpx.post(f"{address}gradio_api/queue/join", json=body | {"trigger_id": found["targets"][0][0]})
    joined.raise_for_status()
    with httpx.stream("GET", f"{address}gradio_api/queue/data", params={"session_hash": session}, timeout=60) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the queue has ended without an answer")
