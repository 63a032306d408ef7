"""Files appear whole or not at all."""

import errno
import os
import subprocess
import sys

import pytest

from llflow.atomic import remove_unfinished, require_writable, write_atomically


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_the_file_and_the_folders_to_it_appear(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a", "b", "file"]


def test_a_folder_is_not_made_to_be_left_again(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    for path in (tmp_path / "new" / ".." / "a", tmp_path / "x" / "new" / ".." / ".." / "a"):
        with pytest.raises(FileNotFoundError, match=r"new|x"):
            write_atomically(path, lambda file: file.write(b"new"))
    with pytest.raises(FileNotFoundError, match="new"):
        require_writable(tmp_path / "new" / "..")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
    (tmp_path / "b").mkdir()
    write_atomically(tmp_path / "b" / ".." / "c" / "d", lambda file: file.write(b"new"))
    assert names(tmp_path) == ["a", "b", "c", "d"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def write(file):
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())

    write_atomically(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "file")}
    assert len(modes) == 1


def test_the_longest_name_that_a_folder_takes(tmp_path):
    path = tmp_path / ("x" * 255)
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


class Crash(Exception):
    pass


def fail(error):
    def function(*args):
        raise error

    return function


def write_half(error):
    def write(file):
        file.write(b"ne")
        file.flush()
        raise error

    return write


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("error", [Crash(), KeyboardInterrupt(), FULL], ids=repr)
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, where, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    write = write_half(error) if where == "write" else lambda file: file.write(b"new")
    if where != "write":
        monkeypatch.setattr(os, where, fail(error))
    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", lambda file: file.write(b"new"))
    assert names(tmp_path) == ["taken"]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_an_error_of_the_disk_names_the_file(tmp_path, monkeypatch, where):
    write = write_half(FULL) if where == "write" else lambda file: file.write(b"new")
    if where != "write":
        monkeypatch.setattr(os, where, fail(FULL))
    with pytest.raises(OSError, match="No space") as raised:
        write_atomically(tmp_path / "file", write)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(tmp_path / "file")


def test_an_error_of_an_encoder_stays_its_own(tmp_path):
    with pytest.raises(OSError, match=r"^encoder error -2$"):
        write_atomically(tmp_path / "file", fail(OSError("encoder error -2")))


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    kept = [".hidden", ".tmp", "0123456789abcdef.tmp", ".0123456789abcdeg.tmp"]
    for name in (*kept, ".0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"")
    remove_unfinished(tmp_path)
    assert names(tmp_path) == sorted(kept)
    remove_unfinished(tmp_path / "nowhere")


def no_links(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False])
def test_what_may_not_be_replaced_stays(tmp_path, monkeypatch, links):
    """Also if it came while the file was written, and where the file system has no links."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"first"), overwrite=False)
    assert path.read_bytes() == b"first"
    for target in (path, tmp_path / "other", tmp_path / "dangling"):

        def write(file, target=target):
            if target.name == "dangling":
                target.symlink_to("nowhere")
            elif target != path:
                target.write_bytes(b"first")
            file.write(b"second")

        with pytest.raises(FileExistsError) as raised:
            write_atomically(target, write, overwrite=False)
        assert raised.value.filename == str(target)
    assert names(tmp_path) == ["dangling", "file", "other"]
    assert path.read_bytes() == (tmp_path / "other").read_bytes() == b"first"


def test_a_name_that_was_taken_for_a_file_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", fail(FULL))
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"), overwrite=False)
    assert names(tmp_path) == []


AT_ONCE = """
import sys, time
from pathlib import Path
from llflow.atomic import write_atomically

path, me, other = map(Path, sys.argv[1:])

def write(file):
    file.write(me.name.encode())
    me.touch()
    while not other.exists():
        time.sleep(0.001)

try:
    write_atomically(path, write, overwrite=False)
except FileExistsError:
    print("exists")
"""


def test_of_two_processes_one_puts_its_file_there(tmp_path):
    path, names = tmp_path / "file", [tmp_path / "a", tmp_path / "b"]
    processes = [
        subprocess.Popen([sys.executable, "-c", AT_ONCE, path, *pair], stdout=subprocess.PIPE)
        for pair in (names, names[::-1])
    ]
    said = [process.communicate(timeout=60)[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(said) == ["", "exists"]
    assert path.read_bytes() == (b"a" if said[0] == "" else b"b")
