"""Which pictures have ended, and how: the record, which alone is believed.

A record is a file of JSON Lines that only grows, and of a key's lines the last one holds. Who leads
a batch is the only one that writes it, after the result is in place.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import Any

from llflow.batch.naming import STATE
from llflow.batch.part import DONE, FAILED
from llflow.batch.place import Place
from llflow.errors import LLFlowError

FLUSH = 1.0  # seconds after which the disk has it, should power fail
EVERY = 30.0  # seconds between the pieces of a record in an object store, which can't grow


class RecordError(LLFlowError, ValueError):
    """A record isn't as this writes it."""


class Record:
    """One list of what has ended.

    Args:
        out: the folder of results.
        name: of the list.
        retry_failed: take what has failed before for what hasn't ended.

    Attributes:
        ended: "done" or "failed" by key.
        pictures: how many are done and how many have failed, by the key of a shard.
        grown: the file that a shard grew in last, and how much of it counts; or None.

    Raises:
        RecordError: what is there is no record.
    """

    def __init__(self, out: Place, name: str, *, retry_failed: bool = False) -> None:
        self._out, self._name = out, f"{STATE}/record/{name}"
        self.ended: dict[str, str] = {}
        self.pictures: dict[str, tuple[int, int]] = {}
        self.grown: tuple[str, int] | None = None
        self._file: int | None = None
        self._whole: int | None = None  # what to cut a half line off at, once this is to write
        self._waiting: list[bytes] = []
        self._since = time.monotonic()
        if out.local is not None:
            path = out.local / f"{self._name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._whole = self._load_file(str(path))
        else:
            self._pieces = self._there()
            for piece in self._pieces:
                for number, line in enumerate(out.read(piece).splitlines(), 1):
                    self._see(line, f"{piece}:{number}")
        if retry_failed:
            self.ended = {key: status for key, status in self.ended.items() if status == DONE}

    def counts(self) -> Counter[str]:
        return Counter(self.ended.values())

    def add(self, line: dict[str, Any]) -> None:
        """Write what has ended, which a file has at once, whatever becomes of this process."""
        content = json.dumps(line).encode() + b"\n"
        self._see(content, self._name)
        if self._file is not None:
            if self._whole is not None:  # who only reads may do so while another writes
                os.truncate(self._file, self._whole)
                self._whole = None
            os.write(self._file, content)
        self._waiting.append(content)

    def flush(self, *, last: bool = False) -> None:
        """Now and then, or if this is the last time, have the disk take it, or write a further
        piece to an object store."""
        age = time.monotonic() - self._since
        if not self._waiting or (age < (EVERY if self._file is None else FLUSH) and not last):
            return
        if self._file is not None:
            os.fsync(self._file)
        else:
            number = 1 + (int(self._pieces[-1].split(".")[-2]) if self._pieces else 0)
            self._pieces.append(f"{self._name}.{number:08}.jsonl")
            self._out.write(self._pieces[-1], b"".join(self._waiting))
        self._waiting.clear()
        self._since = time.monotonic()

    def close(self) -> None:
        self.flush(last=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _there(self) -> list[str]:
        folder, _, name = self._name.rpartition("/")
        if not self._out.exists(folder):
            return []
        files, _ = self._out.entries(folder)
        return [f"{folder}/{file}" for file in files if file[:-15] == name and len(file) > 15]

    def _load_file(self, path: str) -> int:
        """Returns how much of the file is whole lines: a cut of power may halve the last."""
        whole = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                self._see(line, f"{path}:{number}")
                whole += len(line)
        return whole

    def _see(self, content: bytes, where: str) -> None:
        try:
            line = json.loads(content)
            key, status = line["key"], line["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{where}: not a line of a record") from error
        if status not in (DONE, FAILED):
            raise RecordError(f"{where}: expected status done or failed, got {status!r}")
        self.ended[key] = DONE if status == DONE else FAILED
        if "pictures" in line:
            self.pictures[key] = tuple(line["pictures"])
        if "partial" in line:
            self.grown = line["partial"], line["length"]
