"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOTDIR
from pathlib import Path
from typing import IO


def write_atomically(
    path: Path, write: Callable[[IO[bytes]], object], *, overwrite: bool = True
) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and give it its name.

    Args:
        path: where to.
        write: called with the file, open for reading and writing.
        overwrite: replace a file that is there.

    Raises:
        FileExistsError: one is there, or was put there while this one was written.
        OSError: the folder or disk refuses, with `path` as its filename; the file there is as it
            was, and no temporary one stays.
    """
    _make(path.parent)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with errors_that_name(path):
            with temporary.open("x+b") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            place(temporary, path, overwrite=overwrite)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def place(file: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file of the same disk its name: in place of another one, or only if there is
    none, whoever else may be putting one there.

    Raises:
        FileExistsError: there is one.
        OSError: the folder refuses.
    """
    if overwrite:
        os.replace(file, path)
        return
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # this file system has no links
        path.touch(exist_ok=False)
        try:
            os.replace(file, path)
        except BaseException:
            path.unlink()
            raise
    else:
        file.unlink()


def require_writable(folder: Path) -> None:
    """Make the folder if there is none, and raise unless files can be made in it.

    Raises:
        OSError: folder or disk refuses, with `folder` as its filename.
    """
    with errors_that_name(folder):
        _make(folder)
        probe = folder / f".{secrets.token_hex(8)}.tmp"
        probe.touch(exist_ok=False)
        probe.unlink()


def _make(folder: Path) -> None:
    """Make the folder and those it is in, but none that a `..` leaves again: "new/../a.png" isn't
    there as long as "new" isn't, and then is the "a.png" that nobody looked at."""
    if ".." in folder.parts:
        left = len(folder.parts) - folder.parts[::-1].index("..")
        Path(*folder.parts[:left]).stat()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from error


@contextmanager
def errors_that_name(path: Path) -> Iterator[None]:
    """An error of the disk within gets `path` as its filename: most of a write's name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an encoder's own, not the disk's
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files of a process that was killed while it wrote; none may be alive."""
    for temporary in folder.glob(f".{'[0-9a-f]' * 16}.tmp"):
        temporary.unlink(missing_ok=True)
