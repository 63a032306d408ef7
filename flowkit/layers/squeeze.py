"""Squeeze: trade resolution for channels."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from flowkit.bijection import Bijection, Cond, Example, Shape, require_image, zero_logdet


class Squeeze(Bijection):
    """(B, C, H, W) -> (B, C·f², H/f, W/f), each f×f block of a channel stacked; log|det| = 0.

    Output channel c·f² + dy·f + dx holds the samples at (dy, dx) of channel c's blocks.

    Args:
        factor: f; H and W must be multiples of it.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §3.6.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"Squeeze: expected a factor of at least 1, got {factor}")
        self.factor = factor

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, x)
        f = self.factor
        if x.shape[2] % f or x.shape[3] % f:
            raise ValueError(
                f"Squeeze: expected H and W to be multiples of {f}, got {tuple(x.shape)}"
            )
        y = rearrange(x, "b c (h dy) (w dx) -> b (c dy dx) h w", dy=f, dx=f)
        return y, zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_image(self, y)
        f = self.factor
        if y.shape[1] % f**2:
            raise ValueError(
                f"Squeeze.inverse: expected channels a multiple of {f**2}, got {tuple(y.shape)}"
            )
        x = rearrange(y, "b (c dy dx) h w -> b c (h dy) (w dx)", dy=f, dx=f)
        return x, zero_logdet(y)

    def forward_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return channels * self.factor**2, height // self.factor, width // self.factor

    def inverse_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        return channels // self.factor**2, height * self.factor, width * self.factor

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls, (2, 4, 2), name="2"),
            Example(lambda: cls(3), (1, 3, 6), name="3"),
        ]
