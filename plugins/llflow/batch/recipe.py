"""What is done to each picture."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from llflow.settings import Settings


@dataclass(frozen=True)
class Recipe:
    """All that decides the bytes of a result, and from where the weights come.

    Attributes:
        settings: as `llflow enhance` has them, with a precision that isn't "auto".
        weights: their name or file, wherever a worker is.
        sha256: theirs.
        device: "cpu" or "cuda".
        threads: of a worker; sums depend on them in their last bit.
        max_pixels: of a picture.
        max_memory: bytes that one picture may take; it decides the size of tiles.
        record: write the settings into each result's XMP history.
    """

    settings: Settings
    weights: str
    sha256: str
    device: str
    threads: int
    max_pixels: int
    max_memory: int
    record: bool = False

    def pins(self) -> dict[str, Any]:
        """What has to stay the same from one start to the next, for JSON."""
        return self.settings.record() | {
            "weights' SHA-256": self.sha256,
            "device": self.device,
            "threads": self.threads,
            "max-pixels": self.max_pixels,
            "max-memory": self.max_memory,
            "record": self.record,
            "flowkit": version("flowkit"),
            "torch": version("torch"),
        }
