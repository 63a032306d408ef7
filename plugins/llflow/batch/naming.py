"""What the results of pictures are called."""

from __future__ import annotations

from pathlib import PurePosixPath

from llflow.picture import files, optional

STATE = ".batch"  # the folder below OUT that has the record


def is_picture(name: str) -> bool:
    """Whether the name ends like a picture's that can be read, with the packages for it."""
    path = PurePosixPath(name)
    return files.format_of(path) is not None or optional.becoming(path.suffix) is not None  # type: ignore[arg-type]


def result_of(key: str, file_format: str | None) -> str:
    """The key with the ending of the format asked for, or of the one that stands for one that is
    only read."""
    path = PurePosixPath(key)
    known, becomes = files.format_of(path), optional.becoming(path.suffix)  # type: ignore[arg-type]
    wanted = file_format or becomes or known
    if wanted is None or wanted == known:
        return key
    ending = files.SUFFIXES[wanted][0]
    return str(path.with_suffix(ending)) if known or becomes else key + ending


def fault_of(key: str) -> str | None:
    """Why a name can't be below OUT, or None."""
    if not key or key.startswith("/") or "\0" in key:
        return "expected a name below OUT"
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "expected a name below OUT, without '.', '..' and empty parts"
    return f"{STATE}/ has the record" if parts[0] == STATE else None
