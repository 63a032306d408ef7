"""What a batch is made of, whatever it comes as."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llflow.batch import manifest
from llflow.batch.folder import Folder
from llflow.batch.manifest import Manifest
from llflow.batch.part import Item, Part
from llflow.batch.place import Place, opened, reached
from llflow.batch.shards import Shards, split
from llflow.errors import UsageError

Source = Folder | Manifest | Shards


def source_of(address: str, file_format: str | None, *, to_shards: bool) -> Source:
    """A list by its ending, shards by theirs, or a folder.

    Raises:
        UsageError: there is no such thing.
        OSError: it can't be read.
    """
    if address.endswith(manifest.ENDINGS):
        opened(address).close()
        return Manifest(address, file_format)
    if address.endswith(".tar"):
        return Shards(address, file_format, to_shards)
    place = Place(address)
    if not place.is_folder():
        endings = ", ".join(manifest.ENDINGS)
        raise UsageError(
            f"{address}: expected a folder, a list ({endings}), or shards ('{address}/*.tar')"
        )
    return Folder(place, file_format)


def require_apart(source: str, out: str) -> None:
    """Refuse results within the folder that they are made of, or below that of shards in folders.

    Raises:
        UsageError: they would be.
    """
    if source.endswith(".tar"):
        source, names = split(source)
        if "/" not in names:
            return
    inner, outer = (
        os.path.realpath(there) if isinstance(there := reached(path), Path) else path
        for path in (out, source)
    )
    if f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/"):
        raise UsageError(f"{out}: lies in {source}, where results would be taken for pictures")


@dataclass(frozen=True)
class Listing:
    """What there is: how many pictures (or shards), how many files that are none, and a digest of
    all keys."""

    count: int
    others: int
    sha256: str


def listing(source: Source) -> Listing:
    """Look at everything once.

    Raises:
        ManifestError: a row is wrong, or two would have one result.
    """
    digest, number = hashlib.sha256(), 0
    keys = source.names if isinstance(source, Shards) else (item.key for item in source.items())
    for key in keys:
        digest.update(key.encode(errors="surrogateescape") + b"\0")
        number += 1
    others = 0 if isinstance(source, Shards) else source.others
    return Listing(number, others, digest.hexdigest())


def parts(source: Source, per_shard: int | None) -> Iterator[Part]:
    """What workers are given, one after the other.

    Args:
        per_shard: pictures in each shard that is written; None for files, or for shards as the
            source has them.
    """
    if isinstance(source, Shards):
        yield from source.parts()
    elif per_shard is None:
        for item in source.items():
            yield Part(item.key, (item,))
    else:
        for number, items in enumerate(_groups(source.items(), per_shard)):
            yield Part(f"{number:06}", items, result=f"{number:06}.tar")


def _groups(items: Iterator[Item], size: int) -> Iterator[tuple[Item, ...]]:
    while group := tuple(islice(items, size)):
        yield group
