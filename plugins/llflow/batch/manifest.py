"""The pictures that a list names: JSON Lines, or Parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from llflow.batch.naming import fault_of, result_of
from llflow.batch.part import Item
from llflow.batch.place import below, is_address, opened
from llflow.errors import UsageError

ENDINGS = (".jsonl", ".parquet")
COLUMNS = ("source", "key")
BLOCK = 1 << 20


class ManifestError(UsageError):
    """A list isn't as it should be."""


class Manifest:
    """A row has `source`, a path below the list's folder, an absolute one or an address, and may
    have `key`, the result's name; without it the key is a `source` below the list's folder. Other
    columns are nobody's business here.

    Raises:
        ManifestError: while it is read, with the row that is wrong.
    """

    kind, others = "manifest", 0

    def __init__(self, address: str, file_format: str | None) -> None:
        self.address, self._format = address, file_format
        self._folder = address.rpartition("/")[0] or ("/" if address[:1] == "/" else ".")

    def pins(self) -> dict[str, str]:
        """What of it has to stay the same from one start to the next."""
        digest = hashlib.sha256()
        with opened(self.address) as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return {"manifest": digest.hexdigest()}

    def items(self) -> Iterator[Item]:
        taken: dict[bytes, int] = {}
        rows = _parquet if self.address.endswith(".parquet") else _json_lines
        for number, row in enumerate(rows(self.address), 1):
            item = self._item(row, f"{self.address}: row {number}")
            digest = hashlib.blake2b(
                item.target.encode(errors="surrogateescape"), digest_size=16
            ).digest()
            first = taken.setdefault(digest, number)
            if first != number:
                raise ManifestError(
                    f"{self.address}: rows {first} and {number} would both be {item.target}"
                )
            yield item

    def _item(self, row: Any, where: str) -> Item:
        if not isinstance(row, dict):
            raise ManifestError(f'{where}: expected an object such as {{"source": "a.jpg"}}')
        source, key = row.get("source"), row.get("key")
        if not (isinstance(source, str) and source):
            raise ManifestError(f"{where}: expected a path or address as 'source', got {source!r}")
        key = source if key is None else key
        named = isinstance(key, str) and not is_address(key)
        fault = fault_of(key) if named else "expected a name below OUT"
        if fault:
            raise ManifestError(f"{where}: {fault}, as 'key' or else 'source', got {key!r}")
        there = is_address(source) or source.startswith("/")
        source = source if there else below(self._folder, source)
        return Item(key, source, result_of(key, self._format))


def _json_lines(address: str) -> Iterator[Any]:
    with opened(address) as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ManifestError(f"{address}: row {number}: not JSON ({error})") from error


def _parquet(address: str) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException  # pyright: ignore[reportMissingImports]
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{address}: Parquet takes pip install 'flowkit[batch]' ({error})"
        ) from error
    try:
        with opened(address) as file, ParquetFile(file) as table:
            columns = [name for name in COLUMNS if name in table.schema_arrow.names]
            for batch in table.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ManifestError(f"{address}: not Parquet, or damaged ({error})") from error
