"""One film made bright, from file to file, and several in a row."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

from torch import Tensor

from llflow.atomic import errors_that_name, place, require_writable, write_atomically
from llflow.errors import first_line
from llflow.film.frames import Frames
from llflow.film.naming import WRITTEN
from llflow.film.source import FilmError, Frame, Source
from llflow.film.target import Coding, lost_tags, mux, require_fits
from llflow.film.unfinished import Unfinished, alone
from llflow.jobs import Job, Outcome, existing

PART = 48  # frames, which are lost at most when a run is killed
MOST_OF = 0.9  # the frames that a file tells of: some tell a duration alone, which may be rounded

Progress = Callable[[int, int | None], object]
Do = Callable[[Path, Path, bool], list[str]]


def enhance(
    source: Path,
    target: Path,
    frames: Frames,
    settings: dict[str, Any],
    *,
    max_pixels: int,
    progress: Progress,
    overwrite: bool = True,
) -> list[str]:
    """Make a film bright; `target` is there whole at the end, or as it was.

    Args:
        frames: what makes one frame after the other bright; begins anew here.
        settings: all that the result depends on beside the source, for JSON: a run that was killed
            is gone on with if they are the same.
        progress: called with how many frames are done, and of how many, if the file tells.
        overwrite: replace a file that is there.

    Returns:
        What of the source the result doesn't hold, a line each.

    Raises:
        FilmError: the source can't be read, or the target's container doesn't hold it, or another
            process makes the same result.
        FileExistsError: a file is there, also if it came while this one was made.
        OSError: the disk refuses.
        Others: as `Frames.next` does.
    """
    container = WRITTEN[target.suffix.lower()]
    with Source(source, max_pixels) as film, alone(target):
        unfinished = Unfinished(target, _digest(source, settings))
        done, last = unfinished.frames, unfinished.last
        frames.state = unfinished.state
        coming = film.frames(skip=done)
        frame = next(coming, None)
        if film.size is None:
            raise FilmError("no pictures in this film")
        coding = Coding(film, container, film.size)
        require_fits(container, coding)
        progress(done, film.count)

        def brightened(part: Iterable[Frame]) -> Iterator[tuple[Frame, Tensor]]:
            nonlocal done, last
            for one in part:
                passed = Fraction(0) if last is None else (one.pts - last) * film.time_base
                yield one, frames.next(one.image, float(passed))
                done, last = done + 1, one.pts
                progress(done, film.count)

        while frame is not None:
            coded = coding.encode(brightened(chain([frame], islice(coming, PART - 1))))
            unfinished.add(coded, frames.state)
            frame = next(coming, None)
        whole, lost = unfinished.folder / "whole", []
        write_atomically(
            whole, lambda file: lost.extend(mux(file, container, coding, unfinished.coded()))
        )
        lost += lost_tags(film, whole)
        if film.count is not None and done < MOST_OF * film.count:
            lost.append(f"ends after {done} frames, where its file tells of {film.count}")
        with errors_that_name(target):
            place(whole, target, overwrite=overwrite)
        unfinished.remove()
    return lost


def _digest(source: Path, settings: dict[str, Any]) -> str:
    """Of what decides on the result."""
    status = source.stat()
    film = {"size": status.st_size, "changed": status.st_mtime_ns, "by": version("flowkit")}
    return hashlib.sha256(json.dumps(film | settings, sort_keys=True).encode()).hexdigest()


def run(
    jobs: Iterable[Job],
    do: Do,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Iterator[Outcome]:
    """Do the jobs one by one, as `llflow.jobs.run` has it; a problem with one film is its outcome.

    Args:
        jobs: from `naming.planned`.
        do: `enhance` of a source and a target, which it may `overwrite` or not.
        overwrite: replace results that exist.
        skip_existing: leave them and count the job as done.
    """
    for job in jobs:
        if job.problem is not None:
            yield Outcome(job, job.problem)
        elif not overwrite and os.path.lexists(job.target):
            yield existing(job, skip_existing)
        else:
            start = time.monotonic()
            try:
                outcome = _do(job, do, overwrite)
            except FileExistsError:  # another process was faster
                outcome = existing(job, skip_existing)
            yield replace(outcome, seconds=time.monotonic() - start)


def _do(job: Job, do: Do, overwrite: bool) -> Outcome:
    try:
        require_writable(job.target.parent)
        lost = do(job.source, job.target, overwrite)
    except FileExistsError:
        raise
    except OSError as error:
        where = error.filename or job.target
        return Outcome(job, f"{where}: {error.strerror or error}")
    except (ValueError, ArithmeticError) as error:
        return Outcome(job, str(error))
    except (MemoryError, RuntimeError) as error:  # torch's word for "out of memory", too
        return Outcome(job, first_line(error) if str(error) else "out of memory")
    return Outcome(job, lost=tuple(lost))
