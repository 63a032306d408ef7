"""Which files are films, what their results are called, and what reading them takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from llflow.jobs import Job, PlanError, identity, plan

EXTRA = "flowkit[film]"
WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
BECOMES = ".mkv"  # what others are written as: it holds all kinds of streams
_READ = (
    *(".avi", ".3gp", ".mpg", ".mpeg", ".ts", ".mts"),
    *(".m2ts", ".wmv", ".flv", ".mxf", ".ogv", ".vob"),
)
_PICTURES = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"crx ", b"jxl ")


def is_film(path: Path) -> bool:
    """Whether a file is one by its name or by how it begins; a folder and `-` aren't, nor
    a pipe, whose beginning would be gone."""
    if path.suffix.lower() in {*WRITTEN, *_READ}:
        return not path.is_dir()
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            begins = file.read(12)
    except OSError:
        return False
    if begins[4:8] == b"ftyp":
        return begins[8:] not in _PICTURES
    riff = begins[:4] == b"RIFF" and begins[8:] == b"AVI "
    return riff or begins[:4] in (b"\x1aE\xdf\xa3", b"\0\0\1\xba")  # Matroska, MPEG


def require_package() -> None:
    """Raises:
    ModuleNotFoundError: PyAV isn't there; the message says how to get it.
    """
    if find_spec("av") is None:
        raise ModuleNotFoundError(f"film needs another package: pip install '{EXTRA}'", name="av")


def planned(films: Sequence[Path], out: Path | None, suffix: str | None) -> list[Job]:
    """`jobs.plan` of films: where each one's result goes.

    Raises:
        PlanError: as there, or `out` is a file of a kind that isn't written.
    """
    if len(films) == 1 and out is not None and not out.is_dir() and out.suffix:
        (source,) = films
        if out.suffix.lower() not in WRITTEN:
            raise PlanError(f"{out}: expected a name in {', '.join(WRITTEN)}, or a folder")
        if not os.path.lexists(source):
            raise PlanError(f"{source}: no such file or folder")
        if identity(source) == identity(out):
            raise PlanError(f"{out}: the result would replace its film; choose another OUT")
        return [Job(source, out)]
    return [
        replace(job, target=_written(job.target))
        for job in plan(films, out, recursive=False, suffix=suffix)
    ]


def _written(target: Path) -> Path:
    return target if target.suffix.lower() in WRITTEN else target.with_suffix(BECOMES)
