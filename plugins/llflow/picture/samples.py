"""A file's samples to what the network is given, and its result back to samples of the same kind.

Light that sRGB can't hold, of wide-gamut and floating-point files, goes around the network: with
s the file's linear light, x = clip(s) what the network sees and y its result,

    result = y + g·(s - x),   g = (mean of y's luminance nearby) / (mean of x's),

so that a picture inside sRGB is y itself, one that nothing changed is s, and there is no seam
between the two.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from llflow.picture import profiles
from llflow.picture.profiles import LUMINANCE, Space
from llflow.picture.rows import ALL, Rows, strips

FLOAT = 32  # for bits: floating point
_NEARBY = 8  # pixels to each side
_DARKEST = 1e-6  # of luminance, below one step of 16 bits


def kind(bits: int) -> np.dtype:
    """What holds samples of these bits."""
    return np.dtype({8: np.uint8, FLOAT: np.float32}.get(bits, np.uint16))


def values(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples as float32, 1 for white."""
    whole = samples.astype(np.float32)
    return whole if bits == FLOAT else whole / np.float32(2**bits - 1)


def of_bits(light: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `values`, clipped and rounded but for floating point."""
    if bits == FLOAT:
        return light.astype(np.float32)
    return np.rint(light.clip(0, 1) * np.float32(2**bits - 1)).astype(kind(bits))


def of_other_bits(samples: np.ndarray, before: int, after: int) -> np.ndarray:
    """Samples at another depth."""
    return samples if before == after else of_bits(values(samples, before), after)


def shown(space: Space, stored: np.ndarray, bits: int) -> np.ndarray:
    """(H, W, C) samples to (3, H, W) sRGB in [0, 1]."""
    image = np.empty((3, *stored.shape[:2]), np.float32)
    for rows in strips(*stored.shape[:2]):
        image[:, rows] = _seen(space, values(stored[rows], bits)).transpose(2, 0, 1)
    return image


class Shown:
    """What samples show, as it is asked for: a picture (3, H, W) in sRGB, in [0, 1].

    Args:
        space, stored, bits: as `shown` has them.
        alpha: (H, W) opacity, or None; what is wholly transparent looks as `fill_hidden` has it.
    """

    def __init__(
        self, space: Space, stored: np.ndarray, bits: int, alpha: np.ndarray | None = None
    ) -> None:
        self.shape = (3, *stored.shape[:2])
        self._space, self._stored, self._bits, self._alpha = space, stored, bits, alpha
        self._lines = None
        if alpha is not None:
            lines = np.asarray((alpha > 0).any(1))
            self._lines = _nearest(lines[None])[0] if lines.any() else None

    def rows(self, at: slice, columns: slice = ALL) -> Tensor:
        if self._alpha is None:
            return torch.from_numpy(shown(self._space, self._stored[at, columns], self._bits))
        if self._lines is None:
            image = np.zeros((3, *self._alpha[at].shape), np.float32)
        else:
            lines = self._lines[at]
            nearest = _nearest(self._alpha[lines] > 0)
            image = shown(self._space, self._stored[lines], self._bits)
            image = np.take_along_axis(image, nearest[None], 2)
        return torch.from_numpy(image[..., columns])


def _seen(space: Space, levels: np.ndarray) -> np.ndarray:
    if space is profiles.SRGB or space is profiles.GREY:
        return np.broadcast_to(levels.clip(0, 1), (*levels.shape[:-1], 3))
    return profiles.srgb_of_linear(space.to_linear(levels).clip(0, 1))


def fill_hidden(image: np.ndarray, visible: np.ndarray) -> None:
    """Give pixels that are wholly transparent the color of the nearest visible one in their row,
    and rows without any the nearest row's, in place: no hidden color reaches the network, and what
    does is distributed as what is seen.

    Args:
        image: (3, H, W).
        visible: (H, W).
    """
    rows = np.asarray(visible.any(1))
    if not rows.any():
        image[...] = 0
        return
    source = _nearest(rows[None])[0]
    columns = _nearest(visible[rows])
    at = np.cumsum(rows) - 1
    for row in np.flatnonzero(rows):
        hidden = ~visible[row]
        image[:, row, hidden] = image[:, row, columns[at[row], hidden]]
    image[:, ~rows] = image[:, source[~rows]]


def _nearest(there: np.ndarray) -> np.ndarray:
    """(N, L) -> (N, L): the index of the nearest True in each row, which has one."""
    places = np.arange(there.shape[1])
    before = np.maximum.accumulate(np.where(there, places, -1), 1)
    behind = np.minimum.accumulate(np.where(there, places, 2**31)[:, ::-1], 1)[:, ::-1]
    nearer = (before >= 0) & (places - before <= behind - places)
    return np.where(nearer, before, behind)


def carried(
    picture: Rows,
    space: Space,
    bits: int,
    stored: np.ndarray | None,
    stored_bits: int,
    visible: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """Fill `out` (H, W, C) with samples of these bits that show `picture`.

    Args:
        picture: (3, H, W) sRGB, clipped here.
        space: of `stored` and `out`.
        bits: of `out`.
        stored: (H, W, C), what it was; where `picture` is what `shown` made of it, or
            nothing is visible, these samples stay.
        stored_bits: theirs.
        visible: (H, W), or None if all is.
    """
    for rows in strips(*out.shape[:2]):
        result = _upright(picture.rows(rows))
        if stored is None:
            out[rows] = of_bits(_encoded(space, result), bits)
            continue
        before = values(stored[rows], stored_bits)
        seen = _seen(space, before)
        same = (result == seen).all(-1)
        if visible is not None:
            same |= ~visible[rows]
        if same.all():
            out[rows] = of_other_bits(stored[rows], stored_bits, bits)
        else:
            outside = _outside(space, before)
            if outside.any():
                gain = _gain(space, picture, stored, stored_bits, rows)
                linear = profiles.linear_of_srgb(result) + gain[..., None] * outside
                levels = space.from_linear(linear)
            else:
                levels = _encoded(space, result)
            out[rows] = of_bits(levels, bits)
            out[rows][same] = of_other_bits(stored[rows][same], stored_bits, bits)


def _upright(image: Tensor) -> np.ndarray:
    """(3, H, W) to (H, W, 3) in [0, 1]."""
    return image.detach().float().cpu().numpy().transpose(1, 2, 0).clip(0, 1)


def _outside(space: Space, levels: np.ndarray) -> np.ndarray:
    if (space is profiles.SRGB or space is profiles.GREY) and not (
        (levels < 0).any() or (levels > 1).any()
    ):
        return np.zeros(1, np.float32)
    light = space.to_linear(levels)
    return light - light.clip(0, 1)


def _encoded(space: Space, result: np.ndarray) -> np.ndarray:
    if space is profiles.SRGB:
        return result
    if space is profiles.GREY and (result == result[..., :1]).all():
        return result[..., :1]
    return space.from_linear(profiles.linear_of_srgb(result))


def _gain(space: Space, picture: Rows, stored: np.ndarray, bits: int, rows: slice) -> np.ndarray:
    """How many times brighter the neighbourhood of each pixel of these rows has become."""
    around = slice(max(0, rows.start - _NEARBY), min(rows.stop + _NEARBY, len(stored)))
    after = profiles.linear_of_srgb(_upright(picture.rows(around)))
    before = space.to_linear(values(stored[around], bits)).clip(0, 1)
    after, before = (_blurred(light @ LUMINANCE) for light in (after, before))
    inner = slice(rows.start - around.start, rows.stop - around.start)
    return ((after + _DARKEST) / (before + _DARKEST))[inner]


def _blurred(plane: np.ndarray) -> np.ndarray:
    """The mean over a square around each pixel, as much of it as there is."""
    blurred = torch.from_numpy(plane)[None, None]
    for reach in ((_NEARBY, 0), (0, _NEARBY)):
        side = (2 * reach[0] + 1, 2 * reach[1] + 1)
        blurred = avg_pool2d(blurred, side, 1, reach, count_include_pad=False)
    return blurred[0, 0].numpy()
