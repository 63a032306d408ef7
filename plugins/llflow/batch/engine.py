"""What an engine has to do: run workers, and say when one has died. What has ended is no business
of its, and it may do a part twice."""

from __future__ import annotations

from typing import Protocol, Self

from llflow.batch.part import Event, Part


class Engine(Protocol):
    """Workers, from `with` to its end.

    Attributes:
        free: how many workers are there and have no part.
        size: how many there are if none has died.
    """

    size: int

    @property
    def free(self) -> int: ...

    def give(self, number: int, part: Part) -> None:
        """Have a free worker do this part."""
        ...

    def events(self) -> list[tuple[int | None, Event]]:
        """Wait until something happens, and tell it with the number of its part; None of a worker
        that had none. May be empty, if a worker has become free."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
