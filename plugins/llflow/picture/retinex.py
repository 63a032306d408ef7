"""Retinex-inspired maps of an image: pure functions, no learned part.

Images are RGB in [0, 1], shape (..., 3, H, W). Equation numbers are those of Wang et al., Low-Light
Image Enhancement with Normalizing Flow, AAAI 2022.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

DARKEST = 1e-3  # added before the logarithm: a quarter of one step of 8 bits


def log_low(image: Tensor) -> Tensor:
    """log(x + 0.001), in [-6.91, 0.001]: what the released network reads in place of x itself."""
    return (image + DARKEST).clamp_(min=DARKEST).log_()


def from_log_low(image: Tensor) -> Tensor:
    """x >= 0 of `log_low(x)`."""
    return (image.exp() - DARKEST).clamp_(min=0)


def color_map_by_mean(image: Tensor, eps: float = 1e-4) -> Tensor:
    """C(x) = x / (mean over RGB + eps), in [0, 3]: eq. 5 of the paper, which leaves out eps."""
    return image / (image.mean(dim=-3, keepdim=True) + eps)


def color_map_by_sum(image: Tensor, eps: float = 1e-4) -> Tensor:
    """C(x) = x / (sum over RGB + eps), in [0, 1]: a third of eq. 5, the released network's."""
    return image / (image.sum(dim=-3, keepdim=True) + eps)


COLOR_MAPS = {"mean": color_map_by_mean, "sum": color_map_by_sum}


def noise_map(color_map: Tensor) -> Tensor:
    """N(x) = max(|∂x C|, |∂y C|) per channel (eq. 6): where the color map is restless.

    Gradients are central differences, halved; neighbours outside the image count as 0.
    """
    padded = torch.nn.functional.pad(color_map, (1, 1, 1, 1))
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).abs_()
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).abs_()
    return torch.maximum(along_x, along_y).div_(2)


def equalize(image: Tensor) -> Tensor:
    """h(x): 8-bit histogram equalisation of each channel, equal to OpenCV's `equalizeHist`.

    Belongs to whole pictures: a crop or padding has another histogram.

    Args:
        image: (..., H, W) in [0, 1], rounded to 8 bits first; at least one pixel.

    Returns:
        The same shape, multiples of 1/255.
    """
    planes = image.reshape(-1, *image.shape[-2:])
    return equalized(planes, equalizing(counted(planes))).reshape(image.shape)


def counted(planes: Tensor) -> Tensor:
    """(C, H, W) in [0, 1] -> (C, 256): how many pixels have each level of 8 bits."""
    return torch.stack([plane.flatten().bincount(minlength=256) for plane in _levels(planes)])


def equalizing(counts: Tensor) -> Tensor:
    """(C, 256) of `counted` -> (C, 256): what each level becomes."""
    return torch.stack([_equalizing(one) for one in counts])


def equalized(planes: Tensor, tables: Tensor) -> Tensor:
    """(C, H, W) in [0, 1] with each channel's levels looked up, as multiples of 1/255."""
    pairs = zip(_levels(planes), tables.to(planes.dtype) / 255, strict=True)
    return torch.stack([table[plane] for plane, table in pairs])


def _levels(planes: Tensor) -> Iterator[Tensor]:
    """One after the other: indices take twice the memory."""
    return ((plane * 255).round_().clamp_(0, 255).to(torch.int64) for plane in planes)


def _equalizing(counts: Tensor) -> Tensor:
    darkest, pixels = int(counts.nonzero()[0]), int(counts.sum())
    above = pixels - int(counts[darkest])
    if above == 0:
        return torch.arange(256, device=counts.device)
    counts = counts.index_fill(0, torch.tensor(darkest, device=counts.device), 0)
    # The product is rounded to float32, and ties go to even, as in OpenCV.
    scale = torch.tensor(255, dtype=torch.float32) / torch.tensor(above, dtype=torch.float32)
    return (counts.cumsum(0).to(torch.float32) * scale).round().clamp(0, 255).to(torch.int64)
