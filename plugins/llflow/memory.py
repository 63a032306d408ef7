"""How much memory there is, and may be taken."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of control groups, version 2 and 1
_MMAP_THRESHOLD = -3  # glibc's number for `mallopt`
_USED = ("memory.current", "memory.usage_in_bytes")


def available() -> int | None:
    """Bytes that can be taken without others having to give way, of the machine or of the control
    group (a container's) that this process is in; None where the system doesn't tell."""
    machine = _available_here()
    group = _left_in_group()
    return min((size for size in (machine, group) if size is not None), default=None)


def _available_here() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line[:13] == "MemAvailable:")
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_group() -> int | None:
    """Of the group's and its parents' limits, as the kernel shows them to this process."""
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    folders = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")]
    for line in own:
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            root = folders[0] if kinds == "" else folders[1]
            here = root / path.lstrip("/")
            folders += [here, *(parent for parent in here.parents if root in parent.parents)]
    left = [_left(folder) for folder in folders]
    return min((size for size in left if size is not None), default=None)


def _left(folder: Path) -> int | None:
    limit = next((size for name in _LIMITS if (size := _number(folder / name)) is not None), None)
    used = next((size for name in _USED if (size := _number(folder / name)) is not None), None)
    if limit is None or used is None:
        return None
    return max(0, limit - used + _cached(folder))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None


def _cached(folder: Path) -> int:
    """Of files, which the kernel drops when memory is wanted."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    found = dict(line.split(maxsplit=1) for line in lines)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def prefer_huge_pages() -> None:
    """Let PyTorch, if it isn't imported yet, ask the system for its largest pages, unless the
    environment says otherwise: a large picture's tensors then begin on pages of their own, and
    less lies between them. For programs; a library leaves the environment alone."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@contextmanager
def given_back_at_once() -> Iterator[None]:
    """Inside, tensors that are freed go back to the system, each by itself: less memory for more
    time. glibc keeps those of up to 32 MB, and what lies between them, for others."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, 1 << 25)


def release() -> None:
    """Give back to the system what was freed and kept for others."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
