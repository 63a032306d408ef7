"""Numbers that follow what is measured, slowly."""

from __future__ import annotations

import math

from torch import Tensor

SECONDS = 0.5  # after which two thirds of a change are followed


class Steady:
    """Running means m of what is measured of each frame, x:

        m += (1 - exp(-Δt / 0.5 s))·(x - m)

    The first frame's are its own. Times between frames may differ.
    """

    def __init__(self) -> None:
        self.means: dict[str, Tensor] = {}

    def restart(self) -> None:
        """Forget: the next frame's are its own."""
        self.means = {}

    def follow(self, measured: dict[str, Tensor], seconds: float) -> dict[str, Tensor]:
        """The means after a frame, so many seconds after the last one.

        Args:
            measured: the same names and shapes for every frame.
        """
        share = -math.expm1(-seconds / SECONDS)
        self.means |= {
            name: self.means.get(name, now).lerp(now, share) for name, now in measured.items()
        }
        return {name: self.means[name] for name in measured}
