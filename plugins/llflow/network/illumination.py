"""Illumination: how bright the bright picture is, and where, from a thumbnail of the dark one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llflow.network.residual import Residual, activated
from llflow.picture import retinex
from llflow.picture.preprocess import averaged, interpolated

THUMBNAIL = (64, 96)  # rows and columns, of a picture that is wider than high
DARKEST = 1 / 255
LEAST_STD = -5.0  # of the logarithm, and the largest
LARGEST_STD = 1.0


@dataclass(frozen=True)
class Light:
    """The illumination exposure·shape of bright pictures: log exposure ~ N(mean, std²).

    Attributes:
        mean, std: (B,) each, of the logarithm of the exposure, which is the bright picture's mean.
        shape: (B, 1, h, w), positive, of mean 1: its luminance over its mean, coarsely.
    """

    mean: Tensor
    std: Tensor
    shape: Tensor

    @property
    def exposure(self) -> Tensor:
        """The median exposure (B,)."""
        return self.mean.exp()

    def over(self, height: int, width: int) -> Tensor:
        """The illumination (B, 1, H, W) of every pixel of the whole picture."""
        return F.interpolate(self._coarse(), (height, width), mode="bilinear")

    def over_part(self, size: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
        """These rows and columns of `over(*size)`, whose indices may come in any order."""
        return interpolated(self._coarse(), size, rows, columns)

    def _coarse(self) -> Tensor:
        return self.exposure[:, None, None, None] * self.shape


def thumbnail(image: Tensor, equalized: Tensor) -> Tensor:
    """(B, 3, H, W) twice -> (B, 6, 64, 96), or (B, 6, 96, 64) of pictures higher than wide: log of
    the light averaged over areas, and the equalised picture averaged."""
    size = thumbnail_size(*image.shape[-2:])
    return of_averages(averaged(image, size), averaged(equalized, size))


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    rows, columns = THUMBNAIL
    return (rows, columns) if width >= height else (columns, rows)


def of_averages(light: Tensor, contrast: Tensor) -> Tensor:
    """The thumbnail of picture and equalised picture averaged (B, 3, h, w)."""
    return torch.cat([retinex.log_low(light), contrast], dim=1)


class Illumination(nn.Module):
    """Thumbnail (B, 6, h, w) -> `Light` with a shape of (h/4, w/4).

    A U-net down to a sixteenth. Exposure and shape are both found as changes of the thumbnail's own
    brightness: what is black stays dark, and a bright picture needs none.

    Args:
        channels: of every resolution but the first, which has half of them.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        first = channels // 2
        self.first = nn.Conv2d(6, first, 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(4 * seen, channels, 3, padding=1)
            for seen in (first, channels, channels, channels)
        )
        self.blocks = nn.ModuleList(Residual(channels) for _ in range(4))
        self.whole = nn.Sequential(
            nn.Linear(2 * channels + 2, channels),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.2),
            nn.Linear(channels, 2 + 2 * channels),
        )
        self.ups = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.merge = nn.ModuleList(Residual(channels) for _ in range(2))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        for layer in (self.last, self.whole[3]):
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, thumbnail: Tensor) -> Light:
        dark, contrast = thumbnail.split(3, dim=1)
        light = retinex.from_log_low(dark).mean(1, keepdim=True)
        light = (F.avg_pool2d(light, 4) + DARKEST).log()
        level = light.mean((1, 2, 3))
        x = activated(self.first(torch.cat([dark / 3 + 1, contrast * 2 - 1], 1)))
        resolutions = []
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(activated(down(F.pixel_unshuffle(x, 2))))
            resolutions.append(x)
        spread = light.std((1, 2, 3))
        seen = torch.cat(
            [x.mean((2, 3)), x.amax((2, 3)), level[:, None] / 3 + 1, spread[:, None]], 1
        )
        change, log_std, scale, shift = self.whole(seen).split([1, 1, x.shape[1], x.shape[1]], 1)
        x = x * (1 + scale[..., None, None]) + shift[..., None, None]
        for up, merge, skip in zip(self.ups, self.merge, resolutions[2:0:-1], strict=True):
            x = merge(skip + up(F.interpolate(x, scale_factor=2.0, mode="bilinear")))
        shape = (light - level[:, None, None, None] + self.last(x)).exp()
        return Light(
            mean=light.exp().mean((1, 2, 3)).log() + change[:, 0],
            std=(log_std[:, 0] - 1.5).clamp(LEAST_STD, LARGEST_STD).exp(),
            shape=shape / shape.mean((2, 3), keepdim=True),
        )
