"""What a part of the table is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from density import Density

Build = Callable[[int, int], Density]
"""A flow of vectors from the numbers of their dimensions and of the condition's."""


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: of the record, results/table_NAME.jsonl.
        tasks: the libraries' flows, by the task that they are for.
        measure: of (task, peer, seed, quick) what was found: "value", of which less is better, and
            what else is worth keeping.
        looked_at: seeds by which our own defaults were chosen, so that they prove nothing; they are
            shown as long as there are no others.
    """

    name: str
    tasks: Mapping[str, Sequence[str]]
    measure: Callable[[str, str, int, bool], Mapping[str, Any]]
    looked_at: frozenset[int] = frozenset()
