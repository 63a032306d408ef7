"""A folder of files, here or wherever fsspec reaches."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from llflow.atomic import write_atomically
from llflow.errors import UsageError

# Where a file that is being written isn't there until it is whole; elsewhere it is renamed.
WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory")


class PlaceError(UsageError):
    """An address that can't be reached by any package that is installed."""


def is_address(name: str) -> bool:
    """Whether fsspec is to look for it, rather than in the folders of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://", name) is not None


def reached(address: str) -> tuple[Any, str] | Path:
    """A path of this machine, or a file system of fsspec's and a path in it.

    Raises:
        PlaceError: no package that is installed knows such addresses.
    """
    if not is_address(address):
        return Path(address)
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise PlaceError(f"{address}: {error}") from error
    return Path(path) if isinstance(system, LocalFileSystem) else (system, path.rstrip("/"))


def below(address: str, name: str) -> str:
    return f"{address.rstrip('/')}/{name}" if is_address(address) else os.path.join(address, name)


def opened(address: str) -> IO[bytes]:
    """Open to be read from beginning to end."""
    there = reached(address)
    return there.open("rb") if isinstance(there, Path) else there[0].open(there[1], "rb")


def local_copy(address: str, folder: Path) -> Path:
    """The file itself if it is here, else a copy of it in `folder`."""
    there = reached(address)
    if isinstance(there, Path):
        return there
    copy = folder / "source"
    there[0].get_file(there[1], str(copy))
    return copy


class Place:
    """A folder, by its path or address.

    Raises:
        PlaceError: no package that is installed knows such addresses.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        there = reached(address)
        self.local = there if isinstance(there, Path) else None
        self._system: Any = None if isinstance(there, Path) else there[0]
        self._root = "" if isinstance(there, Path) else there[1]

    def _path(self, name: str) -> Any:
        if self.local is not None:
            return self.local / name
        return f"{self._root}/{name}" if name else self._root

    def exists(self, name: str = "") -> bool:
        if self.local is not None:
            return os.path.lexists(self._path(name))
        return self._system.exists(self._path(name))

    def is_folder(self) -> bool:
        return self.local.is_dir() if self.local is not None else self._system.isdir(self._root)

    def size(self, name: str) -> int:
        if self.local is not None:
            return self._path(name).stat().st_size
        return self._system.size(self._path(name))

    def read(self, name: str) -> bytes:
        with opened(below(self.address, name)) as file:
            return file.read()

    def entries(self, name: str = "") -> tuple[list[str], list[str]]:
        """Names of the files and of the folders in a folder, sorted, hidden ones too."""
        if self.local is not None:
            with os.scandir(self._path(name)) as found:
                kinds = [(entry.name, entry.is_dir()) for entry in found]
        else:
            here = self._path(name)
            listed = self._system.ls(here, detail=True)
            told = [(entry["name"].rstrip("/"), entry["type"]) for entry in listed]
            kinds = [
                (path.rpartition("/")[2], kind == "directory")
                for path, kind in told
                if path.strip("/") != here.strip("/")
            ]
        files = sorted(name for name, is_folder in kinds if not is_folder)
        return files, sorted(name for name, is_folder in kinds if is_folder)

    def walk(self) -> Iterator[tuple[str, list[str]]]:
        """Every folder's name below this one and its files, in an order that repeats; hidden ones
        are left out, and links to folders are followed, each folder once."""
        seen, waiting = set(), [""]
        while waiting:
            folder = waiting.pop()
            if self.local is not None:
                status = self._path(folder).stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            files, folders = self.entries(folder)
            yield folder, [name for name in files if name[0] != "."]
            within = [f"{folder}/{name}" if folder else name for name in folders if name[0] != "."]
            waiting += reversed(within)

    def glob(self, pattern: str) -> list[str]:
        """Files below this folder whose names are like `pattern`, sorted."""
        if self.local is not None:
            found = [path for path in self.local.glob(pattern) if path.is_file()]
            return sorted(path.relative_to(self.local).as_posix() for path in found)
        root = self._root.strip("/")
        found = self._system.glob(self._path(pattern))
        return sorted(path.strip("/").removeprefix(root).lstrip("/") for path in found)

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        if self.local is not None:
            write_atomically(self._path(name), lambda file: file.write(content))
        else:
            self._by_name(name, lambda path: self._system.pipe_file(path, content))

    def take(self, file: Path, name: str) -> None:
        """Move a file of this machine here, whole or not at all; here, from the same disk."""
        if self.local is None:
            self._by_name(name, lambda path: self._system.put_file(str(file), path))
            file.unlink()
            return
        target = self._path(name)
        try:
            os.replace(file, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        _flush_folder(target.parent)

    def remove(self, name: str) -> None:
        if self.local is not None:
            self._path(name).unlink(missing_ok=True)
        else:
            self._system.rm_file(self._path(name))

    def _by_name(self, name: str, write: Any) -> None:
        path = self._path(name)
        folder = path.rpartition("/")[0]
        self._system.makedirs(folder, exist_ok=True)
        protocols = self._system.protocol
        known = (protocols,) if isinstance(protocols, str) else protocols
        if any(protocol in WHOLE for protocol in known):
            write(path)
            return
        temporary = f"{folder}/.{secrets.token_hex(8)}.tmp"
        try:
            write(temporary)
            self._system.mv(temporary, path)
        except BaseException:
            if self._system.exists(temporary):
                self._system.rm_file(temporary)
            raise


def _flush_folder(folder: Path) -> None:
    """So that a name is there after a power cut, too, before anything says that it is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
