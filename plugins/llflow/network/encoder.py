"""The authors' conditional encoder: what the dark picture says, at three resolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llflow.network.recompute import through


def _activated(x: Tensor) -> Tensor:
    """Leaky ReLU, in place: `x` is a convolution's output, which nothing else needs."""
    return F.leaky_relu(x, 0.2, inplace=True)


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each seeing all before it; x + 0.2·(the last one's output).

    Zhang et al., Residual Dense Network, CVPR 2018, arXiv:1802.08797, with ESRGAN's scaling.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            _dense_conv(features + i * growth, growth if i < 4 else features) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        # A convolution of joined channels is the sum of each part's convolution. That spares the
        # CPU the joining, but in bf16 it would round every partial sum, and a GPU would have to
        # start three times as many kernels.
        precise = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
        apart = x.device.type == "cpu" and precise
        seen = [x]
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            output = _conv_of_parts(conv, seen) if apart else conv(torch.cat(seen, dim=1))
            seen.append(output if conv is self.convs[4] else _activated(output))
        return torch.add(x, seen[-1], alpha=0.2)


def _conv_of_parts(conv: nn.Conv2d, parts: list[Tensor]) -> Tensor:
    """conv(torch.cat(parts, dim=1)) of a 3x3 convolution."""
    weights = conv.weight.split([part.shape[1] for part in parts], dim=1)
    total = F.conv2d(parts[0], weights[0], conv.bias, padding=1)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total += F.conv2d(part, weight, padding=1)
    return total


def _dense_conv(c_in: int, c_out: int) -> nn.Conv2d:
    conv = nn.Conv2d(c_in, c_out, 3, padding=1)
    with torch.no_grad():
        nn.init.kaiming_normal_(conv.weight).mul_(0.1)
        nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]
    return conv


class ResidualDenseBlocks(nn.Sequential):
    """Residual in residual: x + 0.2·(three dense blocks).

    Wang et al., ESRGAN, ECCV workshops 2018, arXiv:1809.00219, §3.1.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__(*(DenseBlock(features, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, super().forward(x), alpha=0.2)


def _full_color_head(features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.UpsamplingNearest2d(scale_factor=2),
        nn.Conv2d(features, features, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(features, 3, 3, padding=1),
    )


class ConditionEncoder(nn.Module):
    """Features (B, 12, H, W) -> conditions and color map; H and W multiples of 8.

    Args:
        features: channels of the trunk.
        growth: channels that each dense convolution adds.
        blocks: length of the trunk, which runs at half resolution.
        taps: the trunk's blocks whose outputs join every condition.
        color_scale: upper end of the color map's range.
        color_head: "half" makes the color map at half the resolution by one 1x1 convolution, as
            the released network does; "full" at full resolution by two 3x3 convolutions.

    Gives {"half": (B, D, H/2, W/2), "quarter": (B, D, H/4, W/4), "eighth": (B, D, H/8, W/8),
    "color_map": (B, 3, H, W) in (0, color_scale)} with D = features·(1 + number of taps).

    Wang et al., AAAI 2022, "Encoder for Illumination Invariant Color Map", as the released network
    has it: the level at a quarter is activated, the other two are not.
    With `recompute`, training keeps only the inputs of the trunk's blocks, which run again in the
    backward pass.
    """

    def __init__(
        self,
        features: int,
        growth: int,
        blocks: int,
        taps: tuple[int, ...],
        color_scale: float,
        color_head: str = "half",
    ) -> None:
        super().__init__()
        self.taps = taps
        self.color_scale = color_scale
        self.conv_first = nn.Conv2d(12, features, 3, padding=1)
        self.conv_second = nn.Conv2d(features, features, 3, padding=1)
        self.trunk = nn.ModuleList(ResidualDenseBlocks(features, growth) for _ in range(blocks))
        self.trunk_conv = nn.Conv2d(features, features, 3, padding=1)
        self.down_quarter = nn.Conv2d(features, features, 3, padding=1)
        self.down_eighth = nn.Conv2d(features, features, 3, padding=1)
        self.color_head = (
            nn.Conv2d(features, 3, 1) if color_head == "half" else _full_color_head(features)
        )

    def forward(self, features: Tensor, *, recompute: bool = False) -> dict[str, Tensor]:
        # Without a name for it, what is at full resolution is gone once it is pooled.
        trunk = F.max_pool2d(self.conv_second(_activated(self.conv_first(features))), 2)
        head = trunk
        tapped = []
        for index, block in enumerate(self.trunk):
            trunk = through(block, trunk, recompute=recompute)
            if index in self.taps:
                tapped.append(trunk)
        half = head + self.trunk_conv(trunk)
        quarter = _activated(self.down_quarter(F.avg_pool2d(half, 2)))
        eighth = self.down_eighth(F.avg_pool2d(quarter, 2))
        # A 1x1 convolution commutes with nearest-neighbour upsampling; on this side of it, it is
        # four times cheaper.
        colors = self.color_head(half)
        # The prior's mean belongs to the latent path: not below float32, also under autocast.
        colors = colors.to(torch.promote_types(colors.dtype, torch.float32))
        colors = self.color_scale * colors.sigmoid()
        taps = torch.cat(tapped, dim=1)
        return {
            "half": torch.cat([half, taps], dim=1),
            "quarter": torch.cat([quarter, taps[..., ::2, ::2]], dim=1),
            "eighth": torch.cat([eighth, taps[..., ::4, ::4]], dim=1),
            "color_map": F.interpolate(colors, size=features.shape[2:], mode="nearest"),
        }
