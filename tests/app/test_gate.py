import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from app.talk import ask, dependencies

from modeling_crh.app.search_page import build_page
from modeling_crh.app.server import _MAX_REQUEST, serve, serving

JOIN = "gradio_api/queue/join"


def answer_to(address, request):
    """Status, head and body of the answer to a request that no client has tidied up."""
    with socket.create_connection(("127.0.0.1", urlsplit(address).port)) as connection:
        connection.sendall(request.encode())
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


def ask_as(address, host, *lines, route="config", method="GET"):
    """The answer to a request with any `Host`, or with none."""
    named = [] if host is None else [f"Host: {host}"]
    length = ["Content-Length: 2"] if method == "POST" else []
    head = [f"{method} /{route} HTTP/1.1", *named, *lines, *length, "Connection: close"]
    return answer_to(address, "\r\n".join([*head, "", "{}"]))


@pytest.mark.parametrize(
    "route",
    ["gradio_api/file=", "file=", "gradio_api/file/", "file/", "static/", "assets/", "", "static/..%2f", "theme.css/"],
)
def test_no_file_of_this_machine_is_served(address, route, index_path, checkpoint, image_root):
    files = ["/etc/passwd", index_path, f"{checkpoint}/config.json", image_root / "00.png", "pyproject.toml", "."]
    for file in map(str, files):
        for path in (file, f"../../../../../../../..{file}", file.replace("/", "%2f")):
            status, _, body = ask_as(address, "localhost", route=f"{route}{path}")
            assert status in (403, 404), path
            assert len(body) < 100


CLOSED = """
GET gradio_api/info gradio_api/openapi.json openapi.json docs monitoring monitoring/summary gradio_api/token
GET gradio_api/upload_progress?upload_id=1 gradio_api/proxy=http://127.0.0.1/ gradio_api/app_id gradio_api/runs
GET gradio_api/vibe-code/ gradio_api/call/by_item/1 gradio_api/mcp/sse svelte/svelte-submodules.js pwa_icon login_check
GET custom_component/1/client/component/index.js
POST upload run/predict run/by_item api/by_item call/by_item call/v2/by_item component_server cancel reset vibe-edit/
POST process_recording queue/data login
POST gradio_api/upload gradio_api/run/predict gradio_api/run/by_item gradio_api/api/by_item gradio_api/call/by_item
POST gradio_api/call/v2/by_item gradio_api/component_server gradio_api/cancel gradio_api/reset gradio_api/vibe-edit/
POST gradio_api/process_recording gradio_api/queue/data gradio_api/login
PUT /
DELETE /
PATCH /
OPTIONS /
TRACE /
"""


@pytest.mark.parametrize("line", CLOSED.split("\n")[1:-1])
def test_what_the_page_does_not_need_is_closed(address, line):
    method, *paths = line.split()
    for path in paths:
        body = {"json": {"data": []}} if method == "POST" else {}
        assert httpx.request(method, address + path.removeprefix("/"), **body).status_code == 404, path


def test_no_websocket_is_opened(address, capfd):
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    answer = answer_to(address, f"GET /{JOIN} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n")
    assert answer[0] in (400, 403, 404)  # of several versions of Starlette
    assert capfd.readouterr().err == ""


def test_a_request_is_bounded(address):
    head = f"POST /{JOIN} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    assert answer_to(address, f"{head}Content-Length: {_MAX_REQUEST + 1}\r\n\r\n")[::2] == (413, b"Too large")
    assert answer_to(address, f"{head}Transfer-Encoding: chunked\r\n\r\n")[0] == 411
    assert httpx.post(address + JOIN, content=b" " * 1000).status_code == 422


