import os
import socket
import threading
import zipfile
from functools import partial

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from huggingface_hub import get_session

from modeling_crh import file_bytes
from modeling_crh.file_bytes import UnreadableError, read_bytes, stored_source

NAMED = "127.0.0.1"


def row(url, allow_urls=NAMED):
    return stored_source({"bytes": None, "path": url, "allow_urls": allow_urls})


@pytest.fixture
def zipped(tmp_path):
    """A zip archive that holds `a.png`."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"content")
    return tmp_path / "a.zip"


class Store(MemoryFileSystem):
    """An object store that fails as the packages of stores do, with an error of its own."""

    cachable = False
    waited = None

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("s3:/"))

    def _open(self, path, *arguments, **settings):
        if path.endswith("denied.png"):
            raise PermissionError(13, "Access Denied")
        if path.endswith("broken.png"):
            raise LookupError("no credentials")
        if path.endswith("late.png"):
            self.waited.wait()
        return super()._open(path, *arguments, **settings)


@pytest.fixture
def store(monkeypatch):
    """The object store behind s3://bucket."""
    monkeypatch.setitem(_registry, "s3", Store)
    monkeypatch.setattr(Store, "protocol", "s3")
    monkeypatch.setattr(Store, "store", {})
    monkeypatch.setattr(Store, "waited", threading.Event())
    fs = Store()
    fs.pipe("/bucket/a.png", b"content")
    yield fs
    fs.waited.set()


@pytest.mark.parametrize("url", ["http://x/a.png", "HTTPS://x/a.png", "s3://b/a.png", "hf://datasets/o/d/a.png", "://"])
def test_a_url_in_a_row_is_not_read_unless_it_is_allowed_by_its_host(url, server):
    for content in ({"path": url}, {"bytes": None, "path": url}, {"bytes": url, "path": None}):
        with pytest.raises(ValueError, match="URLs in rows are read only with `--allow-urls`") as error:
            stored_source(content)
        assert not isinstance(error.value, UnreadableError)
    with pytest.raises(ValueError, match=r"`--allow-urls` .*, but got 'y,x\.y' and .*://") as error:
        row(url, "y,x.y")
    assert not isinstance(error.value, UnreadableError) or url == "://"


def test_an_allowed_url_in_a_row_is_read_even_where_it_has_moved(server, tmp_path):
    (tmp_path / "a.png").write_bytes(b"content")
    address = server.url.removeprefix("http://")
    for allowed in (NAMED, address, f"x.y, {address.upper()}", f"all,{NAMED}"):
        assert row(f"{server.url}/a.png", allowed) == b"content"
        assert row(f"{server.url}/moved/a.png", allowed) == b"content"
    assert read_bytes(f"{server.url}/moved/a.png") == b"content"
    assert len(get_session().cookies) == 0  # those of such a server would go with what is asked of the Hub


