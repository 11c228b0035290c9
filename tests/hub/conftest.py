"""What the tests share that talk to a loopback Hub; they run in a process that knows no other, see test_hub.py."""

import json
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

if not constants.ENDPOINT.startswith("http://127.0.0.1:"):  # then this is no process that test_hub.py has started
    collect_ignore = ["models.py", "failures.py", "codes.py", "spaces.py", "without_package.py"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The client waits before it tries again; tests do not."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def api():
    """The real client, to look at the Hub with."""
    return HfApi()


@pytest.fixture
def faults():
    """Set how many of the next `upload`s, `download`s and commits (`conflict`) go wrong; afterwards none does."""

    def set_faults(**counts):
        request = urllib.request.Request(f"{constants.ENDPOINT}/faults", json.dumps(counts).encode(), method="POST")
        urllib.request.urlopen(request).close()

    yield set_faults
    set_faults()


@pytest.fixture
def remote_files(api, tmp_path_factory):
    """Everything in a repository, as name to bytes."""

    def read(name, kind="model", revision=None):
        folder = api.snapshot_download(
            name, repo_type=kind, revision=revision, local_dir=tmp_path_factory.mktemp("files")
        )
        names = api.list_repo_files(name, repo_type=kind, revision=revision)
        return {file: Path(folder, file).read_bytes() for file in names}

    return read
