"""A Hub on this machine for the real client of `huggingface_hub`: http.server, and nothing else.

It knows models, data sets and Spaces, private and public, branches, commits, large files and ranges. `POST /faults`
with `{"upload": 2, "download": 1, "conflict": 1}` breaks off the next two uploads and the next download half-way, and
answers the next commit with 409.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub.store import LARGE, USERS, Repo, card_errors, entry, etag

_API = r"/api/(?P<kind>model|dataset|space)s/(?P<name>[^/]+/[^/]+)"
_ROUTES = {
    ("GET", r"/api/whoami-v2"): "whoami",
    ("POST", r"/faults"): "set_faults",
    ("POST", r"/api/validate-yaml"): "validate",
    ("POST", r"/api/repos/create"): "create",
    ("POST", rf"{_API}/branch/(?P<revision>[^/]+)"): "branch",
    ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)"): "preupload",
    ("POST", rf"{_API}/commit/(?P<revision>[^/]+)"): "commit",
    ("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)"): "paths_info",
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?"): "tree",
    ("GET", rf"{_API}(/revision/(?P<revision>[^/]+))?"): "info",
    ("POST", r"/((?P<kind>dataset|space)s/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch"): "batch",
    ("PUT", rf"/large{_API}/(?P<oid>\w+)"): "put",
    ("GET", r"/((?P<kind>dataset|space)s/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"): "download",
}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer that is no success."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class LoopbackHub(ThreadingHTTPServer):
    """The server, and what it holds; a context that serves while it lasts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.faults: dict[str, int] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""

    def fault(self, name: str) -> bool:
        """Whether this request is one of those that are to fail."""
        self.faults[name] = self.faults.get(name, 0) - 1
        return self.faults[name] >= 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for (verb, pattern), name in _ROUTES.items():
                match = re.fullmatch(pattern, path)
                if match and verb == method:
                    given = {key: value for key, value in match.groupdict().items() if value}
                    return getattr(self, f"_{name}")(**given)
            raise Refusal(404)
        except Refusal as refusal:
            self._body()
            self._answer(
                {"error": refusal.message},
                refusal.status,
                {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message},
            )

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - names of http.server

    def _body(self) -> bytes:
        if getattr(self, "_read", None) is not self.requestline:
            self._read, self._content = self.requestline, self._read_body()
        return self._content

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def _right(self) -> str | None:
        """`write`, `read`, or None without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return USERS.get(token)

    def _may_write(self) -> None:
        right = self._right()
        if right != "write":
            raise Refusal(403 if right else 401, message="You have no right to write here")

    def _repo(self, name: str, kind: str = "model") -> Repo:
        right, repo = self._right(), self.server.repos.get((kind, name))
        if repo is None or (repo.private and right is None):
            raise Refusal(404 if right else 401, "RepoNotFound", "Repository not found")
        return repo

    def _files(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]]:
        oid = repo.resolve(revision)
        if oid is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, repo.commits[oid]

    def _whoami(self) -> None:
        self._may_write()
        self._answer({"name": "ada", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def _set_faults(self) -> None:
        self.server.faults = json.loads(self._body())
        self._answer({})

    def _validate(self) -> None:
        asked = json.loads(self._body())
        errors = card_errors(asked["repoType"], asked["content"])
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        self._answer(answer, 400 if errors else 200)

    def _create(self) -> None:
        self._may_write()
        asked = json.loads(self._body())
        name = f"{asked['organization'] or 'ada'}/{asked['name']}"
        key = asked.get("type", "model"), name
        if key in self.server.repos:
            return self._answer({"error": "You already created this repo", "url": self._url(*key)}, 409)
        self.server.repos[key] = Repo(*key, private=asked.get("visibility") == "private")
        self._answer({"url": self._url(*key), "name": name})

    def _url(self, kind: str, name: str) -> str:
        return f"{self.server.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{name}"

    def _branch(self, name: str, revision: str, kind: str = "model") -> None:
        self._may_write()
        repo = self._repo(name, kind)
        if revision in repo.branches:
            raise Refusal(409, message="Reference already exists")
        repo.branches[revision] = repo.branches["main"]
        self._answer({})

    def _preupload(self, name: str, revision: str, kind: str = "model") -> None:
        self._may_write()
        _, files = self._files(self._repo(name, kind), revision)
        modes = []
        for file in json.loads(self._body())["files"]:
            mode = {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
            there = files.get(file["path"])
            modes.append(mode | {"shouldIgnore": False, "oid": there and etag(file["path"], there)})
        self._answer({"files": modes})

    def _batch(self, name: str, kind: str = "model") -> None:
        self._may_write()
        large = self._repo(name, kind).large
        objects = json.loads(self._body())["objects"]
        for item in objects:
            if item["oid"] not in large:
                href = f"{self.server.endpoint}/large/api/{kind}s/{name}/{item['oid']}"
                item["actions"] = {"upload": {"href": href}}
        self._answer({"transfer": "basic", "objects": objects})

    def _put(self, kind: str, name: str, oid: str) -> None:
        if self.server.fault("upload"):
            self.rfile.read(min(1000, int(self.headers.get("Content-Length", 1000)) // 2))
            return self._hang_up()
        data = self._body()
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, message="The content is not that of its hash")
        self.server.repos[kind, name].large[oid] = data
        self._send(b"", 200, {})

    def _commit(self, name: str, revision: str, kind: str = "model") -> None:
        self._may_write()
        repo = self._repo(name, kind)
        self._files(repo, revision)
        lines = [json.loads(line) for line in self._body().splitlines()]
        if self.server.fault("conflict"):
            raise Refusal(409, message="A commit has happened since")
        changes: dict[str, bytes] = {}
        for line in lines:
            if line["key"] == "file":
                changes[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                changes[line["value"]["path"]] = repo.large[line["value"]["oid"]]
        deleted = tuple(line["value"]["path"] for line in lines if line["key"] == "deletedFile")
        oid = repo.commit(revision, changes, deleted)
        self._answer({"commitUrl": f"{self._url(kind, name)}/commit/{oid}", "commitOid": oid})

    def _info(self, name: str, kind: str = "model", revision: str = "main") -> None:
        repo = self._repo(name, kind)
        self._answer(repo.info(self._files(repo, revision)[0]))

    def _tree(self, name: str, revision: str, kind: str = "model", path: str = "") -> None:
        _, files = self._files(self._repo(name, kind), revision)
        listed = [entry(file, data) for file, data in files.items() if file.startswith(path)]
        if not listed:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist")
        self._answer(listed)

    def _paths_info(self, name: str, revision: str, kind: str = "model") -> None:
        _, files = self._files(self._repo(name, kind), revision)
        body = self._body().decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
        self._answer([entry(path, files[path]) for path in paths if path in files])

    def _download(self, name: str, revision: str, path: str, kind: str = "model") -> None:
        oid, files = self._files(self._repo(name, kind), revision)
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        data, headers = files[path], {"ETag": f'"{etag(path, files[path])}"', "X-Repo-Commit": oid}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, part = 200, data
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
            status, part = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        if self.command != "HEAD" and self.server.fault("download"):
            self._send(part[: len(part) // 2], status, headers | {"Content-Length": str(len(part))})
            return self._hang_up()
        self._send(part, status, headers | {"Accept-Ranges": "bytes"})
