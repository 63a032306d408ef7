"""What has been measured, one line of JSON a measurement, so that a run goes on where it was
stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """What is measured at once: one task by one library's flow with one seed."""

    task: str
    peer: str
    seed: int


class Journal:
    """A file of lines: of each run where it was made, then of each cell what was found.

    A line is written by one call and flushed to the disk; one that was cut off is not there when
    the file is opened again.

    Raises:
        BlockingIOError: another run writes to the file.
    """

    def __init__(self, path: Path, provenance: Mapping[str, Any]) -> None:
        self.path, self.provenance, self.run = path, provenance, -1
        self.file = path.open("ab+")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.file.close()
            raise BlockingIOError(
                f"expected {path.name} for this run alone, got another's"
            ) from error
        self.file.seek(0)
        self.file.truncate(self.file.read().rfind(b"\n") + 1)
        self.runs = len(runs(path))

    def append(self, cell: Cell, found: Mapping[str, Any]) -> None:
        if self.run < 0:
            self.run = self.runs
            self._line({"run": self.run, **self.provenance})
        self._line({"of": self.run, **cell._asdict(), **found})

    def _line(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        self.file.write(f"{text}\n".encode())
        self.file.flush()
        os.fsync(self.file.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def runs(path: Path) -> list[dict[str, Any]]:
    """Where and when it was measured, in order."""
    return [line for line in _lines(path) if "run" in line]


def cells(path: Path) -> dict[Cell, dict[str, Any]]:
    """What was found, by cell; nothing where there is no file."""
    lines = [line for line in _lines(path) if "of" in line]
    return {Cell(line["task"], line["peer"], line["seed"]): line for line in lines}
