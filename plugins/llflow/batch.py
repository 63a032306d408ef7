"""Many pictures in, as many out: which file goes where, and going on past the bad ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llflow import images
from llflow.enhance import NotFinite

SUFFIX = "_bright"


class PlanError(ValueError):
    """Inputs and output don't make sense together."""


@dataclass(frozen=True)
class Job:
    """One picture to read and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `problem` is None where a picture was written."""

    job: Job
    problem: str | None = None
    skipped: bool = False


def plan(inputs: Sequence[Path], out: Path | None, *, recursive: bool) -> list[Job]:
    """Find the pictures and name their results.

    A file in a folder keeps its place below that folder. Hidden files are left out, every other one
    is a job, whatever its name: contents decide later. Without `out`, results lie beside their
    inputs with "_bright" added to the name (of the file, or of the folder).

    Args:
        inputs: pictures and folders.
        out: the result's file for a single picture if it names a picture format, else a folder.
        recursive: also take what is in folders within folders.

    Raises:
        PlanError: an input doesn't exist, a folder has no files, two results would have one name,
            or a result would replace an input.
    """
    to_file = len(inputs) == 1 and not inputs[0].is_dir() and _names_picture(out)
    if out is not None and not to_file and out.exists() and not out.is_dir():
        raise PlanError(f"{out}: several results need a folder, this is a file")
    jobs = []
    for source in inputs:
        if source.is_dir():
            folder = source.with_name(source.resolve().name + SUFFIX) if out is None else out
            files = sorted(_files(source, recursive, leave_out=folder))
            if not files:
                hint = "" if recursive else " (--recursive looks into folders within)"
                raise PlanError(f"{source}: no files in this folder{hint}")
            jobs += [Job(file, folder / file.relative_to(source)) for file in files]
        elif not source.exists():
            raise PlanError(f"{source}: no such file or folder")
        elif out is None:
            jobs.append(Job(source, source.with_stem(source.stem + SUFFIX)))
        else:
            jobs.append(Job(source, out if to_file else out / source.name))
    _refuse_clashes(jobs)
    return jobs


def _names_picture(out: Path | None) -> bool:
    return out is not None and not out.is_dir() and images.format_of(out) is not None


def _files(folder: Path, recursive: bool, leave_out: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        here = Path(root)
        keep = [f for f in folders if f[0] != "." and (here / f).resolve() != leave_out.resolve()]
        folders[:] = sorted(keep) if recursive else []
        yield from (here / name for name in names if name[0] != ".")


def _refuse_clashes(jobs: Iterable[Job]) -> None:
    jobs = list(jobs)
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise PlanError(f"{job.target}: the result would replace an input; choose another OUT")
        if target in taken:
            raise PlanError(
                f"{job.target}: both {taken[target]} and {job.source} would be written here"
            )
        taken[target] = job.source


def run(
    jobs: Iterable[Job],
    brighten: Callable[[images.Picture], images.Picture],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int = images.MAX_PIXELS,
) -> Iterator[Outcome]:
    """Do the jobs one by one; a problem with one picture is its outcome, and the next one follows.

    Args:
        jobs: from `plan`.
        brighten: what to do with each picture.
        overwrite: replace results that exist.
        skip_existing: leave them and count the job as done.
        max_pixels: larger pictures are refused.
    """
    for job in jobs:
        if job.target.exists() and not overwrite:
            problem = None if skip_existing else "exists (--overwrite or --skip-existing)"
            yield Outcome(job, problem and f"{job.target} {problem}", skipped=skip_existing)
            continue
        try:
            images.write(job.target, brighten(images.read(job.source, max_pixels)))
        except (images.PictureError, NotFinite) as error:
            yield Outcome(job, str(error))
        except OSError as error:
            yield Outcome(job, error.strerror or str(error))
        except (MemoryError, RuntimeError) as error:  # torch's word for "out of memory", too
            yield Outcome(job, str(error).splitlines()[0] if str(error) else "out of memory")
        else:
            yield Outcome(job)