@pytest.mark.parametrize(
    ("url", "named", "others"),
    [
        ("http://bücher.example", "bücher.example xn--bcher-kva.example BÜCHER.example:80", "bucher.example"),
        ("http://xn--bcher-kva.example", "bücher.example xn--bcher-kva.example:80", "xn--bcher"),
        ("https://[::1]", "::1 [::1] [::1]:443", "::1:443 [::1]:80"),
        ("http://[2001:db8::7]:80", "2001:db8::7 [2001:db8::7]:80", "2001:db8::7:80"),
        ("http://a@b:8000/c", "b b:8000", "a a@b b:80"),
    ],
)
def test_a_host_is_named_in_each_of_its_spellings(url, named, others):
    for entry in named.split():
        assert file_bytes._names_host(entry, file_bytes.httpx.URL(url)), entry
    for entry in others.split():
        assert not file_bytes._names_host(entry, file_bytes.httpx.URL(url)), entry


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "photos.example"])
def test_no_request_goes_to_an_address_that_is_not_public_unless_the_user_names_its_host(host, server, monkeypatch):
    resolve = socket.getaddrinfo

    def rebound(name, *arguments, **settings):
        return resolve("127.0.0.1" if name in ("photos.example", b"photos.example") else name, *arguments, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    url = f"{server.url}/a.png".replace("127.0.0.1", host)
    with pytest.raises(UnreadableError, match=r"its server has the address .*127\.0\.0\.1, which is not public"):
        row(url, "all")
    assert server.asked == []


PRIVATE = (  # private, loopback, link-local and multicast, also inside of another address
    "10.0.0.1 172.16.0.1 192.168.1.1 127.0.0.1 169.254.169.254 100.64.0.1 224.0.0.1 255.255.255.255 0.0.0.0 ::1 :: "
    "fe80::1 fe80::1%eth0 fec0::1 fd00:ec2::254 ff02::1 ::ffff:10.0.0.1 ::ffff:0:10.0.0.1 ::10.0.0.1 2002:7f00:1:: "
    "64:ff9b::a9fe:a9fe 5f00::1"
)
PUBLIC = "8.8.8.8 ::ffff:8.8.8.8 64:ff9b::808:808 2606:4700::1111"


@pytest.mark.parametrize("address", [*PRIVATE.split(), *PUBLIC.split()])
def test_private_loopback_link_local_and_multicast_addresses_are_not_public_and_others_are(address):
    assert file_bytes._is_public(address) == (address in PUBLIC.split())


def test_a_public_address_of_this_machine_is_not_asked_either(server, monkeypatch):
    monkeypatch.setattr(file_bytes, "_is_public", lambda address: True)
    with pytest.raises(UnreadableError, match=r"its server has the address 127\.0\.0\.1, which is not public"):
        row(f"{server.url}/a.png", "all")
    assert server.asked == []


def test_a_redirect_leads_only_where_the_row_may_lead(server):
    address = server.url.removeprefix("http://")
    targets = [f"http://localhost:{server.server_port}/a.png", "http://127.0.0.1:1/a.png"]
    for target in targets:
        with pytest.raises(UnreadableError, match=r"which is not public|could not be reached"):
            row(f"{server.url}/to/{target}", f"all,{address}")
        with pytest.raises(UnreadableError, match=rf"it leads to {target}, whose host `allow_urls` does not name"):
            row(f"{server.url}/to/{target}", address)
    assert server.asked == [f"/to/{target}" for target in targets for _ in range(2)]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "s3://bucket/a.png", "ftp://127.0.0.1/a.png"])
@pytest.mark.parametrize("read", [row, read_bytes])
def test_a_redirect_to_another_scheme_is_not_followed(target, read, server):
    with pytest.raises(UnreadableError, match=r"reached: .*protocol|whose host `allow_urls` does not name"):
        read(f"{server.url}/to/{target}")


@pytest.mark.parametrize("read", [row, read_bytes])
def test_redirects_that_do_not_end_are_an_error(read, server):
    with pytest.raises(UnreadableError, match="it is redirected more than 5 times"):
        read(f"{server.url}/round")
    assert len(server.asked) == 6


@pytest.mark.parametrize("read", [partial(row, allow_urls=f"all,{NAMED}"), read_bytes])
def test_no_more_bytes_are_read_than_a_file_may_have_nor_unpacked(read, server, tmp_path, monkeypatch):
    monkeypatch.setattr(file_bytes, "MOST_BYTES", 200_000)
    (tmp_path / "large").write_bytes(bytes(200_001))
    (tmp_path / "largest").write_bytes(bytes(200_000))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10**7))
    for url in (f"{server.url}/large", f"{server.url}/endless", f"zip://a.png::{tmp_path / 'a.zip'}"):
        with pytest.raises(UnreadableError, match="it is larger than 200,000 bytes"):
            read(url)
    assert len(read(f"{server.url}/largest")) == 200_000


