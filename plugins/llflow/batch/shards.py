"""Pictures in webdataset shards: tar files, each read from beginning to end."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from llflow.batch.naming import fault_of, is_picture, result_of
from llflow.batch.part import Item, Part
from llflow.batch.place import Place, below, local_copy, opened, reached
from llflow.errors import LLFlowError, UsageError, first_line


class DamagedShard(LLFlowError, ValueError):
    """A shard ends too early, or isn't a tar."""


class Shards:
    """The shards that a path or address with `*` names, or a single one."""

    kind = "shards"

    def __init__(self, pattern: str, file_format: str | None, to_shards: bool) -> None:
        folder, names = split(pattern)
        self.place, self._format, self._to_shards = Place(folder), file_format, to_shards
        self.names = self.place.glob(names)
        if not self.names:
            raise UsageError(f"{pattern}: no such shard")

    def pins(self) -> dict[str, str]:
        """What of it has to stay the same from one start to the next: shards may be added."""
        return {}

    def parts(self) -> Iterator[Part]:
        for name in self.names:
            stem = name.removesuffix(".tar")
            yield Part(
                stem,
                shard=below(self.place.address, name),
                file_format=self._format,
                result=name if self._to_shards else None,
            )


def split(pattern: str) -> tuple[str, str]:
    """A folder without `*` of shards' pattern, and what is below it."""
    parts = pattern.split("/")
    plain = next((i for i, part in enumerate(parts) if set(part) & {*"*?["}), len(parts) - 1)
    folder, names = "/".join(parts[:plain]), "/".join(parts[plain:])
    return folder or ("/" if pattern.startswith("/") else "."), names


@dataclass(frozen=True)
class Member:
    """A picture of a part, or a shard's file beside the pictures.

    Attributes:
        name: within its shard; a picture's key.
        fetch: gives the path of a file that has it.
        share: of the part that is over with it.
        item: the picture's; None for other files.
    """

    name: str
    fetch: Callable[[], Path]
    share: float
    item: Item | None


def members(part: Part, folder: Path) -> Iterator[Member]:
    """What a part consists of, one after the other; what has to be copied lies in `folder` until
    the next.

    Raises:
        DamagedShard: what follows in a shard can't be told.
    """
    if part.shard is None:
        for number, item in enumerate(part.items, 1):
            fetch = partial(local_copy, item.source, folder)
            yield Member(item.key, fetch, number / len(part.items), item)
        return
    try:
        with opened(part.shard) as file:
            yield from _streamed(file, part, _size(part.shard), folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DamagedShard(f"can't be read to its end: {first_line(error)}") from error


def _size(address: str) -> int:
    there = reached(address)
    return there.stat().st_size if isinstance(there, Path) else there[0].size(there[1])


def _streamed(file: IO[bytes], part: Part, size: int, folder: Path) -> Iterator[Member]:
    seen: set[str] = set()
    taken: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Strict) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
            if member.isdir():
                continue
            name = member.name.removeprefix("./")
            item = _item(name, member, part, seen, taken) if is_picture(name) else None
            if item is None and not member.isfile():
                continue
            share = min(1.0, (member.offset_data + member.size) / size) if size else 1.0
            yield Member(name, partial(_extracted, tar, member, folder), share, item)


def _item(
    name: str,
    member: tarfile.TarInfo,
    part: Part,
    seen: set[str],
    taken: dict[str, str],
) -> Item:
    key, target = name, result_of(name, part.file_format)
    if part.result is None:  # other shards may have the same names
        target = f"{part.name}/{target}"
    if name in seen:
        key = next(k for n in range(2, len(seen) + 3) if (k := f"{name}#{n}") not in seen)
        problem = "the shard has this name twice"
    elif taken.setdefault(target, name) != name:
        problem = f"{taken[target]} and this would both be {target}"
    else:
        problem = None if member.isfile() else "it is a link, not a file"
    seen.add(key)
    return Item(key, "", target, problem or fault_of(name) or fault_of(target))


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> Path:
    path = folder / "source"
    inside: Any = tar.extractfile(member)
    with path.open("wb") as copy:
        shutil.copyfileobj(inside, copy)
    if path.stat().st_size != member.size:
        raise tarfile.ReadError(f"it ends within {member.name}")
    return path


class _Strict(tarfile.TarInfo):
    """tarfile takes whatever is no header for the end, and so does it a tar that is cut off."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tarfile_)
        except (
            tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
            tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
            tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
        ) as error:
            raise tarfile.ReadError(f"no end mark ({error})") from error
