"""Read the bytes of an image or a recording, wherever it lies: a path, a URL or base64 text."""

import base64
import errno
import os
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import fsspec

try:
    from huggingface_hub.utils import httpx as httpx  # type: ignore[attr-defined] # httpx2 from huggingface_hub 2.0 on
except ImportError:  # huggingface_hub before 1.31
    import httpx  # type: ignore[no-redef]

MOST_BYTES = 100_000_000
"""Largest size of a file behind a URL."""

MOST_SECONDS = 60.0
"""Longest time that a file behind a URL may take, from the name of its server to its last byte."""

MOST_REDIRECTS = 5

_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "file")
"""Schemes that a row may have beside http and https, and the last part of a chain such as `zip://a.png::s3://b/c.zip`."""

_NAT64 = IPv6Network("64:ff9b::/96")  # its last 32 bits are an IPv4 address

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)

AllowedUrls = str | Literal[True] | None
"""Hosts, separated by commas, that URLs may lead to; True for any, as where the user names the URL; None for none.

A host is written as HOST or HOST:PORT, and in an object store as the bucket. "all" stands for every public address.
"""


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


def read_bytes(source: str | Path | bytes, *, allow_urls: AllowedUrls = True) -> bytes:
    """Read a file from a path, a URL (http, or any that fsspec reads) or base64 text; bytes are returned as they are.

    What a URL leads to may have `MOST_BYTES`, and take `MOST_SECONDS` and `MOST_REDIRECTS`.

    Args:
        source: Path, URL, base64 text or bytes.
        allow_urls: Hosts that a URL may lead to. Other hosts than the named ones must have a public address, whatever
            leads to them, and are asked without the proxy of the environment, which would look up their names itself.

    Raises:
        UnreadableError: If there is no such file, it is no regular file, or a server does not answer.
        ValueError: If `source` is a URL that `allow_urls` does not allow.
        OSError: If the machine or an object store cannot read the file, such as for a denied permission.
        ModuleNotFoundError: If a URL needs a package that is not installed.
    """
    if isinstance(source, bytes):
        return source
    text = str(source)
    if is_url(text):
        return _read_url(text, allow_urls)
    if text.startswith(("data:image/", "data:audio/")):
        return _from_base64(text.partition(",")[2])
    try:
        _check_regular(text)
        return Path(text).read_bytes()
    except OSError as error:
        if isinstance(source, str) and _is_base64(text):
            return _from_base64(text)
        if error.errno in _NOT_THERE:
            raise UnreadableError(error.strerror or "no such file") from error
        raise
    except ValueError as error:  # a name with a zero byte
        raise error if isinstance(error, UnreadableError) else UnreadableError(str(error)) from error


def stored_source(stored: Mapping[str, Any]) -> Any:
    """What a row holds: its bytes or its path, and for a URL the bytes behind it.

    Args:
        stored: `{"bytes": ..., "path": ...}`, as `datasets` stores an image or a sound; and `allow_urls`, where URLs in
            the row may be read, see `read_bytes`.

    Raises:
        UnreadableError: If there are neither bytes nor a path, or a URL cannot be read.
        ValueError: If there is a URL that `allow_urls` does not allow.
        OSError: See `read_bytes`.
    """
    source = stored.get("path") if stored.get("bytes") is None else stored["bytes"]
    if source is None:
        raise UnreadableError("it is missing")
    if isinstance(source, str) and is_url(source):
        return read_bytes(source, allow_urls=stored.get("allow_urls"))
    return source


def is_url(text: str) -> bool:
    """Whether a text is a URL of any scheme but `data:`."""
    return "://" in text and not text.startswith("data:")