@pytest.mark.parametrize("start", ["GET /", "GET /config HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_the_head_of_a_request_is_bounded(address, start):
    place = urlsplit(address)
    content = start.encode() + b"a" * 20_000_000  # of which it takes a small part before it hangs up
    with socket.create_connection((place.hostname, place.port)) as connection, pytest.raises(ConnectionError):
        connection.sendall(content)
    assert httpx.get(f"{address}config").status_code == 200


@pytest.mark.parametrize("length", ["", "Content-Length: 5\r\n"])
def test_the_body_of_a_request_has_a_length_and_no_other_end(address, length):
    chunked = f"{length}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for line in (f"POST /{JOIN}", "GET /config"):
        assert answer_to(address, f"{line} HTTP/1.1\r\nHost: localhost\r\n{chunked}")[0] in (400, 411)


def test_a_very_long_path_is_not_found(address, capfd):
    for route in ("assets", "static", "gradio_api/heartbeat"):
        assert httpx.get(f"{address}{route}/{'a' * 5000}").status_code == 404
    assert "Traceback" not in capfd.readouterr().err


def test_the_page_is_private_and_names_no_folder_of_this_machine_and_no_other_server(address, image_root, checkpoint):
    headers = httpx.get(address).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["img-src"]) == ("'self'", "'self' data:")
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    text = httpx.get(address).text + httpx.get(f"{address}config").text + httpx.get(f"{address}theme.css").text
    for name in (image_root, image_root.parent, checkpoint, "fonts.googleapis", "fonts.gstatic"):
        assert str(name) not in text
    config = httpx.get(f"{address}config").json()
    assert {found["api_visibility"] for found in config["dependencies"]} == {"private"}
    assert config["analytics_enabled"] is False
    assert set(dependencies(address)) == {"by_image", "by_item", "by_item_1", "again", "again_1", "others"}


@pytest.fixture(scope="module")
def pages(address, index_path, checkpoint):
    """Addresses of two pages: one of this machine alone, one on all its addresses and under two names."""
    names = ["Photos.example.org", "[2001:db8::7]"]
    with serving(build_page(index_path, checkpoint), "0.0.0.0", allowed_hosts=names) as found:
        yield {"own": address, "open": found}


ADMITTED = {
    "own": "localhost LOCALHOST 127.0.0.1:1 [::1]:7860 [::1]",
    "open": "192.168.0.7 10.0.0.1:7860 [fd00::1]:80 photos.example.org localhost",
}
FOREIGN = {
    "own": "evil.example evil.example:7860 localhost.evil.example 127.0.0.1.evil.example 192.168.0.7 a@b me@localhost "
    "localhost:port localhost,evil.example [localhost] 0.0.0.0 / ",
    "open": "evil.example photos.example.org.evil.example 10.0.0.1.nip.example 10.0.0",
}
ROUTES = ["", "config", "theme.css", "gradio_api/queue/data?session_hash=a", "assets/none.js", "nowhere"]


@pytest.mark.parametrize("page", ["own", "open"])
def test_a_page_answers_to_the_names_of_its_addresses_and_those_that_are_allowed_and_to_no_other(pages, page):
    for host in ADMITTED[page].split(" "):
        assert ask_as(pages[page], host)[0] == 200, host
    for host in FOREIGN[page].split(" "):
        for route in ROUTES:
            status, _, body = ask_as(pages[page], host, route=route)
            assert (status, b"--allowed-host" in body) == (403, True), (host, route)
        assert ask_as(pages[page], host, route=JOIN, method="POST")[0] == 403


@pytest.mark.parametrize("said", ["evil.example", "localhost, evil.example", "localhost:1,", "evil.example:7860"])
def test_a_request_that_a_proxy_got_by_another_name_gets_nothing(address, said):
    for lines in ((f"X-Forwarded-Host: {said}",), ("X-Forwarded-Host: localhost", f"X-Forwarded-Host: {said}")):
        assert ask_as(address, "localhost", *lines)[0] == 403
    assert ask_as(address, "localhost", "X-Forwarded-Host: 127.0.0.1, localhost:80")[0] == 200


def test_a_request_without_a_name_or_with_two_gets_nothing(address):
    for lines in ((), ("Host: evil.example", "Host: localhost"), ("Host: localhost", "Host: evil.example")):
        assert ask_as(address, None, *lines)[0] in (400, 403)


OTHERS = "http://evil.example http://localhost:1 http://127.0.0.1 https://10.0.0.2 null x http://a@b"


@pytest.mark.parametrize("origin", OTHERS.split())
def test_a_page_of_another_site_may_ask_nothing_and_read_nothing(pages, origin):
    preflight = "Access-Control-Request-Method: POST"
    own = urlsplit(pages["own"]).netloc
    for page, host in (("own", own), ("open", "10.0.0.1"), ("open", "photos.example.org")):
        for method, route, more in (("POST", JOIN, "X: y"), ("GET", "config", "X: y"), ("OPTIONS", JOIN, preflight)):
            status, head, _ = ask_as(pages[page], host, f"Origin: {origin}", more, route=route, method=method)
            assert status in (403, 404), (host, method)
            assert "access-control-" not in head, (host, method)


def test_the_page_itself_may_ask(pages):
    own = urlsplit(pages["own"]).netloc
    for page, host, origin in (
        ("own", own, f"http://{own}"),
        ("open", "10.0.0.1:7860", "http://10.0.0.1:7860"),
        ("open", "127.0.0.1:7860", "https://photos.example.org"),  # a proxy that asks by an address of its own
    ):
        lines = (f"Origin: {origin}", "Content-Type: application/json")
        status, head, _ = ask_as(pages[page], host, *lines, route=JOIN, method="POST")
        assert (status, "access-control-" in head) == (422, False), host


def test_a_space_answers_to_its_own_names(index_path, checkpoint, monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("SPACE_HOST", "ada-photos.hf.space,photos.example.com")
    with serving(build_page(index_path, checkpoint)) as found:
        for host in ("ada-photos.hf.space", "photos.example.com", "ada-photos--a1b2.hf.space", "10.0.0.1:7860"):
            assert ask_as(found, host, f"Origin: https://{host}")[0] == 200
        assert ask_as(found, "10.0.0.1:7860", "Origin: https://ada-photos.hf.space")[0] == 200
        assert ask_as(found, "ada-photos.hf.space", "Origin: https://eve-photos.hf.space")[0] == 403
        assert ask_as(found, "evil.example")[0] == ask_as(found, "evilhf.space")[0] == 403


@pytest.mark.parametrize("name", ["http://example.org", "photos.example.org:80", "*", "*.example.org", "", "a b"])
def test_what_is_no_name_of_a_host_cannot_be_allowed(index_path, checkpoint, name):
    with pytest.raises(ValueError, match=r"`allowed_hosts` must be names or addresses without scheme and port"):
        with serving(build_page(index_path, checkpoint), allowed_hosts=[name]):
            pass


FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "event", [None, 7, "text", [], {}, *({"position": place} for place in (-1, 60, "../../etc/passwd", FILE))], ids=str
)
def test_a_stranger_who_asks_for_what_is_not_there_gets_a_sentence_or_an_error(address, event):
    answer = ask(address, "by_item", [12, 64], event)
    text = str(answer["output"])
    assert "There is no such image in the database." in text or not answer["success"]
    assert "root:" not in text


@pytest.mark.parametrize(("k", "radius", "hits"), [(10**9, 10**9, 60), (-5, 64, 1), (2.7, 64, 2), (60, -1, None)])
def test_what_no_slider_would_send_is_brought_into_its_range(address, k, radius, hits):
    answer = ask(address, "by_item", [k, radius], {"position": 3})
    if answer["success"]:
        assert hits is None or answer["output"]["data"][2].count("data-position") == hits
    else:
        assert "error" in answer["output"]


@pytest.mark.parametrize("k", [None, "many", [1], {"path": "/etc/passwd"}])
def test_what_is_no_number_is_an_error_that_tells_nothing(address, k):
    answer = ask(address, "by_item", [k, 64], {"position": 3})
    assert not answer["success"]
    assert "Traceback" not in str(answer)
    assert str(Path(__file__).parents[2]) not in str(answer)


def test_what_a_stranger_sends_does_not_control_the_terminal_of_the_server(index_path, checkpoint, monkeypatch, capfd):
    hostile = "\x1b]0;x\x07\x9b2J\u202e"

    def ask_badly():
        found = capfd.readouterr().err.split()[-1]
        for data, event in (([hostile, 64], {"position": 3}), ([hostile], hostile)):
            assert not ask(found, "by_item", data, event)["success"]

    monkeypatch.setattr("modeling_crh.app.server.wait_for_interrupt", ask_badly)
    serve(build_page(index_path, checkpoint))
    output, errors = capfd.readouterr()
    assert {mark for mark in output + errors if mark != "\n" and not mark.isprintable()} == set()
    assert "]0;x\N{REPLACEMENT CHARACTER}" in errors
