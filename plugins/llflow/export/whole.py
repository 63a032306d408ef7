"""`llflow.enhance` of a whole picture in tensors alone, which a graph can hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llflow.enhancement import SURE, UNSURE
from llflow.network.illumination import THUMBNAIL, Illumination, of_averages
from llflow.network.model import Light, LLFlow
from llflow.picture import light as linear
from llflow.picture.highlights import KNEE
from llflow.picture.night import CELL, share_of_cells
from llflow.picture.preprocess import MULTIPLE, averaged, network_input

LEVELS = 256


class Whole(nn.Module):
    """Dark picture (1, 3, H, W) in [0, 1] -> bright picture of the same size, in [0, 1].

    It is `llflow.enhance`'s with its default settings, but for rounding, for any H and W from 1 on.
    What `enhance` decides by numbers, strip by strip, is here decided by `torch.where` over the
    whole; nothing is checked.

    Args:
        model: folded, on the CPU.
    """

    def __init__(self, model: LLFlow) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        cond, light = conditions(self.model, image)
        flow = self.model.flow
        bright = flow.decode(flow.base(cond).mean, cond)[0]
        bright = _cropped(bright, *image.shape[2:])
        if light is not None:
            bright = _finished(image, bright, light)
        return bright.clamp(0, 1)


def conditions(model: LLFlow, image: Tensor) -> tuple[dict[str, Tensor], Light | None]:
    """`LLFlow.condition` of a whole dark picture (1, 3, H, W), and its light where there is one."""
    equalized = _equalized(image)
    low = padded(network_input(image, equalized))
    if model.illumination is None:
        return model.condition(low), None
    light, over = _light(model.illumination, image, equalized)
    return model.condition(low, light, padded(over)), light


def _light(illumination: Illumination, image: Tensor, equalized: Tensor) -> tuple[Light, Tensor]:
    """The light, and it over every pixel: of thumbnails lying and standing. Which of them is the
    picture's isn't known before the picture is, and both are small."""
    height, width = image.shape[2:]
    rows, columns = THUMBNAIL
    lights = [
        illumination(of_averages(averaged(image, size), averaged(equalized, size)))
        for size in ((rows, columns), (columns, rows))
    ]
    lies = torch.full((1,), width) >= torch.full((1,), height)
    mean = torch.where(lies, *(light.mean for light in lights))
    std = torch.where(lies, *(light.std for light in lights))
    over = torch.where(lies, *(light.over(height, width) for light in lights))
    return Light(mean, std, lights[0].shape), over


def padded(image: Tensor) -> Tensor:
    """`preprocess.pad`; ONNX has a remainder by tensors only."""
    for axis in (2, 3):
        size = image.shape[axis]
        position = torch.arange(_up(size, MULTIPLE))
        position = position % torch.full_like(position, 2 * size)
        image = image.index_select(axis, torch.minimum(position, 2 * size - 1 - position))
    return image


def _cropped(image: Tensor, height: int, width: int) -> Tensor:
    """`preprocess.crop`, as a copy whatever the size is."""
    return image.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))


def _equalized(image: Tensor) -> Tensor:
    """`retinex.equalize` of (1, 3, H, W)."""
    levels = (image[0].flatten(1) * 255).round().clamp(0, 255).to(torch.int64)
    counts = torch.zeros(3, LEVELS, dtype=torch.int64)
    counts = counts.scatter_add(1, levels, torch.ones_like(levels))
    darkest = (counts > 0).to(torch.int64).argmax(1, keepdim=True)
    level = torch.arange(LEVELS)[None]
    counts = torch.where(level == darkest, 0, counts)
    above = counts.sum(1, keepdim=True)
    some = above.clamp(min=1).float()
    # A number over a tensor is the number times the reciprocal, which rounds twice.
    scale = torch.full_like(some, 255) / some
    tables = (counts.cumsum(1).float() * scale).round().clamp(0, 255)
    tables = torch.where(above == 0, level.float(), tables)
    return (tables.gather(1, levels) / 255).reshape(image.shape)


def _finished(image: Tensor, bright: Tensor, light: Light) -> Tensor:
    """`enhancement.finished` of both (1, 3, H, W), `bright` not yet at its exposure."""
    mean = _mean(bright.clamp(0, 1))
    bright = bright * torch.where(mean > 0, light.exposure / mean, 1.0)

    top = _thousandth(bright)
    distance = (bright - KNEE).clamp(min=0) / (1 - KNEE)
    farthest = (top - KNEE) / (1 - KNEE)
    rolled = KNEE + (1 - KNEE) * distance * (1 + distance / farthest**2) / (1 + distance)
    bright = torch.where((bright > KNEE) & (top > 1), rolled, bright)

    mean = _mean(image)
    deviations = (light.mean - mean.clamp(min=1e-30).log()) / light.std
    needed = torch.where(mean > 0, ((deviations - UNSURE) / (SURE - UNSURE)).clamp(0, 1), 0.0)
    before, after = image**linear.GAMMA, bright.clamp(0, 1) ** linear.GAMMA
    blended = ((1 - needed) * before + needed * after) ** (1 / linear.GAMMA)
    bright = torch.where(needed < 1, blended, bright)

    kept = linear.keep_lights(image[0], bright[0])
    kept = torch.lerp(image[0], kept, _share_that_is_no_night(image))
    return torch.where(needed > 0, kept, image)


def _share_that_is_no_night(image: Tensor) -> Tensor:
    """`night.share_that_is_no_night` of (1, 3, H, W)."""
    height, width = image.shape[2:]
    beyond = 0, _up(width, CELL) - width, 0, _up(height, CELL) - height
    plane, there = image.mean(1, keepdim=True), torch.ones_like(image[:, :1])
    light, part = (F.avg_pool2d(F.pad(one, beyond), CELL) for one in (plane, there))
    white = _thousandth(image.amax(1)).clamp(min=1 / 255)
    share = share_of_cells(light / part / white)
    return F.interpolate(share, (height, width), mode="bilinear")[0, 0]


def _thousandth(values: Tensor) -> Tensor:
    """The least of the brightest thousandth, (1,), see `highlights.number_above`."""
    values = values.flatten()
    above = values.shape[0] // 1000
    # One more than is asked for: of a single one PyTorch makes another program.
    highest = F.pad(values, (0, 1), value=-torch.inf).topk(above + 2).values
    return highest.index_select(0, torch.full((1,), above))


def _mean(image: Tensor) -> Tensor:
    """Axis by axis: in one sum of millions of numbers the last ones are rounded away."""
    return image.mean(3).mean(2).mean()


def _up(size: int, multiple: int) -> int:
    """Rounded up, without numbers below 0, of which ONNX' division isn't Python's."""
    return (size + multiple - 1) // multiple * multiple
