import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_crh.runtime import locks
from modeling_crh.runtime.locks import LOCK_NAME, only_run

COUNT = """
import sys
from contextlib import suppress
from pathlib import Path
import modeling_crh_command  # then torch is not imported
from modeling_crh.runtime.locks import only_run
folder, times = Path(sys.argv[1]), int(sys.argv[2])
count = folder.with_name("count")
while times:
    try:
        with only_run(folder):
            count.write_text(str(int(count.read_text()) + 1))
            times -= 1
    except ValueError as error:
        assert str(error).endswith("is in use."), error
    with suppress(OSError):
        folder.rmdir()
"""


def test_a_second_run_is_refused_and_nothing_is_left(tmp_path):
    folder = tmp_path / "a" / "b"
    message = r"^`out` must be a folder that no other run writes to, but '.*b' is in use\.$"
    with only_run(folder):
        with pytest.raises(ValueError, match=message), only_run(folder):
            pass
        assert os.listdir(folder) == [LOCK_NAME]
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_there_or_is_not_empty_stays(tmp_path):
    with only_run(tmp_path):
        pass
    with only_run(tmp_path / "new" / "inner"):
        (tmp_path / "new" / "file").touch()
    assert (os.listdir(tmp_path), os.listdir(tmp_path / "new")) == (["new"], ["file"])


def test_the_lock_file_of_a_killed_run_holds_nobody_up(tmp_path):
    (tmp_path / LOCK_NAME).touch()
    with only_run(tmp_path), pytest.raises(ValueError, match="is in use"), only_run(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_of_a_file_that_was_removed_meanwhile_does_not_count(tmp_path, monkeypatch):
    first, others = os.open, []

    def open_late(path, *args):
        """Open the lock file of a run that ends before the lock is taken; and a third run begins."""
        descriptor = first(path, *args)
        monkeypatch.setattr(os, "open", first)
        os.unlink(path)
        others.append(only_run(tmp_path))
        others[0].__enter__()
        return descriptor

    monkeypatch.setattr(os, "open", open_late)
    with pytest.raises(ValueError, match="is in use"), only_run(tmp_path):
        pass
    assert os.listdir(tmp_path) == [LOCK_NAME]
    others[0].__exit__(None, None, None)


def test_a_folder_that_was_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    first = os.open

    def open_late(path, *args):
        monkeypatch.setattr(os, "open", first)
        path.parent.rmdir()
        return first(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    with only_run(tmp_path / "new"):
        assert os.listdir(tmp_path / "new") == [LOCK_NAME]


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_what_is_no_folder_stays_and_is_an_error(tmp_path, kind):
    if kind == "file":
        (tmp_path / "a").write_text("mine")
    elif kind == "pipe":
        os.mkfifo(tmp_path / "a")
    else:
        (tmp_path / "a").symlink_to(tmp_path / "b" / "c")
    with pytest.raises(FileExistsError), only_run(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_below_one_that_is_gone_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError), only_run(Path("a")):
        pass


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_lock_that_is_no_file_is_an_error_and_leads_nowhere(tmp_path, kind):
    if kind == "link":
        (tmp_path / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(OSError, match=r"symbolic links|directory"), only_run(tmp_path):
        pass
    assert os.listdir(tmp_path) == [LOCK_NAME]


def test_of_many_processes_one_at_a_time_is_in_the_folder(tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, tmp_path / "folder", "100"]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [("", 0)] * 4
    assert (tmp_path / "count").read_text() == "400"


def test_the_module_can_be_imported_where_there_is_no_fcntl(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with runpy.run_path(locks.__file__)["only_run"](tmp_path):
        assert os.listdir(tmp_path) == [LOCK_NAME]
