"""What a worker is given, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llflow.errors import LLFlowError

DONE, FAILED = "done", "failed"


class CannotWrite(LLFlowError):
    """Results can't be written, which is no picture's fault: the batch has to stop."""


@dataclass(frozen=True)
class Item:
    """One picture.

    Attributes:
        key: its name in the record, unique there.
        source: a path, or an address that fsspec knows; "" for a member of a shard.
        target: name of the result, below OUT or in its shard.
        problem: why it can't be done, where that is known beforehand.
    """

    key: str
    source: str
    target: str
    problem: str | None = None


@dataclass(frozen=True)
class Part:
    """What one worker does at a time: some pictures, or a shard.

    Attributes:
        name: of the part; of a shard also its key, should it be damaged.
        items: the pictures, unless they are in a shard.
        shard: the address of a tar that is read from beginning to end.
        file_format: of results from a shard, None for the pictures' own.
        result: the shard to write, below OUT; None for files.
        ended: keys that have ended, with "done" or "failed".
        previous: the tar that has the results of what is done, and how many bytes of it count.
    """

    name: str
    items: tuple[Item, ...] = ()
    shard: str | None = None
    file_format: str | None = None
    result: str | None = None
    ended: Mapping[str, str] = field(default_factory=dict)
    previous: tuple[str, int | None] | None = None


@dataclass(frozen=True)
class Began:
    """A worker is at this picture."""

    key: str


@dataclass(frozen=True)
class Ended:
    """What became of a picture: a line of the record, and which share of its part is over."""

    line: dict[str, Any]
    share: float = 1.0


@dataclass(frozen=True)
class Finished:
    """All of a part has ended, and its results are in place."""


@dataclass(frozen=True)
class Died:
    """A worker is gone, for this reason; `to_blame` if what it was at may be why."""

    reason: str
    to_blame: bool = True


@dataclass(frozen=True)
class Stopped:
    """A worker can't go on, and no other could."""

    reason: str


Event = Began | Ended | Finished | Died | Stopped
