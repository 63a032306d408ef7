"""Pictures in files: read by content and written whole, with what belongs to them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from llflow.files import write_atomically

MAX_PIXELS = 50_000_000
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
FORMATS = tuple(SUFFIXES)
WITH_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF")
_SAVE_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90},
    "TIFF": {"compression": "tiff_lzw"},
}


class PictureError(ValueError):
    """A file isn't a picture that can be read, or a picture can't be written as asked."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    Attributes:
        image: (3, H, W) float32 RGB in [0, 1]; grey pictures have three equal channels.
        grey: the file holds no color.
        alpha: (H, W) uint8 opacity, or None.
        format: one of `FORMATS`, by content.
        exif: the file's EXIF block without the orientation, which has been applied; may be empty.
        icc_profile: its color profile, if it has one.
    """

    image: Tensor
    grey: bool = False
    alpha: np.ndarray | None = None
    format: str = "PNG"
    exif: bytes = b""
    icc_profile: bytes | None = None

    def with_image(self, image: Tensor) -> Picture:
        return replace(self, image=image)


def read(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the first frame of a picture file, recognised by its content, not its name.

    Args:
        path: PNG, JPEG, WebP, BMP, TIFF or AVIF.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        PictureError: it isn't such a picture, is damaged, or too large.
        OSError: the file can't be read.
    """
    if path.stat().st_size == 0:
        raise PictureError("the file is empty")
    with path.open("rb") as file:
        try:
            with warnings.catch_warnings():
                # Pillow warns about large pictures; the limit here is max_pixels.
                warnings.simplefilter("ignore")
                image = Image.open(file, formats=FORMATS)
                size = image.size
        except UnidentifiedImageError:
            raise PictureError(f"not a picture ({', '.join(FORMATS)} are read)") from None
        except Image.DecompressionBombError as error:
            raise PictureError(f"too large ({error})") from None
        if size[0] * size[1] > max_pixels:
            raise PictureError(
                f"too large: {size[0]}×{size[1]} pixels, the limit is {max_pixels:,} in all"
            )
        file_format = "JPEG" if image.format == "MPO" else str(image.format)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.load()
                image = ImageOps.exif_transpose(image)
        except Exception as error:  # decoders raise anything on hostile input
            raise PictureError(f"truncated or damaged ({_line(error)})") from error
    return _decoded(image, file_format)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _decoded(image: Image.Image, file_format: str) -> Picture:
    icc_profile = image.info.get("icc_profile")
    exif = image.getexif().tobytes()
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        values = np.asarray(image).astype(np.float32) / 65535
        if values.min() < 0 or values.max() > 1:
            raise PictureError("32-bit pictures aren't supported")
        plane = torch.from_numpy(values)
        return Picture(plane.expand(3, -1, -1), True, None, file_format, exif, icc_profile)
    if image.mode == "F":
        raise PictureError("floating-point pictures aren't supported")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    grey = image.mode in ("1", "L", "LA")
    if image.mode == "CMYK":
        icc_profile = None  # it describes inks, and RGB is what will be written
    pixels = np.array(image.convert("RGB"))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    return Picture(tensor, grey, alpha, file_format, exif, icc_profile)


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for, or None if its suffix is unknown."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def write(path: Path, picture: Picture) -> None:
    """Encode at 8 bits and put the file in place whole or not at all.

    The format is the one that `path` names, else the picture's own. Values outside [0, 1] are
    clipped. JPEG at quality 95 without chroma subsampling, PNG, BMP and TIFF without loss.

    Raises:
        PictureError: the format can't hold the picture (transparency in a JPEG, say).
        OSError: the file can't be written.
    """
    file_format = format_of(path) or picture.format
    if picture.alpha is not None and file_format not in WITH_ALPHA:
        raise PictureError(f"{file_format} can't hold transparency; write {WITH_ALPHA[0]} instead")
    image = to_pil(picture.image)
    if picture.grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    options = dict(_SAVE_OPTIONS.get(file_format, {}))
    if picture.exif and file_format != "BMP":
        options["exif"] = picture.exif
    if picture.icc_profile and file_format != "BMP":
        options["icc_profile"] = picture.icc_profile
    try:
        write_atomically(path, lambda file: image.save(file, format=file_format, **options))
    except ValueError as error:  # Pillow's word for a size or mode that the format can't hold
        raise PictureError(f"can't be written as {file_format} ({_line(error)})") from error


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], clipped and rounded to 8 bits."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
