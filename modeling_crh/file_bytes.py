"""Read the bytes of an image or a recording, wherever it lies: a path, a URL or base64 text."""

import base64
import binascii
import errno
import os
import re
import stat
from pathlib import Path
from typing import Any

import fsspec
from huggingface_hub import get_session

try:
    from huggingface_hub.utils import httpx as httpx  # type: ignore[attr-defined] # httpx2 from huggingface_hub 2.0 on
except ImportError:  # huggingface_hub before 1.31
    import httpx  # type: ignore[no-redef]


class UnreadableError(ValueError):
    """A file that cannot be read; a failure of the machine, such as a denied permission, is no such error.

    Attributes:
        rule: What a file must be, for the message; a subclass says it.
        reason: What is wrong with it, in a few words.
        name: Name of the file; empty where it has none.
    """

    rule = "A file must be complete"

    def __init__(self, reason: str, name: str = "") -> None:
        self.reason, self.name = reason, name
        super().__init__(f"{self.rule}, but {name or 'it'} is not: {reason}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.name)  # a worker process may send it


def read_bytes(source: str | Path | bytes) -> bytes:
    """Read a file from a path, a URL (http, or any that fsspec reads) or base64 text; bytes are returned as they are.

    Raises:
        UnreadableError: If there is no such file, it is no regular file, or a server does not answer.
        OSError: If the machine cannot read the file, such as for a denied permission.
        ModuleNotFoundError: If a URL needs a package that is not installed.
    """
    if isinstance(source, bytes):
        return source
    text = str(source)
    if text.startswith(("http://", "https://")):
        return _download(text)
    if text.startswith(("data:image/", "data:audio/")):
        return _from_base64(text.partition(",")[2])
    if "://" in text:
        return _fetch(text)
    try:
        if not stat.S_ISREG(os.stat(text).st_mode):  # a pipe would wait for ever
            raise UnreadableError("it is a folder" if os.path.isdir(text) else "it is a pipe, socket or device")
        return Path(text).read_bytes()
    except OSError as error:
        if isinstance(source, str) and _is_base64(text):
            return _from_base64(text)
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise UnreadableError(error.strerror or "no such file") from error
        raise
    except ValueError as error:  # a name with a zero byte
        raise error if isinstance(error, UnreadableError) else UnreadableError(str(error)) from error


def _is_base64(text: str) -> bool:
    return len(text) >= 64 and re.fullmatch(r"[A-Za-z0-9+/\s]+={0,2}\s*", text) is not None


def _download(url: str) -> bytes:
    try:
        response = get_session().get(url, follow_redirects=True, timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreadableError(f"the server could not be reached: {error}") from error
    if response.is_error:
        raise UnreadableError(f"the server answered {response.status_code}")
    content: bytes = response.content
    return content


def _fetch(url: str) -> bytes:
    """The bytes behind a URL of another kind than http."""
    try:
        with fsspec.open(url) as file:
            content: bytes = file.read()
    except FileNotFoundError as error:
        raise UnreadableError(error.strerror or "No such file or directory") from error
    except ImportError as error:  # fsspec knows the scheme, but its package is missing
        raise ModuleNotFoundError(f"{url} cannot be read: {error}") from error
    except ValueError as error:  # a scheme that nobody knows
        raise UnreadableError(str(error).rstrip(".")) from error
    except httpx.HTTPError as error:
        raise UnreadableError(f"the server could not be reached: {error}") from error
    return content


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableError("its base64 text is damaged") from error
