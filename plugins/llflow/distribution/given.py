"""A dark picture as the flow's condition, in windows whose sums are those of the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from llflow.network.model import Light, LLFlow
from llflow.picture import preprocess, retinex
from llflow.picture.inputs import Input, tensor_of
from llflow.picture.preprocess import MULTIPLE

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Dark:
    """A dark picture, prepared for a model as a whole.

    Attributes:
        size: its height and width, before it was padded to multiples of 8.
        low: (1, 6, H, W) network input, padded, on the model's device.
        light: what the illumination branch predicts; None for a model without.
        illumination: (1, 1, H, W) of every pixel, padded; likewise.
    """

    size: tuple[int, int]
    low: Tensor
    light: Light | None
    illumination: Tensor | None

    def condition(self, model: LLFlow, window: Window) -> dict[str, Tensor]:
        """`LLFlow.condition` of one window of the padded picture: one pass of the encoder."""
        here = (..., *window)
        over = None if self.illumination is None else self.illumination[here]
        return model.condition(self.low[here], self.light, over)


@torch.no_grad()
def prepared(model: LLFlow, picture: Tensor) -> Dark:
    """See `Dark`; `picture` is (3, H, W) in [0, 1]."""
    like = next(model.parameters())
    equalized = retinex.equalize(picture)
    low = preprocess.pad(preprocess.network_input(picture, equalized))[None].to(like)
    light = model.light(picture[None].to(like), equalized[None].to(like))
    size = picture.shape[1], picture.shape[2]
    over = None if light is None else preprocess.pad(light.over(*size))
    return Dark(size, low, light, over)


def picture_of(who: str, picture: Input) -> Tensor:
    """(3, H, W) float32 in [0, 1] on the CPU, of what `picture.inputs.tensor_of` takes.

    Raises:
        ValueError, TypeError: it isn't such a picture.
        PictureError, OSError: its file can't be read.
    """
    image = tensor_of(picture)
    shaped = image.dim() == 3 and image.shape[0] == 3 and image.numel() > 0
    if not (shaped and image.is_floating_point()):
        raise ValueError(
            f"{who}: expected a floating-point picture (3, H, W), got {image.dtype} "
            f"{tuple(image.shape)}"
        )
    if not ((image >= 0) & (image <= 1)).all():
        low, high = image.min().item(), image.max().item()
        raise ValueError(f"{who}: expected values in [0, 1], got {low:.8g} to {high:.8g}")
    return image.detach().float().cpu()


def require_model(who: str, model: object) -> None:
    if not isinstance(model, LLFlow):
        raise TypeError(
            f"{who}: expected a model first (llflow.load()), got {type(model).__name__}"
        )


def windows(height: int, width: int, side: int, reach: int) -> Iterator[tuple[Window, int]]:
    """Windows and signs, such that Σ sign·f(window) = f(whole picture) for every f that sums over
    places what depends on nothing farther than `reach` pixels.

    Neighbours overlap by 2·reach, and what they overlap in is a window of sign -1: near an edge
    that is none of the picture's, f is wrong in window and overlap alike, and cancels.

    Args:
        height, width: of the picture, multiples of 8.
        side: the longest of a window; 8 more than the overlap at least, whatever it is.
        reach: see above.
    """
    overlap = -(-2 * reach // MULTIPLE) * MULTIPLE
    side = max(side // MULTIPLE * MULTIPLE, overlap + MULTIPLE)
    for rows, sign_of_rows in _spans(height, side, overlap):
        for columns, sign in _spans(width, side, overlap):
            yield (rows, columns), sign_of_rows * sign


def _spans(size: int, side: int, overlap: int) -> Iterator[tuple[slice, int]]:
    stop = min(side, size)
    yield slice(0, stop), 1
    while stop < size:
        start = stop - overlap
        yield slice(start, stop), -1
        stop = min(start + side, size)
        yield slice(start, stop), 1
