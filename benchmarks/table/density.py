"""What the table asks of a library's flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

HIDDEN, STEPS, BINS, BOUND = 64, 5, 8, 5.0
"""Of every spline flow: hidden layers of so many (two, in residual nets three), so many maps, bins
on ±BOUND."""
LEVELS, GLOW_STEPS = 2, 6
"""Of every Glow; its nets have HIDDEN channels."""


@dataclass(frozen=True)
class Density:
    """A flow of any library.

    Attributes:
        module: holds the parameters.
        log_prob: of x (B, *S) given cond (B, D) or None, (B,) in nats.
        sample: (count, *S) for one condition (1, D), or None.
        first: what has to happen with the first batch, such as data-dependent initialisation.
    """

    module: nn.Module
    log_prob: Callable[[Tensor, Tensor | None], Tensor]
    sample: Callable[[Tensor | None, int], Tensor]
    first: Callable[[Tensor, Tensor | None], object] = lambda x, cond: None


def glow_net(c_in: int, c_out: int) -> nn.Module:
    """Glow's net, for libraries that bring none: its last layer starts at zero."""
    last = nn.Conv2d(HIDDEN, c_out, 3, padding=1)
    nn.init.zeros_(last.weight)
    return nn.Sequential(
        nn.Conv2d(c_in, HIDDEN, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(HIDDEN, HIDDEN, 1),
        nn.ReLU(),
        last,
    )
