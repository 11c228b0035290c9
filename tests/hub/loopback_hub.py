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

_NAME = r"(?P<name>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>model|dataset|space)s/{_NAME}"
_REPO = rf"/((?P<kind>dataset|space)s/)?{_NAME}"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES = {
    "whoami": ("GET", r"/api/whoami-v2"),
    "set_faults": ("POST", r"/faults"),
    "validate": ("POST", r"/api/validate-yaml"),
    "create": ("POST", r"/api/repos/create"),
    "branch": ("POST", rf"{_API}/branch/{_REVISION}"),
    "preupload": ("POST", rf"{_API}/preupload/{_REVISION}"),
    "commit": ("POST", rf"{_API}/commit/{_REVISION}"),
    "paths_info": ("POST", rf"{_API}/paths-info/{_REVISION}"),
    "tree": ("GET", rf"{_API}/tree/{_REVISION}(/(?P<path>.*))?"),
    "info": ("GET", rf"{_API}(/revision/{_REVISION})?"),
    "batch": ("POST", rf"{_REPO}\.git/info/lfs/objects/batch"),
    "put": ("PUT", rf"/large{_API}/(?P<path>\w+)"),
    "download": ("GET", rf"{_REPO}/resolve/{_REVISION}/(?P<path>.+)"),
}
_WRITES = ("whoami", "create", "branch", "preupload", "commit", "batch")


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer that is no success."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class LoopbackHub(ThreadingHTTPServer):
    """The server, and what it holds; a context that serves while it lasts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[tuple[str, str], Repo] = {}
        self.faults: dict[str, int] = {}

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
    """Answers a request about the file `path` of `revision` of the repository `name`, as far as it names these."""

    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        asked, method = unquote(urlsplit(self.path).path), self.command.replace("HEAD", "GET")
        self.body = self._read_body
        try:
            for name, (verb, pattern) in _ROUTES.items():
                match = re.fullmatch(pattern, asked) if verb == method else None
                if match:
                    found = {"kind": "model", "revision": "main", "path": ""} | match.groupdict()
                    self.kind, self.revision = found["kind"] or "model", found["revision"] or "main"
                    self.name, self.file = found.get("name"), found["path"] or ""
                    if name in _WRITES:
                        self._may_write()
                    return getattr(self, f"_{name}")()
            raise Refusal(404)
        except Refusal as refusal:
            self.body()
            words = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self._answer({"error": refusal.message}, refusal.status, words)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - names of http.server

    def _read_body(self) -> bytes:
        content = b""
        if self.headers.get("Transfer-Encoding") != "chunked":
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        else:
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size + 2)[:size]
            self.rfile.readline()
        self.body = lambda: content
        return content

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
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

    def _repo(self) -> Repo:
        right, repo = self._right(), self.server.repos.get((self.kind, self.name))
        if repo is None or (repo.private and right is None):
            raise Refusal(404 if right else 401, "RepoNotFound", "Repository not found")
        return repo

    def _files(self) -> tuple[str, dict[str, bytes]]:
        repo = self._repo()
        oid = repo.resolve(self.revision)
        if oid is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {self.revision}")
        return oid, repo.commits[oid]

    def _url(self, kind: str, name: str) -> str:
        return f"{self.server.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{name}"

    def _whoami(self) -> None:
        self._answer({"name": "ada", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def _set_faults(self) -> None:
        self.server.faults = json.loads(self.body())
        self._answer({})

    def _validate(self) -> None:
        asked = json.loads(self.body())
        errors = card_errors(asked["repoType"], asked["content"])
        self._answer({"errors": [{"message": error} for error in errors], "warnings": []}, 400 if errors else 200)

    def _create(self) -> None:
        asked = json.loads(self.body())
        name = f"{asked['organization'] or 'ada'}/{asked['name']}"
        key = asked.get("type", "model"), name
        if key in self.server.repos:
            return self._answer({"error": "You already created this repo", "url": self._url(*key)}, 409)
        self.server.repos[key] = Repo(*key, private=asked.get("visibility") == "private")
        self._answer({"url": self._url(*key), "name": name})

    def _branch(self) -> None:
        branches = self._repo().branches
        if self.revision in branches:
            raise Refusal(409, message="Reference already exists")
        branches[self.revision] = branches["main"]
        self._answer({})

    def _preupload(self) -> None:
        files, modes = self._files()[1], []
        for path in (file["path"] for file in json.loads(self.body())["files"]):
            oid = etag(path, files[path]) if path in files else None
            mode = "lfs" if path.endswith(LARGE) else "regular"
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._answer({"files": modes})

    def _batch(self) -> None:
        objects = json.loads(self.body())["objects"]
        for item in objects:
            if item["oid"] not in self._repo().large:
                href = f"{self.server.endpoint}/large/api/{self.kind}s/{self.name}/{item['oid']}"
                item["actions"] = {"upload": {"href": href}}
        self._answer({"transfer": "basic", "objects": objects})

    def _put(self) -> None:
        if self.server.fault("upload"):
            self.rfile.read(min(1000, int(self.headers.get("Content-Length", 1000)) // 2))
            return self._hang_up()
        if hashlib.sha256(self.body()).hexdigest() != self.file:
            raise Refusal(400, message="The content is not that of its hash")
        self.server.repos[self.kind, self.name].large[self.file] = self.body()
        self._send(b"")

    def _commit(self) -> None:
        repo = self._repo()
        self._files()
        lines = [json.loads(line) for line in self.body().splitlines()]
        if self.server.fault("conflict"):
            raise Refusal(409, message="A commit has happened since")
        changes: dict[str, bytes] = {}
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                changes[value["path"]] = repo.large[value["oid"]]
        deleted = tuple(line["value"]["path"] for line in lines if line["key"] == "deletedFile")
        oid = repo.commit(self.revision, changes, deleted)
        self._answer({"commitUrl": f"{self._url(self.kind, self.name)}/commit/{oid}", "commitOid": oid})

    def _info(self) -> None:
        self._answer(self._repo().info(self._files()[0]))

    def _tree(self) -> None:
        listed = [entry(file, data) for file, data in self._files()[1].items() if file.startswith(self.file)]
        if not listed:
            raise Refusal(404, "EntryNotFound", f"{self.file} does not exist")
        self._answer(listed)

    def _paths_info(self) -> None:
        files, body = self._files()[1], self.body().decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
        self._answer([entry(path, files[path]) for path in paths if path in files])

    def _download(self) -> None:
        oid, files = self._files()
        if self.file not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        data = part = files[self.file]
        status, headers = 200, {"ETag": f'"{etag(self.file, data)}"', "X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
            status, part = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        if self.command != "HEAD" and self.server.fault("download"):
            self._send(part[: len(part) // 2], status, headers | {"Content-Length": str(len(part))})
            return self._hang_up()
        self._send(part, status, headers)
