"""Who is compared, on which pictures, in what order and on which side."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1)]


class Study(BaseModel):
    """Two makers of pictures and the names of the pictures; `seed` decides the rest.

    Nobody who looks at the page sees which maker is on which side, and the page itself doesn't
    know: names and seed go through SHA-256, here alone.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    a: Name
    b: Name
    seed: int
    pairs: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _each_pair_once(self) -> Study:
        if len(set(self.pairs)) < len(self.pairs):
            raise ValueError("expected each pair once")
        return self

    def order(self) -> list[str]:
        """The pairs as they are shown."""
        return self._shuffled("order")

    def on_the_left(self) -> dict[str, str]:
        """Which of "a" and "b" is on the left, by pair: "a" in half of them, rounded up."""
        shuffled = self._shuffled("side")
        half = -(-len(shuffled) // 2)
        return {name: "a" if index < half else "b" for index, name in enumerate(shuffled)}

    def _shuffled(self, what: str) -> list[str]:
        """As good as random, and the same for ever, which generators don't promise."""

        def key(name: str) -> bytes:
            return hashlib.sha256(f"{self.seed} {what} {name}".encode()).digest()

        return sorted(self.pairs, key=key)
