"""One leader at a time for a folder of results."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from llflow.batch.naming import STATE
from llflow.batch.place import Place
from llflow.errors import LLFlowError


class Taken(LLFlowError):
    """Another batch is at work in a folder."""


@contextmanager
def alone(out: Place) -> Iterator[None]:
    """Nobody else leads a batch into this folder, within. An object store has no locks: there,
    whoever starts batches has to see to it.

    Raises:
        Taken: somebody does.
    """
    if out.local is None:
        yield
        return
    folder = out.local / STATE
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Taken(f"{out.address}: another batch is at work here") from error
        yield
