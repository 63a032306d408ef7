"""The lean conditional encoder: a trunk at a quarter and an eighth of the resolution."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from llflow.network.recompute import through
from llflow.network.residual import Residual, activated
from llflow.picture import retinex

AVERAGED = 8  # pixels over which light is averaged before its color map is taken
DARKEST = 0.02  # added to the illumination before the logarithm


def lean_features(
    low: Tensor,
    illumination: Tensor,
    color_map: str = "sum",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The encoder's sixteen channels, unshuffled: the twelve of `encoder_features`, the color map
    of light averaged over 8x8 pixels, and log(illumination + 0.02).

    Averaged light tells colors that single pixels' noise hides.

    Args:
        low: (B, 6, H, W) from `preprocess.network_input`, H and W multiples of 8.
        illumination: (B, 1, H, W).
        color_map: "sum" or "mean", see `llflow.picture.retinex`.
        memory_format: of the result, as the convolution after it wants it.

    Returns:
        (B, 64, H/2, W/2), the four of channel c at 4·c.
    """
    light = F.avg_pool2d(retinex.from_log_low(low[:, :3]), AVERAGED)
    colors = retinex.COLOR_MAPS[color_map](light, eps=1e-3)
    colors = F.interpolate(colors, size=low.shape[2:], mode="bilinear")
    brightness = (illumination + DARKEST).log()
    sharp = retinex.COLOR_MAPS[color_map](low[:, :3].exp())
    parts = [low, sharp, retinex.noise_map(sharp), colors, brightness]
    # Joined at full resolution they would take as much again before they are unshuffled.
    places = (rearrange(part, "b c (h i) (w j) -> b h w c i j", i=2, j=2) for part in parts)
    joined = rearrange(torch.cat([*places], dim=3), "b h w c i j -> b (c i j) h w")
    return joined.contiguous(memory_format=memory_format)


class LeanEncoder(nn.Module):
    """Dark pictures (B, 6, H, W) as `lean_features` takes them, and their illumination
    (B, 1, H, W) -> conditions and color map; H and W multiples of 8.

    Nothing here sees the whole picture: what that tells is in the illumination.

    Args:
        half, quarter, eighth: channels at these resolutions.
        blocks: residual blocks at a quarter, at an eighth, and at a quarter again.
        color_scale: upper end of the color map's range.
        color_map: "sum" or "mean", of what is seen of the dark picture.

    Gives {"half": (B, 2·half, H/2, W/2), "quarter": (B, quarter, H/4, W/4),
    "eighth": (B, eighth, H/8, W/8), "color_map": (B, 3, H, W) in (0, color_scale)}. With
    `recompute`, training keeps only the inputs of the blocks, which run again in the backward pass.
    """

    def __init__(
        self,
        half: int,
        quarter: int,
        eighth: int,
        blocks: tuple[int, int, int],
        color_scale: float = 1.0,
        color_map: str = "sum",
    ) -> None:
        super().__init__()
        self.color_scale, self.color_map = color_scale, color_map
        self.first = nn.Conv2d(4 * 16, half, 3, padding=1)
        self.second = nn.Conv2d(half, half, 3, padding=1)
        self.to_quarter = nn.Conv2d(4 * half, quarter, 3, padding=1)
        self.fine = nn.ModuleList(Residual(quarter) for _ in range(blocks[0]))
        self.to_eighth = nn.Conv2d(4 * quarter, eighth, 3, padding=1)
        self.wide = nn.ModuleList(Residual(eighth) for _ in range(blocks[1]))
        self.from_eighth = nn.Conv2d(eighth, 4 * quarter, 1)
        self.joined = nn.ModuleList(Residual(quarter) for _ in range(blocks[2]))
        self.from_quarter = nn.Conv2d(quarter, 4 * half, 1)
        self.color_head = nn.Sequential(
            nn.Conv2d(2 * half, half, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(half, 12, 3, padding=1),
        )

    def forward(
        self, low: Tensor, illumination: Tensor, *, recompute: bool = False
    ) -> dict[str, Tensor]:
        # Without a name for it, what is needed no more is gone.
        formats = (torch.channels_last, torch.contiguous_format)
        own = next(f for f in formats if self.first.weight.is_contiguous(memory_format=f))
        half = activated(self.first(lean_features(low, illumination, self.color_map, own)))
        half = activated(self.second(half))
        quarter = activated(self.to_quarter(F.pixel_unshuffle(half, 2)))
        quarter = _through(self.fine, quarter, recompute)
        eighth = activated(self.to_eighth(F.pixel_unshuffle(quarter, 2)))
        eighth = _through(self.wide, eighth, recompute)
        quarter = quarter + F.pixel_shuffle(self.from_eighth(eighth), 2)
        quarter = _through(self.joined, quarter, recompute)
        half = torch.cat([half, F.pixel_shuffle(self.from_quarter(quarter), 2)], dim=1)
        colors = F.pixel_shuffle(self.color_head(half), 2)
        # The prior's mean belongs to the latent path: not below float32, also under autocast.
        colors = colors.to(torch.promote_types(colors.dtype, torch.float32))
        return {
            "half": half,
            "quarter": quarter,
            "eighth": eighth,
            "color_map": self.color_scale * colors.sigmoid(),
        }


def _through(blocks: Iterable[nn.Module], x: Tensor, recompute: bool) -> Tensor:
    for block in blocks:
        x = through(block, x, recompute=recompute)
    return x
