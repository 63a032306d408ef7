"""The block of the lean networks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.1."""
    return F.leaky_relu(x, 0.1)


class Residual(nn.Module):
    """x + conv(activated(conv(x))), two 3x3 convolutions; starts near the identity.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385, without
    norms.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.bias)  # pyright: ignore[reportArgumentType]
        self.second.weight.data.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(activated(self.first(x)))
