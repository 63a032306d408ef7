"""The pictures in a folder and the folders within."""

from __future__ import annotations

from collections.abc import Iterator

from llflow.batch.naming import is_picture, result_of
from llflow.batch.part import Item
from llflow.batch.place import Place, below


class Folder:
    """What ends like a picture; its path below the folder is its key, and its result's place.

    Attributes:
        others: files of other kinds, counted as `items` goes along.
    """

    kind = "folder"

    def __init__(self, place: Place, file_format: str | None) -> None:
        self.place, self._format, self.others = place, file_format, 0

    def pins(self) -> dict[str, str]:
        """What of it has to stay the same from one start to the next."""
        return {}

    def items(self) -> Iterator[Item]:
        """Each picture, in an order that repeats; of two whose results would have one name the
        second has a problem."""
        self.others = 0
        for folder, names in self.place.walk():
            taken: dict[str, str] = {}
            for name in names:
                if not is_picture(name):
                    self.others += 1
                    continue
                key = f"{folder}/{name}" if folder else name
                target = result_of(key, self._format)
                other = taken.setdefault(target, key)
                problem = None if other == key else f"{other} and this would both be {target}"
                yield Item(key, below(self.place.address, key), target, problem)
