import errno
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_crh.runtime import atomic_files
from modeling_crh.runtime.atomic_files import LOCK_NAME, only_run, whole_file, write_text

WRITER = """
import sys
from pathlib import Path
import modeling_crh_command  # then torch is not imported
from modeling_crh.runtime.atomic_files import whole_file
target, *times = sys.argv[1:]
for number in range(int(times[0]) if times else 0):
    with whole_file(Path(target)) as partial:
        partial.write_text(str(number) * 1000)
if not times:
    with whole_file(Path(target)) as partial:
        partial.write_text("half")
        with open(partial, "a"):
            pass
        print(partial.name, flush=True)
        sys.stdin.read()
"""


def start_writer(target, *times):
    """Start a process that saves a file so many times, or that waits in the middle of a save."""
    command = [sys.executable, "-c", WRITER, target, *map(str, times)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_next_save_removes_what_a_killed_one_left_but_nothing_of_one_that_goes_on(tmp_path):
    target = tmp_path / "a.txt"
    with start_writer(target) as killed, start_writer(target) as living:
        names = killed.stdout.readline().strip(), living.stdout.readline().strip()
        write_text(target, "first")
        assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", *names])
        killed.kill()
        killed.wait()
        write_text(target, "second")
        assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", names[1]])
        living.stdin.close()
        assert (killed.wait(), living.wait()) == (-signal.SIGKILL, 0)
    assert (os.listdir(tmp_path), target.read_text()) == (["a.txt"], "half")


def test_a_save_within_a_save_of_the_same_file_leaves_it_alone(tmp_path):
    target = tmp_path / "a.txt"
    with whole_file(target) as outer:
        outer.write_text("outer")
        write_text(target, "inner")
        assert (target.read_text(), outer.read_text()) == ("inner", "outer")
    assert (os.listdir(tmp_path), target.read_text()) == (["a.txt"], "outer")


def test_only_partial_files_of_the_same_target_are_removed(tmp_path):
    own = [".a[b]*.4711.partial", ".a[b]*.0123abcd.partial"]
    others = [".a[b]*.txt.4711.partial", ".ab*.4711.partial", "a[b]*.4711.partial", ".a[b]*.partial", ".a[b]*.4711"]
    for name in own + others:
        (tmp_path / name).write_text("half")
    (tmp_path / ".a[b]*.1.partial").mkdir()
    (tmp_path / ".a[b]*.2.partial").symlink_to(tmp_path / others[0])
    os.mkfifo(tmp_path / ".a[b]*.3.partial")
    write_text(tmp_path / "a[b]*", "whole")
    kept = [*others, ".a[b]*.1.partial", ".a[b]*.2.partial", ".a[b]*.3.partial", "a[b]*"]
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def interrupt(partial):
    partial.write_text("half")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("end", "error"), [(interrupt, KeyboardInterrupt), (os.remove, FileNotFoundError)])
def test_nothing_partial_is_left_and_the_former_file_stays_on_an_error(tmp_path, end, error):
    target = tmp_path / "a.txt"
    write_text(target, "former")
    with pytest.raises(error), whole_file(target) as partial:
        end(partial)
    assert (os.listdir(tmp_path), target.read_text()) == (["a.txt"], "former")


def test_a_file_has_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_processes_that_save_one_file_at_a_time_never_fail(tmp_path):
    writers = [start_writer(tmp_path / "a.txt", 300) for _ in range(3)]
    assert [(writer.communicate()[0], writer.returncode) for writer in writers] == [("", 0)] * 3
    assert (os.listdir(tmp_path), (tmp_path / "a.txt").read_text()) == (["a.txt"], "299" * 1000)


def test_where_there_are_no_locks_files_are_saved_and_none_is_removed(tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    (tmp_path / ".a.txt.4711.partial").write_text("half")
    write_text(tmp_path / "a.txt", "text")
    assert sorted(os.listdir(tmp_path)) == [".a.txt.4711.partial", "a.txt"]


COUNT = """
import sys
from contextlib import suppress
from pathlib import Path
import modeling_crh_command  # then torch is not imported
from modeling_crh.runtime.atomic_files import only_run
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


def test_a_second_run_is_refused_and_nothing_is_left_but_a_folder_that_is_not_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    message = r"^`out` must be a folder that no other run writes to, but '.*b' is in use\.$"
    with only_run(folder):
        with pytest.raises(ValueError, match=message), only_run(folder):
            pass
        assert os.listdir(folder) == [LOCK_NAME]
    assert os.listdir(tmp_path) == []
    with only_run(folder):
        (folder.parent / "file").touch()
    assert os.listdir(folder.parent) == ["file"]


def test_the_lock_file_of_a_killed_run_holds_nobody_up_and_the_folder_stays(tmp_path):
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


@pytest.mark.parametrize(
    "make", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path.parent / "b" / "c")], ids=["file", "pipe", "link"]
)
def test_what_is_no_folder_stays_and_is_an_error(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(FileExistsError), only_run(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_below_one_that_is_gone_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError), only_run(Path("a")):
        pass


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.parent / "elsewhere")])
def test_a_lock_that_is_no_file_is_an_error_and_leads_nowhere(tmp_path, make):
    make(tmp_path / LOCK_NAME)
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
    with runpy.run_path(atomic_files.__file__)["only_run"](tmp_path):
        assert os.listdir(tmp_path) == [LOCK_NAME]
