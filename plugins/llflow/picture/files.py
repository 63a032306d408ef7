"""Pictures in files: read by content and written whole, with what belongs to them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from llflow.atomic import write_atomically

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
}
# A TIFF keeps its EXIF tags among those that say how its pixels are stored. These are about the
# picture; the other formats' tags all are.
_DESCRIPTIVE = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.IFD.Exif,
    ExifTags.IFD.GPSInfo,
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
    with path.open("rb") as file, warnings.catch_warnings():
        # Pillow warns about large pictures; the limit here is max_pixels.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise PictureError(
                    f"too large: {width}×{height} pixels, the limit is {max_pixels:,} in all"
                )
            return _decoded(image)
        except PictureError:
            raise
        except UnidentifiedImageError:
            raise PictureError(f"not a picture ({', '.join(FORMATS)} are read)") from None
        except Image.DecompressionBombError as error:
            raise PictureError(f"too large ({_line(error)})") from None
        except Exception as error:  # decoders raise anything on hostile input
            raise PictureError(f"truncated or damaged ({_line(error)})") from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _decoded(file: Image.Image) -> Picture:
    file.load()
    image = ImageOps.exif_transpose(file)
    file_format = "JPEG" if file.format == "MPO" else str(file.format)
    icc_profile = file.info.get("icc_profile")
    exif = _exif(file)
    alpha = None
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        values = np.asarray(image).astype(np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise PictureError("32-bit pictures aren't supported")
        if "transparency" in file.info:
            alpha = np.where(values == file.info["transparency"], 0, 255).astype(np.uint8)
        plane = torch.from_numpy(values / 65535)
        return Picture(plane.expand(3, -1, -1), True, alpha, file_format, exif, icc_profile)
    if image.mode == "F":
        raise PictureError("floating-point pictures aren't supported")
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    grey = image.mode in ("1", "L", "LA")
    pixels = np.array(image.convert("RGB"))
    if file.mode in ("P", "PA") and (pixels == pixels[..., :1]).all():
        grey = True
        icc_profile = None  # it describes RGB, and grey is what will be written
    if file.mode == "CMYK":
        icc_profile = None  # it describes inks, and RGB is what will be written
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    return Picture(tensor, grey, alpha, file_format, exif, icc_profile)


def _exif(image: Image.Image) -> bytes:
    exif = image.getexif()
    storage = [tag for tag in exif if image.format == "TIFF" and tag not in _DESCRIPTIVE]
    for tag in {*storage, ExifTags.Base.Orientation}:
        exif.pop(tag, None)
    return exif.tobytes() if len(exif) else b""


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for, or None if its suffix is unknown."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def write(path: Path, picture: Picture) -> None:
    """Encode at 8 bits and put the file in place whole or not at all.

    The format is the one that `path` names, else the picture's own. Values outside [0, 1] are
    clipped. JPEG at quality 95 without chroma subsampling, PNG, BMP and TIFF without loss; TIFF
    uncompressed, since Pillow's compressed ones can't hold EXIF's inner tags. BMP has no metadata.

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
    options: dict[str, Any] = dict(_SAVE_OPTIONS.get(file_format, {}))
    if picture.alpha is not None and file_format == "AVIF":
        options["quality"] = 100  # its one setting for colors and opacity, which mustn't change
    if picture.exif and file_format != "BMP":
        options["exif"] = picture.exif
    if picture.icc_profile and file_format != "BMP":
        options["icc_profile"] = picture.icc_profile
    try:
        write_atomically(path, lambda file: image.save(file, format=file_format, **options))
    except OSError:
        raise
    except Exception as error:  # encoders raise many things for what the format can't hold
        raise PictureError(f"can't be written as {file_format} ({_line(error)})") from error


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], clipped and rounded to 8 bits."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