@pytest.mark.parametrize("name", ["stalls", "trickles"])
@pytest.mark.parametrize("read", [row, read_bytes])
def test_a_server_that_sends_a_byte_at_a_time_is_left_after_the_time_of_one_file(name, read, server, monkeypatch):
    monkeypatch.setattr(file_bytes, "MOST_SECONDS", 0.2)
    with pytest.raises(UnreadableError, match=r"it took longer than 0\.2 seconds"):
        read(f"{server.url}/{name}")


def test_a_zip_archive_and_a_store_are_read_where_they_are_allowed(zipped, store):
    assert row(f"zip://a.png::{zipped}", "all") == row(f"zip://a.png::file://{zipped}", "all") == b"content"
    store.pipe("/bucket/a.zip", zipped.read_bytes())
    for url in ("s3://bucket/a.png", "zip://a.png::s3://bucket/a.zip"):
        for allowed in ("all", "bucket", "s3://bucket/"):
            assert row(url, allowed) == b"content"
        with pytest.raises(ValueError, match="URLs in rows are read only"):
            row(url, "other,s3://bucket2/")


BROKEN = {  # URLs by the reason that they are refused for
    "its scheme must be http, https, ": "zip:// zip://a.png zip://a.png::http://127.0.0.1/a.zip ftp://127.0.0.1/a.png "
    "simplecache::http://127.0.0.1/ reference://x::file:///etc/passwd foo://",
    "No such file": "zip://a.png:: zip://a.png::ARCHIVE.none s3://bucket/b.png",
    "No such file|b.png": "zip://b.png::ARCHIVE",
    "it is a folder": "zip://a.png::FOLDER",
    "it is a folder|No such file": "s3:// s3://bucket",
    "it is a pipe, socket or device": "zip://a.png::FIFO file://FIFO file:///dev/zero",
    "Bad CRC-32": "zip://a.png::DAMAGED",
    "File is not a zip file": "zip://a.png::TEXT",
    "could not be reached|which is not public": "http://127.0.0.1/::file:///etc/passwd",
    "the server could not be reached: ": f"http://[::1/a.png http:// http://a..b/ http://{'a' * 64}.b/",
}


@pytest.mark.parametrize(("url", "reason"), [(url, reason) for reason, urls in BROKEN.items() for url in urls.split()])
def test_a_broken_url_in_a_row_is_a_reason_and_no_traceback(url, reason, zipped, store):
    folder = zipped.parent
    os.mkfifo(folder / "FIFO")
    content = bytearray(zipped.read_bytes())
    content[content.index(b"content")] ^= 255
    (folder / "DAMAGED").write_bytes(content)
    (folder / "TEXT").write_bytes(b"no archive")
    for name in ("FIFO", "DAMAGED", "TEXT"):
        url = url.replace(name, str(folder / name))
    with pytest.raises(UnreadableError, match=reason):
        row(url.replace("ARCHIVE", str(zipped)).replace("FOLDER", str(folder)), "all")


def test_a_failure_of_a_store_is_no_reason_to_leave_a_row_out(store, monkeypatch):
    with pytest.raises(PermissionError):
        row("s3://bucket/denied.png", "all")
    with pytest.raises(OSError, match=r"s3://bucket/broken\.png cannot be read: LookupError: no credentials"):
        row("s3://bucket/broken.png", "all")
    monkeypatch.setattr(file_bytes, "MOST_SECONDS", 0.1)
    with pytest.raises(TimeoutError, match=r"s3://bucket/late\.png took longer than 0\.1 seconds"):
        row("s3://bucket/late.png", "all")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_package_that_is_missing_for_a_store_is_no_reason_to_leave_a_row_out(scheme):
    with pytest.raises(ModuleNotFoundError, match=rf"{scheme}://bucket/a\.png cannot be read: .*[Ii]nstall"):
        row(f"{scheme}://bucket/a.png", "all")
