"""Many pictures in, as many out: which file goes where, and going on past the bad ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llflow.atomic import require_writable
from llflow.errors import OverLimit, UsageError, first_line
from llflow.picture import files, optional

SUFFIX = "_bright"


class PlanError(UsageError):
    """Inputs and output don't make sense together."""


@dataclass(frozen=True)
class Job:
    """One picture to read and where the result goes; `problem` if it is known not to work, `named`
    unless it was found in a folder."""

    source: Path
    target: Path
    problem: str | None = None
    named: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `problem` is None where a picture was written or skipped or `other`
    than a picture lay in a folder; `lost` says what of its file the result doesn't hold."""

    job: Job
    problem: str | None = None
    skipped: bool = False
    lost: tuple[str, ...] = ()
    other: bool = False
    seconds: float = field(default=0.0, compare=False)

    @property
    def status(self) -> str:
        """done, skipped, other or failed."""
        if self.problem is not None:
            return "failed"
        return "skipped" if self.skipped else "other" if self.other else "done"


def inputs_and_out(paths: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """Tell inputs from OUT by their position alone.

    The last of several paths is OUT if it is a folder, or if nothing has its name. A file that
    exists is an input, wherever it stands: it may be anybody's only copy.
    """
    *inputs, last = paths
    if inputs and (last.is_dir() or not os.path.lexists(last)):
        return inputs, last
    return [*paths], None


def plan(
    inputs: Sequence[Path],
    out: Path | None,
    *,
    recursive: bool,
    suffix: str | None = None,
    file_format: str | None = None,
    more_to_come: bool = False,
) -> list[Job]:
    """Find the pictures and name their results.

    A file in a folder keeps its place below that folder. Hidden files are left out, every other one
    is a job, whatever its name: contents decide later. Links to folders within are followed, each
    folder once. Without `out`, results lie beside their inputs with "_bright" added to the name (of
    the file, or of the folder).

    Args:
        inputs: pictures and folders.
        out: the result's file for a single picture if it names a picture format, else a folder.
        recursive: also take what is in folders within folders.
        suffix: what is added to each result's name, before its ending; "_bright" beside an input,
            else nothing, if None.
        file_format: one of `files.FORMATS`, which decides each result's ending.
        more_to_come: a folder may have no files yet, and a result that would take the place of
            another or of an input is its job's problem alone.

    Raises:
        PlanError: an input doesn't exist, a folder has no files, two results would have one name,
            a result would replace an input, or `out` can't be what it has to be, or names the
            result and a suffix is given.
    """
    single = len(inputs) == 1 and not inputs[0].is_dir()
    to_file = single and _names_picture(out)
    if out is not None and not out.is_dir() and not to_file:
        _check_folder(out, single)
    if to_file and suffix:
        raise PlanError(f"{out}: is the result's whole name; the suffix {suffix!r} is for others")
    if suffix is not None and (os.sep in suffix or "/" in suffix):
        raise PlanError(f"expected a suffix for names, got {suffix!r}")
    jobs = []
    for source in dict.fromkeys(inputs):
        if source.is_dir():
            found = _jobs_in(source, out or _beside(source, suffix), recursive)
            added = suffix if out else None  # else the folder's name has it
            if not (found or more_to_come):
                hint = "" if recursive else " (--recursive looks into folders within)"
                raise PlanError(f"{source}: no files in this folder{hint}")
            jobs += [replace(job, target=_named(job.target, added, file_format)) for job in found]
        elif not os.path.lexists(source):
            raise PlanError(f"{source}: no such file or folder")
        elif out is None:
            added = SUFFIX if suffix is None else suffix
            jobs.append(Job(source, _named(source, added, file_format)))
        elif to_file:
            jobs.append(Job(source, out))
        else:
            jobs.append(Job(source, _named(out / source.name, suffix, file_format)))
    clashes = dict(_clashes(jobs))
    if clashes and not more_to_come:
        raise PlanError(next(iter(clashes.values())))
    return [replace(job, problem=clashes.get(job, job.problem)) for job in jobs]


def _named(path: Path, suffix: str | None, file_format: str | None) -> Path:
    """The path with something added to its stem, and the ending of a format: the one asked for, or
    that of results where the ending is of files that are only read."""
    known, becomes = files.format_of(path), optional.becoming(path.suffix)
    wanted = file_format or becomes or known
    ending = path.suffix
    if wanted is not None and known != wanted:
        added = files.SUFFIXES[wanted][0]
        ending = added if known or becomes else ending + added
    stem = path.name.removesuffix(path.suffix)
    return path.with_name(stem + (suffix or "") + ending)


def _names_picture(out: Path | None) -> bool:
    return out is not None and not out.is_dir() and files.format_of(out) is not None


def _check_folder(out: Path, single: bool) -> None:
    """Refuse what looks like a file where a folder, which may not exist yet, has to be meant."""
    if single and (out.exists() or out.suffix):
        suffixes = ", ".join(files.SUFFIXES[name][0] for name in files.FORMATS)
        raise PlanError(f"{out}: expected a name in {suffixes}, or a folder")
    if not single and (out.exists() or files.format_of(out)):
        problem = "is a file" if out.exists() else "doesn't exist, and names a picture"
        raise PlanError(f"{out}: several results need a folder as OUT; this {problem}")


def _beside(folder: Path, suffix: str | None) -> Path:
    absolute = Path(os.path.abspath(folder))  # "." and ".." have a name, too
    return absolute.parent / (absolute.name + (SUFFIX if suffix is None else suffix))


def _jobs_in(folder: Path, out: Path, recursive: bool) -> list[Job]:
    jobs, seen = [], {identity(folder), identity(out)}

    def unreadable(error: OSError) -> None:
        path = Path(error.filename)
        jobs.append(Job(path, out / path.relative_to(folder), error.strerror or str(error)))

    for root, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(root)
        within = sorted(name for name in folders if name[0] != ".") if recursive else []
        folders[:] = []
        for name in within:  # links may lead to where this has been
            if (place := identity(here / name)) not in seen:
                seen.add(place)
                folders.append(name)
        found = (here / name for name in names if name[0] != ".")
        jobs += [Job(file, out / file.relative_to(folder), named=False) for file in found]
    return sorted(jobs, key=lambda job: job.source)


def _clashes(jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Jobs whose results can't be where they would be, and why."""
    sources = {identity(job.source) for job in jobs}
    taken: dict[str, Path] = {}
    for job in jobs:
        target = os.path.realpath(job.target)  # takes links that lead in a circle
        if identity(job.target) in sources:
            itself = identity(job.target) == identity(job.source)
            before = "" if itself else "leave that out if it is a result from before, or "
            yield (
                job,
                f"{job.target}: the result of {job.source} would replace an input; {before}choose "
                "another OUT (--out)",
            )
        elif target in taken:
            yield job, f"{job.target}: both {taken[target]} and {job.source} would be written here"
        else:
            taken[target] = job.source


def identity(path: Path) -> object:
    """Equal for all names of one file: spelled in other ways, symbolic links, hard links."""
    try:
        status = path.stat()
    except OSError:  # nothing there as yet, or links in a circle
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def run(
    jobs: Iterable[Job],
    brighten: Callable[[files.Picture], files.Picture],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int = files.MAX_PIXELS,
    max_memory: int | None = None,
    bits: int | None = None,
    quality: int | None = None,
) -> Iterator[Outcome]:
    """Do the jobs one by one; a problem with one picture is its outcome, and the next one follows.

    Args:
        jobs: from `plan`.
        brighten: what to do with each picture.
        overwrite: replace results that exist.
        skip_existing: leave them and count the job as done.
        max_pixels, max_memory: larger pictures are refused, as `files.read` has it.
        bits, quality: as `files.write` has them.
    """
    for job in jobs:
        if job.problem is not None:
            yield Outcome(job, job.problem)
        elif not overwrite and os.path.lexists(job.target):
            yield existing(job, skip_existing)
        else:
            start = time.monotonic()
            limits = {"max_pixels": max_pixels, "max_memory": max_memory}
            output = {"bits": bits, "quality": quality}
            try:
                outcome = _do(job, brighten, limits, output, overwrite)
            except FileExistsError:  # another process was faster
                outcome = existing(job, skip_existing)
            yield replace(outcome, seconds=time.monotonic() - start)


def existing(job: Job, skip: bool) -> Outcome:
    """Of a job whose result is there and may not be replaced."""
    problem = f"{job.target} exists (--overwrite or --skip-existing)"
    return Outcome(job, None if skip else problem, skipped=skip)


def _do(
    job: Job,
    brighten: Callable[[files.Picture], files.Picture],
    limits: dict[str, Any],
    output: dict[str, Any],
    overwrite: bool,
) -> Outcome:
    try:
        dark = files.read(job.source, **limits)
    except files.NotAPicture as error:
        other = not job.named and files.format_of(job.source) is None
        return Outcome(job, None if other else str(error), other=other)
    except OSError as error:
        return Outcome(job, error.strerror or str(error))
    except OverLimit as error:
        return Outcome(job, error.by_option())
    except files.PictureError as error:
        return Outcome(job, str(error))
    try:
        # What can't be kept isn't worth the work.
        files.require_fits(job.target, dark, **output)
        require_writable(job.target.parent)
        bright = brighten(dark)
        lost = files.write(job.target, bright, **output, overwrite=overwrite)
    except FileExistsError:
        raise
    except OSError as error:
        return Outcome(job, f"{job.target} can't be written: {error.strerror or error}")
    except OverLimit as error:
        return Outcome(job, error.by_option())
    except (ValueError, ArithmeticError) as error:
        return Outcome(job, str(error))
    except (MemoryError, RuntimeError) as error:  # torch's word for "out of memory", too
        return Outcome(job, first_line(error) if str(error) else "out of memory")
    return Outcome(job, lost=bright.lost + lost)
