"""The pictures that came, from when they came until they are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llflow.serve.asked import Asked
from llflow.serve.limits import Limits
from llflow.serve.problems import Problem

ENDS = ("done", "failed", "cancelled")


Compute = Callable[[Callable[[float], None]], Awaitable[dict[str, Any]]]


@dataclass(eq=False)
class Job:
    """One picture, whose folder nobody else knows.

    Attributes:
        id: random, so that it can't be guessed.
        status: queued, computing, or one of `ENDS`.
        share: of its computation that is done.
        result: what its computation returned, once that is done.
        problem: why it failed.
    """

    id: str
    folder: Path
    asked: Asked
    status: str = "queued"
    result: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    task: asyncio.Task | None = None
    touched: float = field(default_factory=time.monotonic)
    share: float = 0.0
    began: float = 0.0
    seconds: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def elapsed(self) -> float:
        """Seconds that it has been computed for."""
        return time.monotonic() - self.began if self.status == "computing" else self.seconds

    def become(self, status: str) -> None:
        """Another status; whoever waits on `changed` hears of it."""
        self.status, self.touched = status, time.monotonic()
        self.changed.set()
        self.changed = asyncio.Event()


class Jobs:
    """All of them, in the order they came in.

    Args:
        limits: of the service.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._root = tempfile.TemporaryDirectory(prefix="llflow-serve-")
        self._jobs: dict[str, Job] = {}
        self._mean = 1.0  # seconds of a computation, lately

    def open(self, asked: Asked) -> Job:
        """A job with an empty folder, before its picture has come.

        Raises:
            Problem: too many wait already.
        """
        waiting = self.waiting()
        if waiting >= self.limits.waiting:
            after = min(60, max(1, math.ceil(waiting * self._mean / 2)))
            raise Problem(503, f"{waiting} pictures are waiting already", after)
        job = Job(secrets.token_urlsafe(16), Path(), asked)
        job.folder = Path(self._root.name, job.id)
        job.folder.mkdir(mode=0o700)
        self._jobs[job.id] = job
        return job

    def start(self, job: Job, compute: Compute) -> asyncio.Task:
        """Let the job be computed by `compute(tell)`, which tells the share that is done, from 0
        when its turn comes."""
        job.task = asyncio.create_task(self._run(job, compute))
        return job.task

    def get(self, name: str) -> Job:
        """The job of this id.

        Raises:
            Problem: there is none.
        """
        job = self._jobs.get(name)
        if job is None:
            raise Problem(404, "no such job; it was cancelled or forgotten, or the service is new")
        job.touched = time.monotonic()
        return job

    def waiting(self) -> int:
        """How many aren't done."""
        return sum(job.status not in ENDS for job in self._jobs.values())

    def ahead(self, job: Job) -> int:
        """How many are computed before it."""
        unfinished = [other for other in self._jobs.values() if other.status not in ENDS]
        return unfinished.index(job) if job in unfinished else 0

    async def cancel(self, job: Job) -> None:
        """Stop it, if it isn't done, and forget it."""
        self._jobs.pop(job.id, None)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])
        if job.status not in ENDS:
            job.become("cancelled")
        shutil.rmtree(job.folder, ignore_errors=True)

    async def close(self) -> None:
        """Cancel all."""
        for job in [*self._jobs.values()]:
            await self.cancel(job)

    def remove(self) -> None:
        """Leave nothing on the disk."""
        self._root.cleanup()

    async def forget(self) -> None:
        """Those that are done and older than they may get, and the oldest of those that are too
        many or take too much of the disk; but not the last of them, which may be a large one."""
        ended = [job for job in self._jobs.values() if job.status in ENDS]
        ended.sort(key=lambda job: job.touched)
        sizes = {job: _size(job.folder) for job in ended}
        number, total, now = len(ended), sum(sizes.values()), time.monotonic()
        for job in ended:
            old = now - job.touched > self.limits.kept_seconds
            many = number > self.limits.kept or total > self.limits.kept_bytes
            if not (old or (many and number > 1)):
                return
            number, total = number - 1, total - sizes[job]
            await self.cancel(job)

    async def _run(self, job: Job, compute: Compute) -> None:
        def tell(share: float) -> None:
            if job.status == "queued":
                job.began = time.monotonic()
            job.share = share
            job.become("computing")

        try:
            job.result = await compute(tell)
        except Problem as problem:
            job.problem = problem
            job.become("failed")
        except asyncio.CancelledError:
            job.become("cancelled")
            raise
        else:
            job.seconds, job.share = time.monotonic() - job.began, 1.0
            self._mean += (job.seconds - self._mean) / 8
            job.become("done")


def _size(folder: Path) -> int:
    total = 0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a temporary one, just renamed
            total += file.stat().st_size
    return total
