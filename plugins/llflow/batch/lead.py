"""Who leads a batch: gives parts to workers and writes the record."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from llflow.batch.engine import Engine
from llflow.batch.part import DONE, FAILED, Began, Died, Ended, Event, Finished, Part, Stopped
from llflow.batch.place import Place, below
from llflow.batch.record import Record
from llflow.errors import LLFlowError

DEATHS = 2  # of workers at one picture, after which it has failed


class BatchStopped(LLFlowError):
    """A batch can't go on, through no picture's fault; the same command goes on later."""


@dataclass
class _Work:
    """A part that a worker is at.

    Attributes:
        key: of the picture that it is at, if it is at one.
        held: lines that the record gets when the part's results are in place.
        share: of the part that is over.
    """

    part: Part
    record: Record
    holds: bool
    key: str | None = None
    held: list[dict[str, Any]] = field(default_factory=list)
    share: float = 0.0


class Lead:
    """Gives every picture that hasn't ended to the engine, until all have.

    Args:
        parts: all of the source, whatever has ended.
        out: the folder for results, which nobody else leads a batch into.
        retry_failed: do anew what has failed in an earlier start.

    Attributes:
        over: parts that are over, also in earlier starts.
    """

    def __init__(self, parts: Iterator[Part], out: Place, *, retry_failed: bool = False) -> None:
        self._parts, self._out, self._retry = parts, out, retry_failed
        self._files = Record(out, "pictures", retry_failed=retry_failed)
        self._shards = Record(out, "shards", retry_failed=retry_failed)
        self._waiting: deque[Part] = deque()
        self._last: deque[Part] = deque()
        self._at_work: dict[int, _Work] = {}
        self._open: dict[str, Record] = {}
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._in_vain = 0
        self.over = 0

    def run(self, engine: Engine) -> Iterator[dict[str, Any]]:
        """A line of the record for each picture that ends, when the record has it.

        Raises:
            BatchStopped: workers can't go on.
        """
        numbers = count()
        try:
            while True:
                while self._is_more() and engine.free:
                    number = next(numbers)
                    self._at_work[number] = self._begun(self._waiting.popleft())
                    engine.give(number, self._at_work[number].part)
                if not (self._at_work or self._waiting):
                    return
                for number, event in engine.events():
                    yield from self._told(number, event, engine.size)
                for record in (self._files, self._shards, *self._open.values()):
                    record.flush()
        finally:
            for record in (*self._open.values(), self._shards, self._files):
                record.close()

    def counts(self) -> tuple[int, int]:
        """How many pictures are done and how many have failed, in all starts together."""
        files = self._files.counts()
        for record in self._open.values():
            files += record.counts()
        shards = [pair for name, pair in self._shards.pictures.items() if name not in self._open]
        done, failed = (sum(pair[which] for pair in shards) for which in (0, 1))
        return done + files[DONE], failed + files[FAILED]

    def shards(self) -> tuple[int, int]:
        """How many shards are done, and in how many pictures have failed."""
        shards = self._shards.counts()
        return shards[DONE], shards[FAILED]

    def progress(self) -> float:
        """Parts that are over, those under way by their shares."""
        return self.over + sum(work.share for work in self._at_work.values())

    def left(self) -> int:
        """How many pictures (or shards, if parts are shards) haven't ended; there is no `run`
        after that."""
        return sum(len(part.items) or 1 for part in self._parts if not self._has_ended(part))

    def _has_ended(self, part: Part) -> bool:
        return part.name in (self._files.ended if _is_file(part) else self._shards.ended)

    def _is_more(self) -> bool:
        """Whether a part waits, after the next one has been looked for."""
        while not self._waiting:
            part = next(self._parts, None)
            if part is None and not self._last:
                return False
            if part is None:
                self._waiting.append(self._last.popleft())
                break
            if self._has_ended(part):
                self.over += 1
            else:
                self._waiting.append(part)
        return True

    def _begun(self, part: Part) -> _Work:
        """The part, with what of it has ended."""
        if _is_file(part):
            return _Work(part, self._files, holds=False)
        if part.name not in self._open:
            name = f"shards/{part.name}"
            self._open[part.name] = Record(self._out, name, retry_failed=self._retry)
        record = self._open[part.name]
        previous = None if part.result is None else self._previous(part.result, record)
        # What is rewritten as a whole, or lies on a worker's own disk until then.
        holds = part.result is not None and (
            self._out.local is None or (previous is not None and previous[1] is None)
        )
        part = replace(part, ended=dict(record.ended), previous=previous)
        return _Work(part, record, holds)

    def _previous(self, result: str, record: Record) -> tuple[str, int | None] | None:
        if record.grown is not None and self._out.local is not None:
            partial, length = record.grown
            if self._out.exists(partial):
                return below(self._out.address, partial), length
        if DONE in record.ended.values() and self._out.exists(result):
            return below(self._out.address, result), None
        return None

    def _told(self, number: int | None, event: Event, size: int) -> Iterator[dict[str, Any]]:
        if isinstance(event, Stopped):
            raise BatchStopped(event.reason)
        if isinstance(event, Died):
            yield from self._mourned(number, event, size)
            return
        assert number is not None
        work = self._at_work[number]
        if isinstance(event, Began):
            work.key, self._in_vain = event.key, 0
        elif isinstance(event, Ended):
            work.key, work.share = None, event.share
            if work.holds:
                work.held.append(event.line)
            else:
                work.record.add(event.line)
                yield event.line
        elif isinstance(event, Finished):
            for line in work.held:
                work.record.add(line)
                yield line
            self._close(self._at_work.pop(number))

    def _close(self, work: _Work) -> None:
        """The part is over."""
        self.over += 1
        if _is_file(work.part):
            return
        record = self._open.pop(work.part.name)
        record.close()
        pictures = record.counts()
        self._shards.add(
            {
                "key": work.part.name,
                "status": FAILED if pictures[FAILED] else DONE,
                "pictures": [pictures[DONE], pictures[FAILED]],
            }
        )

    def _mourned(self, number: int | None, event: Died, size: int) -> Iterator[dict[str, Any]]:
        """Have another worker do the part, without the picture at which two have died."""
        work = None if number is None else self._at_work.pop(number)
        key = None if work is None else work.key
        if key is None:
            self._in_vain += event.to_blame
            if self._in_vain > 2 * size:
                raise BatchStopped(
                    f"workers die before they begin with a picture: {event.reason}; do fewer of "
                    "them (--processes) leave each enough memory?"
                )
        if work is None:
            return
        if _is_file(work.part) and work.part.name in work.record.ended:
            self._close(work)  # it died between its last word and the next
            return
        if key is not None and event.to_blame:
            self._deaths[work.part.name, key] += 1
            if self._deaths[work.part.name, key] >= DEATHS:
                reason = f"workers die of it: {event.reason}, {DEATHS} times"
                line = {"key": key, "status": FAILED, "reason": reason}
                work.record.add(line)
                yield line
                if _is_file(work.part):
                    self._close(work)
                    return
        # What a worker died of is best done when there is little beside it.
        (self._last if event.to_blame else self._waiting).append(work.part)


def _is_file(part: Part) -> bool:
    """Whether it is a picture alone, whose result is a file."""
    return part.shard is None and part.result is None