def _check_regular(path: str) -> None:
    """Refuse what is no regular file; a pipe would wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnreadableError("it is a folder" if os.path.isdir(path) else "it is a pipe, socket or device")


def _is_base64(text: str) -> bool:
    return len(text) >= 64 and re.fullmatch(r"[A-Za-z0-9+/\s]+={0,2}\s*", text) is not None


def _read_url(url: str, allow_urls: AllowedUrls) -> bytes:
    """Read a URL in a thread, which is left behind where it takes too long: any of its steps may wait for a server."""
    is_http = url.lower().startswith(("http://", "https://"))
    if allow_urls is None:
        raise _not_allowed(url, None)
    done: Future[bytes] = Future()
    Thread(target=_settle, args=(done, partial(_download if is_http else _fetch, url, allow_urls)), daemon=True).start()
    try:
        return done.result(MOST_SECONDS)
    except TimeoutError as error:
        late = f"took longer than {MOST_SECONDS:g} seconds"
        raise UnreadableError(f"it {late}") if is_http else TimeoutError(f"{url} {late}") from error


def _settle(done: Future[bytes], read: Callable[[], bytes]) -> None:
    try:
        done.set_result(read())
    except BaseException as error:  # raised again where the result is awaited
        done.set_exception(error)


def _not_allowed(url: str, allow_urls: AllowedUrls) -> ValueError:
    return ValueError(
        "URLs in rows are read only with `--allow-urls` (`allow_urls=...`), which must be 'all' or name their hosts, "
        f"but got {allow_urls!r} and {url!r:.300}."
    )


def _entries(allow_urls: str) -> set[str]:
    return {entry.strip().lower() for entry in allow_urls.split(",")}


def _download(url: str, allow_urls: str | Literal[True]) -> bytes:
    """The bytes behind an http URL; every server that leads to them is named, or has a public address."""
    end, target = time.monotonic() + MOST_SECONDS, url
    for _ in range(MOST_REDIRECTS + 1):
        try:
            address = httpx.URL(target)
            named = allow_urls is True or _names_host(allow_urls, address)
            if not named and "all" not in _entries(str(allow_urls)):
                if target == url:
                    raise _not_allowed(url, allow_urls)
                raise UnreadableError(f"it leads to {target}, whose host `allow_urls` does not name")
            with ExitStack() as opened:
                settings = {"cookies": CookieJar(DefaultCookiePolicy(allowed_domains=())), "verify": _certificates()}
                client = opened.enter_context(httpx.Client(trust_env=named, **settings))  # no server's cookies go on
                response = opened.enter_context(
                    client.stream(
                        "GET",
                        address,
                        headers={"Accept-Encoding": "identity"},  # what is packed could be any size
                        follow_redirects=False,
                        timeout=30,
                        extensions={} if named else {"trace": _refuse_private},
                    )
                )
                if response.next_request is None:
                    return _content(response, end)
                target = str(response.next_request.url)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last of a part of the name, as in a..b
            raise UnreadableError(f"the server could not be reached: {error}") from error
    raise UnreadableError(f"it is redirected more than {MOST_REDIRECTS} times")


@cache
def _certificates() -> Any:
    return httpx.create_ssl_context()  # which takes as long as a request


def _names_host(allow_urls: str, address: httpx.URL) -> bool:
    port = address.port or (443 if address.scheme == "https" else 80)
    forms = {address.host, address.raw_host.decode("ascii")}  # bücher.example and xn--bcher-kva.example
    hosts = {f"[{form}]" if ":" in form else form for form in forms}
    return not (forms | hosts | {f"{host}:{port}" for host in hosts}).isdisjoint(_entries(allow_urls))


def _refuse_private(event: str, info: Mapping[str, Any]) -> None:
    """Refuse a connection, before anything is sent, to an address that is not public; httpx calls it at every event."""
    if event.endswith("connect_tcp.complete"):
        own, address = (info["return_value"].get_extra_info(f"{end}_addr")[0] for end in ("client", "server"))
        if not _is_public(address) or own == address:  # of this machine, which may have a public one
            info["return_value"].close()
            raise UnreadableError(f"its server has the address {address}, which is not public")


def _is_public(address: str) -> bool:
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(ip.packed[-4:]) if ip in _NAT64 else ip)
    if isinstance(ip, IPv6Address) and (ip.is_reserved or ip.is_site_local):  # such as ::127.0.0.1
        return False
    return ip.is_global and not ip.is_multicast


def _content(response: httpx.Response, end: float) -> bytes:
    if not response.is_success:
        raise UnreadableError(f"the server answered {response.status_code}")
    if int(response.headers.get("content-length", 0)) > MOST_BYTES:
        raise _too_large()
    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > MOST_BYTES:
            raise _too_large()
        if time.monotonic() > end:  # nobody waits for it any more
            raise TimeoutError
    return bytes(content)


def _too_large() -> UnreadableError:
    return UnreadableError(f"it is larger than {MOST_BYTES:,} bytes")


def _fetch(url: str, allow_urls: str | Literal[True]) -> bytes:
    """The bytes behind a URL of another kind than http."""
    *archives, place = url.split("::")
    scheme, _, rest = place.rpartition("://")
    if allow_urls is not True:
        if any(not part.startswith("zip://") for part in archives) or scheme.lower() not in ("", *_STORES):
            raise UnreadableError(f"its scheme must be http, https, {', '.join(_STORES)}, or zip in front of a store's")
        if not _names_place(allow_urls, place):
            raise _not_allowed(url, allow_urls)
    try:
        if scheme in ("", "file"):
            _check_regular(rest)
        with fsspec.open(url) as file:
            content: bytes = file.read(MOST_BYTES + 1)
    except ImportError as error:  # fsspec knows the scheme, but its package is missing
        raise ModuleNotFoundError(f"{url} cannot be read: {error}") from error
    except (ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise error if isinstance(error, UnreadableError) else UnreadableError(str(error).rstrip(".")) from error
    except OSError as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError) or error.errno in _NOT_THERE:
            raise UnreadableError(error.strerror or os.strerror(errno.ENOENT)) from error
        raise
    except MemoryError:
        raise
    except Exception as error:  # the package of each store has errors of its own
        if archives and type(error) is KeyError:  # older versions of fsspec, of a file that the archive lacks
            raise UnreadableError(str(error.args[0])) from error
        raise OSError(f"{url} cannot be read: {type(error).__name__}: {error}") from error
    if len(content) > MOST_BYTES:
        raise _too_large()
    return content


def _names_place(allow_urls: str, place: str) -> bool:
    """Whether hosts name the bucket of a URL in a store, or its beginning; "all" names every one."""
    entries, bucket = _entries(allow_urls), place.rpartition("://")[2].partition("/")[0]
    return not {"all", bucket.lower()}.isdisjoint(entries) or any(
        "://" in entry and place.lower().startswith(entry) for entry in entries
    )


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except ValueError as error:
        raise UnreadableError("its base64 text is damaged") from error
