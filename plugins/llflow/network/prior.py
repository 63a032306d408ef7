"""The prior: where the flow's noise is centred."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributions import Independent

from flowkit import Squeeze, diagonal_normal


def squeeze_map(color_map: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 192, H/8, W/8): the color map in the shape of the latent."""
    return Squeeze(8)(color_map)[0]


class ColorMapPrior(nn.Module):
    """N(squeeze₈(cond["color_map"]), 1). Wang et al., AAAI 2022, eq. 8."""

    def forward(self, cond: Mapping[str, Tensor]) -> Independent:
        return diagonal_normal(squeeze_map(cond["color_map"]))


class StandardPrior(nn.Module):
    """N(0, 1) of the same shape: the paper's "w/o color map". AAAI 2022, Table 6."""

    def forward(self, cond: Mapping[str, Tensor]) -> Independent:
        # Times 0 keeps the color head in the graph: DistributedDataParallel waits for its gradient.
        return diagonal_normal(squeeze_map(cond["color_map"]) * 0)
