"""From a picture to the network's input, and back to the picture's size."""

from __future__ import annotations

import torch
from torch import Tensor

from llflow.picture import retinex

MULTIPLE = 8  # the flow squeezes three times


def network_input(image: Tensor, equalized: Tensor) -> Tensor:
    """The six channels that a model is given: log-image and equalised image.

    Args:
        image: (..., 3, H, W) RGB in [0, 1].
        equalized: the same shape; cut out of `retinex.equalize` of the *whole* picture,
            whose histogram a crop or a padded picture doesn't have.

    Returns:
        (..., 6, H, W).
    """
    return torch.cat([retinex.log_low(image), equalized], dim=-3)


def encoder_features(network_input: Tensor, color_map: str = "sum") -> Tensor:
    """The encoder's twelve channels: log-image, equalised image, color map, noise map.

    Args:
        network_input: (B, 6, H, W) from `network_input`.
        color_map: "sum" or "mean", see `llflow.picture.retinex`.

    Returns:
        (B, 12, H, W). Wang et al., AAAI 2022, Fig. 3.
    """
    colors = retinex.COLOR_MAPS[color_map](network_input[:, :3].exp())
    return torch.cat([network_input, colors, retinex.noise_map(colors)], dim=1)


def averaged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W) -> (..., *size), the mean over areas of H/size[0] x W/size[1] pixels, parts of
    pixels counting as parts. Works both ways: an area may be smaller than a pixel."""
    return averaged_strip(image, slice(None), image.shape[-2], size)


def averaged_strip(strip: Tensor, at: slice, height: int, size: tuple[int, int]) -> Tensor:
    """What these rows (..., h, W) of a picture H high add to `averaged` of it."""
    rows = _shares(size[0], height)[:, at].to(strip)
    columns = _shares(size[1], strip.shape[-1]).to(strip)
    return rows @ strip @ columns.mT


def interpolated(coarse: Tensor, size: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """(..., h, w) -> (..., len(rows), len(columns)): those rows and columns of
    `F.interpolate(coarse, size, mode="bilinear")`, but for rounding."""
    for indices, length, axis in ((rows, size[0], -2), (columns, size[1], -1)):
        count = coarse.shape[axis]
        place = ((indices.double() + 0.5) * (count / length) - 0.5).clamp(0, count - 1)
        before = place.long()
        share = (place - before).to(coarse)
        share = share[:, None] if axis == -2 else share
        behind = coarse.index_select(axis, (before + 1).clamp(max=count - 1).to(coarse.device))
        coarse = torch.lerp(coarse.index_select(axis, before.to(coarse.device)), behind, share)
    return coarse


def _shares(count: int, length: int) -> Tensor:
    """(count, length): which share of each of `count` equal areas each of `length` pixels has."""
    area = torch.arange(count, dtype=torch.float64)[:, None] / count
    pixel = torch.arange(length, dtype=torch.float64) / length
    end = torch.minimum(area + 1 / count, pixel + 1 / length)
    return (end - torch.maximum(area, pixel)).clamp(min=0) * count


def pad(image: Tensor) -> Tensor:
    """Mirror the right and bottom edge of (..., H, W) until H and W are multiples of 8.

    The edge pixel itself is repeated (numpy's "symmetric"), which works from 1×1 up.
    """
    height, width = image.shape[-2:]
    return image[..., mirrored(height), :][..., mirrored(width)]


def mirrored(size: int) -> Tensor:
    """Which of `size` rows or columns each one is, once they are padded."""
    position = torch.arange(-(-size // MULTIPLE) * MULTIPLE) % (2 * size)
    return torch.minimum(position, 2 * size - 1 - position)


def crop(image: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad`."""
    return image[..., :height, :width]
