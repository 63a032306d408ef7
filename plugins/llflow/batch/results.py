"""Where results go: files of their own, or a shard."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from llflow.batch.naming import STATE
from llflow.batch.part import CannotWrite, Part
from llflow.batch.place import Place, opened

PARTIAL = f"{STATE}/partial"


class Results(Protocol):
    def add(self, target: str, file: Path) -> dict[str, Any]:
        """Take a result; returns what the record is to say of it."""
        ...

    def keep(self, target: str) -> None:
        """There is this result from before."""
        ...

    def copy(self, name: str, file: Path) -> None:
        """Take what lies beside the pictures of a shard."""
        ...

    def finish(self) -> None:
        """Everything has been taken."""
        ...


class Files:
    """A file for each result, below OUT."""

    def __init__(self, out: Place) -> None:
        self._out = out

    def add(self, target: str, file: Path) -> dict[str, Any]:
        told = _told(file)
        self._out.take(file, target)
        return told

    def keep(self, target: str) -> None:
        pass

    def copy(self, name: str, file: Path) -> None:
        pass

    def finish(self) -> None:
        pass


class Shard:
    """A tar that is renamed into place when it is whole.

    Until then it grows in a file of this worker alone, so that one that lives on unnoticed writes
    to none but its own. Members have neither owner nor time: results in one order are one file.

    Args:
        out: where shards go.
        part: of which this is the result.
        folder: for the file that grows, if `out` is elsewhere.
    """

    def __init__(self, out: Place, part: Part, folder: Path) -> None:
        assert part.result is not None
        self._out, self._name = out, part.result
        self._begun = f"{PARTIAL}/{part.result.replace('/', '%2F')}."
        self._partial = f"{self._begun}{secrets.token_hex(8)}"
        path = folder / "shard" if out.local is None else out.local / self._partial
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("xb")
        self._previous = iter(()) if part.previous is None else _previous(*part.previous)

    def add(self, target: str, file: Path) -> dict[str, Any]:
        told = _told(file)
        with file.open("rb") as content:
            self._append(target, told["bytes"], content)
        file.unlink()
        self._file.flush()
        os.fsync(self._file.fileno())
        return told | {"shard": self._name, "partial": self._partial, "length": self._file.tell()}

    def keep(self, target: str) -> None:
        for name, size, content in self._previous:
            if name == target:
                return self._append(name, size, content)
        raise CannotWrite(
            f"{self._name}: {target} is done, says the record, and isn't in what is there of this "
            "shard; was it changed or taken away?"
        )

    def copy(self, name: str, file: Path) -> None:
        with file.open("rb") as content:
            self._append(name, file.stat().st_size, content)

    def finish(self) -> None:
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._out.take(self._path, self._name)
        if self._out.local is not None:
            for name in self._out.entries(PARTIAL)[0]:
                if f"{PARTIAL}/{name}".startswith(self._begun):
                    self._out.remove(f"{PARTIAL}/{name}")

    def _append(self, name: str, size: int, content: IO[bytes]) -> None:
        header = tarfile.TarInfo(name)
        header.size = size
        self._file.write(header.tobuf(tarfile.PAX_FORMAT))
        shutil.copyfileobj(content, self._file)
        self._file.write(bytes(-size % tarfile.BLOCKSIZE))


class _Limited:
    """The beginning of a file."""

    def __init__(self, file: IO[bytes], length: int | None) -> None:
        self._file, self._left = file, length

    def read(self, size: int = -1) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
        block = self._file.read(size)
        if self._left is not None:
            self._left -= len(block)
        return block


def _previous(address: str, length: int | None) -> Iterator[tuple[str, int, IO[bytes]]]:
    limited: Any
    with opened(address) as file:
        limited = _Limited(file, length)
        if length == 0:
            return
        with tarfile.open(fileobj=limited, mode="r|") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                content: Any = tar.extractfile(member)
                yield member.name, member.size, content


def _told(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": digest, "bytes": file.stat().st_size}
