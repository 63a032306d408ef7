"""Pictures decoded from files and encoded into them, with what belongs to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from llflow.atomic import write_atomically
from llflow.errors import LLFlowError, first_line
from llflow.picture import exif

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
_PILLOWS_LIMIT = Lock()
REDUCED = 1  # of NewSubfileType
SEPARATE_PLANES = 2  # of PlanarConfiguration
_NAMES = {"exif": "EXIF", "icc_profile": "the color profile"}
# What undoes each orientation (Exif 2.32, 4.6.4 A).
_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(LLFlowError, ValueError):
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
        lost: what the file holds besides and couldn't be taken along, a line each.
    """

    image: Tensor
    grey: bool = False
    alpha: np.ndarray | None = None
    format: str = "PNG"
    exif: bytes = b""
    icc_profile: bytes | None = None
    lost: tuple[str, ...] = ()

    def with_image(self, image: Tensor) -> Picture:
        return replace(self, image=image)


def read(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the first frame of a picture file, recognised by its content, not its name.

    Pixels alone decide whether it is damaged: odd metadata that can't be kept is `lost`.

    Args:
        path: PNG, JPEG, WebP, BMP, TIFF or AVIF.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        PictureError: it isn't such a picture, is damaged, or too large.
        OSError: the file can't be read.
    """
    status = path.stat()
    if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):  # a folder fails to open
        raise PictureError("neither pipes nor devices are read, only files")
    if S_ISREG(status.st_mode) and status.st_size == 0:
        raise PictureError("the file is empty")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata
        try:
            with _without_pillows_limit():
                image = Image.open(file, formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise PictureError(
                    f"too large: {width}×{height} pixels, the limit is {max_pixels:,} in all "
                    "(max_pixels)"
                )
            return _decoded(image)
        except PictureError:
            raise
        except UnidentifiedImageError:
            raise PictureError(f"not a picture ({', '.join(FORMATS)} are read)") from None
        except Exception as error:  # decoders raise anything on hostile input
            raise PictureError(f"truncated or damaged ({first_line(error)})") from error


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow has a limit of its own, for the whole process; here the caller's `max_pixels` holds,
    which may be above it."""
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decoded(file: Image.Image) -> Picture:
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        _refuse_what_is_misread(file.tag_v2)
    if file.format == "TIFF" and not isinstance(file.info.get("xmp"), bytes):
        file.info.pop("xmp", None)  # of another type, in which `load` fails to find an orientation
    file.load()
    image, lost = _upright(file)
    file_format = "JPEG" if file.format == "MPO" else str(file.format)
    icc_profile = file.info.get("icc_profile")
    if not isinstance(icc_profile, bytes | None):
        lost.append(f"the color profile isn't kept (it is of type {type(icc_profile).__name__})")
        icc_profile = None
    block, lost_tags = _exif_block(file)
    lost += lost_tags
    alpha = None
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        values = np.asarray(image).astype(np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise PictureError("32-bit pictures aren't supported")
        if "transparency" in file.info:
            alpha = np.where(values == file.info["transparency"], 0, 255).astype(np.uint8)
        plane = torch.from_numpy(values / 65535)
        image, grey = plane.expand(3, -1, -1), True
        return Picture(image, grey, alpha, file_format, block, icc_profile, tuple(lost))
    if image.mode == "F":
        raise PictureError("floating-point pictures aren't supported")
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    grey = image.mode in ("1", "L", "LA")
    pixels = np.array(image.convert("RGB"))
    if file.mode in ("P", "PA") and (pixels == pixels[..., :1]).all():
        grey = True
        if icc_profile:
            lost.append("the color profile isn't kept: it describes RGB, and grey is written")
            icc_profile = None
    if file.mode == "CMYK" and icc_profile:
        lost.append("the color profile isn't kept: it describes inks, and RGB is written")
        icc_profile = None
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    return Picture(tensor, grey, alpha, file_format, block, icc_profile, tuple(lost))


def _refuse_what_is_misread(tags: Any) -> None:
    """TIFFs of which Pillow would hand over something else than the picture (TIFF 6.0)."""
    raw = ExifTags.Base.DNGVersion in tags
    if raw or tags.get(ExifTags.Base.NewSubfileType) == REDUCED:
        raise PictureError("its first picture is a raw file's or a preview; develop it first")
    bits = tags.get(ExifTags.Base.BitsPerSample, (1,))
    if tags.get(ExifTags.Base.PlanarConfiguration) == SEPARATE_PLANES and max(bits) > 8:
        raise PictureError("channels of over 8 bits in separate planes aren't read")


def _upright(file: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture turned as its EXIF or XMP says; a TIFF has turned itself."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises anything for a damaged block
        return file, [f"the orientation can't be read ({first_line(error)})"]
    if orientation in _UNDO:
        return file.transpose(_UNDO[orientation]), []
    known = orientation in (0, 1)  # 0 is what many programs write for "not known"
    return file, [] if known else [f"the orientation {orientation!r} is none of 1 to 8"]


def _exif_block(file: Image.Image) -> tuple[bytes, list[str]]:
    """The EXIF that can be kept, and what can't."""
    try:
        if file.format == "TIFF":
            kept, lost = exif.descriptive(file.getexif())
            return (kept.tobytes() if len(kept) else b""), lost
        block = file.info.get("exif", b"")
        as_text = file.info.get("Raw profile type exif")  # ImageMagick's, in a PNG
        if not block and as_text:
            block = bytes.fromhex("".join(as_text.split("\n")[3:]))
        return (exif.without_orientation(block) if block else b""), []
    except MemoryError:
        raise
    except Exception as error:
        return b"", [f"EXIF isn't kept ({first_line(error)})"]


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for, or None if its suffix is unknown."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def write(path: Path, picture: Picture) -> tuple[str, ...]:
    """Encode at 8 bits and put the file in place whole or not at all.

    The format is the one that `path` names, else the picture's own. Values outside [0, 1] are
    clipped. JPEG at quality 95 without chroma subsampling, PNG, BMP and TIFF without loss; TIFF
    uncompressed, since Pillow's compressed ones can't hold EXIF's inner tags.

    Returns:
        what the format can't hold of EXIF and profile, a line each.

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd tags
        metadata, lost = _metadata(picture, file_format)
        while True:
            try:
                _encode(path, image, file_format, options | metadata)
                return tuple(lost)
            except PictureError as error:
                if not metadata:
                    raise
                name, _ = metadata.popitem()  # EXIF first, which formats refuse more easily
                lost.append(f"{_NAMES[name]} isn't kept ({error})")


def _metadata(picture: Picture, file_format: str) -> tuple[dict[str, Any], list[str]]:
    """What goes into the file besides pixels, as Pillow names it, and what can't."""
    held: dict[str, Any] = {"icc_profile": picture.icc_profile, "exif": picture.exif}
    held = {name: value for name, value in held.items() if value}
    if file_format == "BMP":
        return {}, [f"BMP can't hold {_NAMES[name]}" for name in held]
    if "exif" not in held or file_format != "TIFF":
        return held, []
    try:
        whole = Image.Exif()
        whole.load(held.pop("exif"))
        kept, lost = exif.descriptive(whole)
    except Exception as error:  # Pillow raises anything for a damaged block
        return held, [f"EXIF isn't kept ({first_line(error)})"]
    return held | {"exif": kept}, lost


def _encode(path: Path, image: Image.Image, file_format: str, options: dict[str, Any]) -> None:
    try:
        write_atomically(path, lambda file: image.save(file, format=file_format, **options))
    except OSError:
        raise
    except Exception as error:  # encoders raise many things for what the format can't hold
        raise PictureError(f"can't be written as {file_format} ({first_line(error)})") from error


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], clipped and rounded to 8 bits."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
