"""What a caller has for a picture, as the tensor that everything computes with."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from llflow.picture import files, profiles, samples

Input = Tensor | np.ndarray | Image.Image | str | os.PathLike
_BITS = {"uint8": 8, "uint16": 16}


def tensor_of(picture: Input) -> Tensor:
    """(3, H, W) sRGB, in [0, 1] for everything but tensors and arrays of other numbers, which are
    returned as they are and for the caller to check.

    Args:
        picture: a tensor (3, H, W) of RGB; a file's path; a picture of Pillow's in mode 1, L, LA,
            P, RGB, RGBA or I;16, not turned as its EXIF says, its color profile applied; or an
            array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or floating point, for
            grey, RGB or RGB and opacity. OpenCV's BGR looks like RGB and isn't: turn it first.

    Raises:
        TypeError: it is something else.
        ValueError: an array of another shape or type, or a picture of another mode.
        PictureError, OSError: as `files.read` does.
    """
    if isinstance(picture, Tensor):
        return picture
    if isinstance(picture, str | os.PathLike):
        return files.read(picture).image
    if isinstance(picture, Image.Image):
        return _of_pillow(picture)
    if isinstance(picture, np.ndarray):
        return _of_array(picture, None)
    raise TypeError(
        "enhance: expected the image as a tensor (3, H, W) of RGB in [0, 1], a path, a picture of "
        f"Pillow's or an array (H, W, 3), got {type(picture).__name__}"
    )


def _of_pillow(image: Image.Image) -> Tensor:
    profile = image.info.get("icc_profile")
    if image.mode in ("1", "P"):
        transparent = image.has_transparency_data
        image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
    if image.mode == "LA":
        grey, alpha = (np.asarray(plane) for plane in image.split())
        shown = _of_array(grey, profile)
        samples.fill_hidden(shown.numpy(), alpha > 0)
        return shown
    if image.mode not in ("L", "RGB", "RGBA", "I;16"):
        raise ValueError(
            f"enhance: expected a picture of mode 1, L, LA, P, RGB, RGBA or I;16, got {image.mode} "
            "(its file's path works where the file does)"
        )
    return _of_array(np.asarray(image), profile)


def _of_array(array: np.ndarray, profile: bytes | None) -> Tensor:
    planes = array[..., None] if array.ndim == 2 else array
    floating = np.issubdtype(array.dtype, np.floating)
    if array.dtype.name not in _BITS and not floating:
        raise ValueError(
            f"enhance: expected an array of uint8, uint16 or floating point, got {array.dtype}"
        )
    if planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or planes.size == 0:
        hint = "; (3, H, W) is for tensors" if array.ndim == 3 and len(array) in (1, 3, 4) else ""
        raise ValueError(
            f"enhance: expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got "
            f"{array.shape}{hint}"
        )
    stored = planes[..., :3]
    if floating:
        image = np.broadcast_to(stored, (*stored.shape[:2], 3)).transpose(2, 0, 1)
        image = np.array(image, np.float32)
    else:
        try:
            space = profiles.space_of(profile, stored.shape[2])
        except ValueError as error:
            raise ValueError(
                f"enhance: expected a color profile of the picture's, got another ({error}); "
                'without info["icc_profile"] it is taken for sRGB'
            ) from error
        image = samples.shown(space, stored, _BITS[array.dtype.name])
    if planes.shape[2] == 4:
        samples.fill_hidden(image, planes[..., 3] > 0)
    return torch.from_numpy(image)
