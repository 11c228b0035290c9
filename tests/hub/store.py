"""What the loopback Hub keeps: repositories, branches, commits and large files, all in memory."""

import hashlib
import itertools
from dataclasses import dataclass, field

import yaml

USERS = {"hf_ada": "write", "hf_reader": "read"}
LARGE = (".safetensors", ".parquet", ".png", ".bin", ".crh")


@dataclass
class Repo:
    """A repository: its branches, and the files of every commit."""

    kind: str
    name: str
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    counter: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, branch: str, changes: dict[str, bytes], deleted: tuple[str, ...] = ()) -> str:
        before = self.commits.get(self.branches.get(branch, ""), {})
        oid = hashlib.sha1(f"{self.kind} {self.name} {next(self.counter)}".encode()).hexdigest()
        self.commits[oid] = {name: data for name, data in (before | changes).items() if name not in deleted}
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        oid = self.branches.get(revision, revision)
        return oid if oid in self.commits else None

    def info(self, oid: str) -> dict[str, object]:
        files = self.commits[oid]
        card = card_metadata(files.get("README.md", b"").decode())
        info = {"id": self.name, "sha": oid, "private": self.private, "tags": card.get("tags") or []}
        info["siblings"] = [{"rfilename": name} for name in sorted(files)]
        info["lastModified"] = "2026-01-01T00:00:00.000Z"
        if self.kind == "model":
            info |= {"modelId": self.name, "library_name": "transformers", "pipeline_tag": card.get("pipeline_tag")}
        return info


def entry(path: str, data: bytes) -> dict[str, object]:
    """A file as the Hub lists it."""
    listed = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    if path.endswith(LARGE):
        listed["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return listed


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def etag(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else blob_id(data)


def card_metadata(card: str) -> dict[str, object]:
    if not card.startswith("---\n"):
        return {}
    return yaml.safe_load(card[4:].partition("\n---")[0]) or {}


def card_errors(kind: str, card: str) -> list[str]:
    """What the Hub would object to in a card's metadata."""
    try:
        data = card_metadata(card)
    except yaml.YAMLError as error:
        return [f"invalid YAML: {error}"]
    if kind == "model" and data.get("pipeline_tag") not in ("image-feature-extraction", "feature-extraction", None):
        return [f"unknown pipeline_tag {data['pipeline_tag']}"]
    return [] if data else ["there is no metadata"]
