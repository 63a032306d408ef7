"""Maps from a net's raw output to a scale that is bounded away from 0 and ∞."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.contract import require_real


class Scale(Protocol):
    """raw -> (s, log s), elementwise, with s > 0."""

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]: ...


def scale_and_log(scale_map: Scale, raw: Tensor) -> tuple[Tensor, Tensor]:
    """(s, log s) by a scale map, which anybody may have written.

    Raises:
        TypeError: it isn't a function, or doesn't give two tensors.
        ValueError: they aren't of raw's shape.
    """
    name = getattr(scale_map, "__name__", type(scale_map).__name__)
    if not callable(scale_map):
        raise TypeError(f"scale: expected a function raw -> (s, log s), got {name}")
    pair = scale_map(raw)
    # A tensor could be unpacked as well: into samples.
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"scale {name}: expected (s, log s), got {type(pair).__name__}")
    scale, log_scale = pair
    if scale.shape != raw.shape or log_scale.shape != raw.shape:
        raise ValueError(
            f"scale {name}: expected s and log s of shape {tuple(raw.shape)}, "
            f"got {tuple(scale.shape)} and {tuple(log_scale.shape)}"
        )
    return scale, log_scale


@dataclass(frozen=True)
class ExpScale:
    """s = exp(bound·tanh(raw / bound)), in (exp(-bound), exp(bound)); exactly 1 at raw = 0.

    The bound is soft clamping as in Ardizzone et al., 2019, arXiv:1907.02392, with tanh.
    """

    bound: float = 2.0

    def __post_init__(self) -> None:
        require_real(self, bound=self.bound)
        if not self.bound > 0:
            raise ValueError(f"ExpScale: expected bound > 0, got {self.bound}")

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(s, log s), each of `raw`'s shape."""
        log_scale = self.bound * torch.tanh(raw / self.bound)
        return log_scale.exp(), log_scale


@dataclass(frozen=True)
class SigmoidScale:
    """s = sigmoid(raw + offset) + floor, in (floor, 1 + floor).

    Can only shrink (up to the floor): growth is left to the layers between. With offset 2 a net
    that gives zeros starts near the identity, at s = 0.88. Kingma & Dhariwal, Glow, 2018,
    arXiv:1807.03039.
    """

    offset: float = 2.0
    floor: float = 1e-4

    def __post_init__(self) -> None:
        require_real(self, offset=self.offset, floor=self.floor)
        if not self.floor > 0:
            raise ValueError(f"SigmoidScale: expected floor > 0, got {self.floor}")

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(s, log s), each of `raw`'s shape."""
        scale = torch.sigmoid(raw + self.offset) + self.floor
        return scale, scale.log()


@dataclass(frozen=True)
class SoftplusScale:
    """s = log(1 + e^(raw + offset)) clamped to [floor, ceiling], with s = 1 at raw = 0.

    Grows like raw itself and shrinks like its exponential; offset = log(e - 1). A clamped element
    has no gradient. Zhai et al., Normalizing flows are capable generative models (TarFlow), 2024,
    arXiv:2412.06329, use softplus where others have exp.
    """

    floor: float = 1e-3
    ceiling: float = 1e3

    def __post_init__(self) -> None:
        require_real(self, floor=self.floor, ceiling=self.ceiling)
        if not 0 < self.floor < 1 < self.ceiling:
            raise ValueError(
                "SoftplusScale: expected 0 < floor < 1 < ceiling, "
                f"got {self.floor} and {self.ceiling}"
            )

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(s, log s), each of `raw`'s shape."""
        scale = F.softplus(raw + 0.5413248546129181).clamp(self.floor, self.ceiling)
        return scale, scale.log()
