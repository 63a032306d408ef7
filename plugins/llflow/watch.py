"""A folder whose pictures are made bright as they come.

A picture is done when its result exists, so that a watch may end at any moment and be started
again. It is begun once its file is finished, which nobody announces: size and time of change have
stayed for a while, and it can be read as a whole. A file that can't be is tried again when it
changes, and named once it has stayed as it is for longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llflow.jobs import Job, Outcome, PlanError, identity
from llflow.picture import files

LOOK = 1.0  # seconds between looks at the folder
SETTLED = 2.0  # seconds without a change, after which a file may be finished
STUCK = 10.0  # seconds without a change, after which one that can't be read never will be

Brighten = Callable[[files.Picture], files.Picture]
Signature = tuple[int, int, int]


@dataclass
class _Sighting:
    """A file as it was last seen.

    Attributes:
        signature: of its content, as far as the file system tells.
        since: when it was first seen so.
        tries: how often it has been tried since then.
        over: what became of it has been told.
    """

    signature: Signature
    since: float
    tries: int = 0
    over: bool = False


class Changed(files.PictureError):
    """A file was written to while its picture was made bright."""


def require_apart(folder: Path, out: Path | None) -> None:
    """Refuse results in the folder that is watched, which would be taken for pictures.

    Raises:
        PlanError: `out` is `folder`.
    """
    if not folder.is_dir():
        raise PlanError(f"{folder}: expected a folder to watch")
    if out is not None and identity(out) == identity(folder):
        raise PlanError(f"{out}: is the folder that is watched; its results need another place")


def watch(
    plan: Callable[[], list[Job]],
    do: Callable[[Job, Callable[[Brighten], Brighten]], Outcome],
    *,
    settled: float = SETTLED,
    stuck: float = STUCK,
    look: float = LOOK,
) -> Iterator[Outcome]:
    """What becomes of each picture, without an end.

    Args:
        plan: what is in the folder now; `jobs.plan` with `more_to_come`.
        do: does a job with what its second argument makes of the function that makes pictures
            bright: one that raises `Changed` rather than let a half picture become a result.
        settled, stuck, look: seconds, see above.
    """
    seen: dict[Path, _Sighting] = {}
    while True:
        jobs = plan()
        for job in jobs:
            outcome = _looked_at(job, seen, do, settled, stuck)
            if outcome is not None:
                yield outcome
        there = {job.source for job in jobs}
        seen = {source: sighting for source, sighting in seen.items() if source in there}
        time.sleep(look)


def _looked_at(
    job: Job,
    seen: dict[Path, _Sighting],
    do: Callable[[Job, Callable[[Brighten], Brighten]], Outcome],
    settled: float,
    stuck: float,
) -> Outcome | None:
    """What became of this job, if that is to be told now."""
    if os.path.lexists(job.target) and job.problem is None:
        return None
    signature, now = _signature(job.source), time.monotonic()
    if signature is None:
        return None
    sighting = seen.get(job.source)
    if sighting is None or sighting.signature != signature:
        seen[job.source] = _Sighting(signature, now)
        return None
    age = now - sighting.since
    if sighting.over or age < settled or (sighting.tries and age < stuck):
        return None
    sighting.tries += 1
    last = age >= stuck or job.problem is not None
    outcome = do(job, lambda brighten: _unless_changed(job.source, signature, brighten))
    if _signature(job.source) != signature or (outcome.problem is not None and not last):
        return outcome if outcome.status == "done" else None
    sighting.over = True
    return outcome


def _unless_changed(source: Path, signature: Signature, brighten: Brighten) -> Brighten:
    def checked(picture: files.Picture) -> files.Picture:
        bright = brighten(picture)
        if _signature(source) != signature:
            raise Changed("it changed while it was made bright")
        return bright

    return checked


def _signature(path: Path) -> Signature | None:
    """None if the file is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
