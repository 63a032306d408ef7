"""Where the knots of a spline lie, and what is beyond the last ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

Ends = Literal["identity", "straight", "circular"]


@dataclass(frozen=True)
class Knots:
    """K bins on [low, high], for each element from `count` raw numbers, all 0 for the identity:

        K widths, K heights: share = least + (1 - least·K)·softmax(raw), of high - low
        slopes:              d = least + log(1 + e^(raw + offset)), which is 1 at raw = 0

    Args:
        bins: K.
        low, high: the interval, on both sides of the map.
        least: of a bin's share of the interval, and of a slope.
        ends: "identity" outside of the interval, with slope 1 at its ends and K - 1 raw ones
            between; "straight" on along the tangents at its ends, K + 1 slopes; or "circular", on
            from end to end, K slopes, of which the first holds at both ends.
    """

    bins: int
    low: float
    high: float
    least: float
    ends: Ends
    offset: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.ends not in get_args(Ends):
            raise ValueError(f"Knots: expected ends among {get_args(Ends)}, got {self.ends!r}")
        require_bins(self, self.bins, self.low, self.high, self.least)
        # Not a property: a compiler that leaves floats open can't work it out.
        object.__setattr__(self, "offset", math.log(math.expm1(1 - self.least)))

    @property
    def count(self) -> int:
        return 3 * self.bins + {"identity": -1, "straight": 1, "circular": 0}[self.ends]


def require_bins(who: object, bins: int, low: float, high: float, least: float) -> None:
    """Raise unless there can be such bins.

    Raises:
        ValueError: there can't.
    """
    finite = math.isfinite(low) and math.isfinite(high)
    if bins < 2 or not low < high or not finite or not 0 < least < 1 / bins:
        raise ValueError(
            f"{type(who).__name__}: expected bins >= 2, low < high and 0 < least < 1/bins, "
            f"got {bins}, {low}, {high} and {least}"
        )
