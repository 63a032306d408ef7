"""Pictures decoded from files and encoded into them, with what belongs to them.

Samples keep the file's own depth and color space beside what the network is given, and a pixel that
nothing changed is written with the bits that were read.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO

import numpy as np
import pyvips
import torch
from PIL import BmpImagePlugin, Image
from torch import Tensor

from llflow.atomic import write_atomically
from llflow.errors import LLFlowError, OverLimit, first_line
from llflow.picture import containers, metadata, optional, profiles, tiff
from llflow.picture import samples as levels
from llflow.picture.metadata import Metadata
from llflow.picture.rows import Rows, Whole, whole
from llflow.picture.samples import FLOAT

MAX_PIXELS = 120_000_000  # cameras' largest, whose samples take less than a gigabyte
MAX_MEMORY = 1_000_000_000  # bytes to read one with: a small file may hold much of one color
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
WITH_QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90}
BITS = {  # a channel may have
    "PNG": (8, 16),
    "JPEG": (8,),
    "WEBP": (8,),
    "BMP": (8,),
    "TIFF": (8, 16, FLOAT),
    "AVIF": (8, 10, 12),
}
_WITH_INKS = ("JPEG", "TIFF")
_DECODERS_OWN = {"WEBP": 3, "AVIF": 2}  # pictures that a decoder holds beside its result, at most
_LOADERS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "TIFF": "tiff", "AVIF": "heif"}
_CHANNELS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3, "scrgb": 3, "rgb": 3, "cmyk": 4}
_INTERPRETATIONS = {
    1: ("b-w", "grey16", "srgb"),
    3: ("srgb", "rgb16", "srgb"),
    4: ("cmyk", "cmyk", "cmyk"),
}
_PHOTOMETRIC, _SUBFILE, _SAMPLES, _BITS, _DNG = 262, 254, 339, 258, 50706
_COMPRESSION, _SUBSAMPLING = 259, 530
_WHITE_IS_ZERO = 0  # of photometric interpretations
_LUMA = 6  # of photometric interpretations
_JPEGS = (6, 7)  # of compressions, which libtiff decodes to RGB
_LAB = (8, 9, 10)  # of photometric interpretations
_SENSOR = (32803, 34892)  # of photometric interpretations: as a camera's sensor saw it
_LAYERS = 37724

# Files come from anybody, and each is read once.
pyvips.block_untrusted_set(True)
pyvips.cache_set_max(0)
logging.getLogger("pyvips").addHandler(logging.NullHandler())  # what matters, it raises as well


class PictureError(LLFlowError, ValueError):
    """A file isn't a picture that can be read, or a picture can't be written as asked."""


class TooLarge(PictureError, OverLimit):
    """A picture has more pixels or bytes than are read."""


class NotAPicture(PictureError):
    """A file is of none of the formats that are known."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    Attributes:
        pixels: (3, H, W) float32 sRGB in [0, 1], as a tensor or made as it is asked for; grey
            pictures have three equal channels. What is wholly transparent looks like what is
            visible beside it.
        grey: the file holds no color.
        alpha: (H, W) opacity, uint8, uint16 or float32, as `bits` says; or None.
        format: one of `FORMATS`, by content; the one that results have, of what is only read.
        bits: a channel: 8, 10, 12 or 16, or `FLOAT`.
        icc_profile: the file's color profile, if it has one.
        about: what else the file says about its picture, its EXIF without the orientation, which
            has been applied.
        lossless: the file is a WebP or AVIF that loses nothing.
        lost: what the file holds besides and couldn't be taken along, a line each.
        stored: (H, W, C) samples as they were in the file, of `bits`, in its own color space; None
            for a picture that is from no file.
    """

    pixels: Tensor | Rows
    grey: bool = False
    alpha: np.ndarray | None = None
    format: str = "PNG"
    bits: int = 8
    icc_profile: bytes | None = None
    about: Metadata = field(default_factory=Metadata)
    lossless: bool = False
    lost: tuple[str, ...] = ()
    stored: np.ndarray | None = None

    @property
    def exif(self) -> bytes:
        """The EXIF block; may be empty."""
        return self.about.exif

    @cached_property
    def image(self) -> Tensor:
        """`pixels` as a tensor, which is made and stays once it is asked for."""
        return whole(self.shown)

    @property
    def shown(self) -> Rows:
        """`pixels`, some rows at a time."""
        return Whole(self.pixels) if isinstance(self.pixels, Tensor) else self.pixels

    @property
    def nbytes(self) -> int:
        """Of the file's samples."""
        arrays = (self.stored, self.alpha)
        return sum(array.nbytes for array in arrays if array is not None)

    def with_image(self, image: Tensor | Rows) -> Picture:
        """This picture with other colors; of another size, it isn't the file's any more."""
        same = tuple(image.shape) == tuple(self.pixels.shape)
        return replace(self, pixels=image, stored=self.stored if same else None)


def read(
    path: str | os.PathLike, max_pixels: int = MAX_PIXELS, max_memory: int | None = None
) -> Picture:
    """Decode a picture file, recognised by its content, not its name.

    Pixels alone decide whether it is damaged: odd metadata that can't be kept is `lost`. Files of
    several pictures are refused; previews and gain maps beside the one picture are `lost`.

    Args:
        path: PNG, JPEG, WebP, BMP, TIFF or AVIF; with the packages for them also HEIC, JPEG XL
            and cameras' raw files (`optional.EXTRAS`).
        max_pixels: larger pictures are refused before they are decoded.
        max_memory: so are those that take more bytes while they are read, but for BMP and what
            needs a package; 1 GB if None.

    Raises:
        PictureError: it isn't such a picture (`NotAPicture`), is damaged, or too large
            (`TooLarge`).
        OSError: the file can't be read.
    """
    path = Path(path)
    status = path.stat()
    if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):  # a folder fails to open
        raise PictureError(
            "neither pipes nor devices are read, only files, and - for standard input"
        )
    if S_ISREG(status.st_mode) and status.st_size == 0:
        raise PictureError("the file is empty")
    with path.open("rb") as file:
        try:
            file_format = containers.recognize(file.read(64))
        except ValueError as error:
            raise PictureError(f"it is {error}") from None
        if file_format is None:
            raise NotAPicture(f"not a picture ({', '.join(FORMATS)} are read)")
        try:
            return _decoded(file, file_format, max_pixels, max_memory)
        except PictureError:
            raise
        except MemoryError as error:
            raise PictureError("there isn't enough memory to decode it") from error
        except pyvips.Error as error:
            raise PictureError(f"truncated or damaged ({_reason(error)})") from error
        except Exception as error:  # decoders raise anything on hostile input
            raise PictureError(f"truncated or damaged ({first_line(error)})") from error


def _reason(error: pyvips.Error) -> str:
    """What libvips said last, but for an operation's name beside "load error", which some of its
    threads add."""
    lines = [line.strip() for line in str(error.detail).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(": load error")]
    return [first_line(error), *lines[-1:], *telling[-1:]][-1]


def _decoded(file: BinaryIO, file_format: str, max_pixels: int, max_memory: int | None) -> Picture:
    if file_format == "TIFF" and _is_raw(file):
        file_format = "RAW"
    if file_format in optional.EXTRAS:
        return _decoded_by_another(file, file_format, max_pixels)
    extras = _extras(file, file_format)
    if extras.frames > 1:
        raise PictureError(f"an animation of {extras.frames} frames; animations aren't read")
    luma = False
    lost = [*extras.lost]
    if file_format == "TIFF":
        luma, said = _of_tiff(file)
        lost += said
    if file_format == "BMP":
        return _decoded_bmp(file, max_pixels)
    header = _opened(file, file_format)
    _require_size(header.width, header.height, max_pixels)
    _require_memory(header, file_format, max_memory or MAX_MEMORY)
    if file_format != "TIFF" and _value(header, "n-pages", 1) > 1:
        pages = header.get("n-pages")
        raise PictureError(f"{pages} pictures in one file; only files of one picture are read")
    samples, bits, channels = _samples_of(header, file_format)
    samples = _rgb_of_luma(samples) if luma else samples
    held, said = _about(file, file_format, header, extras)
    lost += said
    if file_format != "AVIF":  # which libvips turns as its own properties say
        turn, said = _orientation(file, file_format, held)
        samples, lost = _turned(samples, turn), lost + said
    held, said = metadata.upright(held, samples.shape[1], samples.shape[0])
    profile = _profile(header, extras)
    if profile is None and channels == 3 and extras.primaries:
        lost.append(_taken_for_srgb(extras.primaries))
    return _picture(
        samples,
        channels,
        Picture(
            torch.empty(0),
            format=file_format,
            bits=bits,
            about=held,
            lossless=extras.lossless,
            icc_profile=profile,
            lost=(*lost, *said),
        ),
        palette=bool(_value(header, "palette", 0)),
    )


def _decoded_by_another(file: BinaryIO, kind: str, max_pixels: int) -> Picture:
    try:
        found = optional.decode(file, kind, partial(_require_size, max_pixels=max_pixels))
    except optional.NotRead as error:
        raise PictureError(f"it is {error}") from None
    samples, lost = found.samples, [*found.lost]
    if found.bits == FLOAT and not np.isfinite(samples).all():
        raise PictureError("it holds values that aren't finite")
    held, said = metadata.upright(found.about, samples.shape[1], samples.shape[0])
    profile = found.icc_profile
    if profile is None and found.channels == 3 and found.primaries:
        if containers.is_p3(found.primaries):
            profile = _display_p3()
        else:
            lost.append(_taken_for_srgb(found.primaries))
    like = Picture(
        torch.empty(0),
        format=optional.EXTRAS[kind].becomes,
        bits=found.bits,
        about=held,
        icc_profile=profile,
        lost=(*lost, *said),
    )
    return _picture(samples, found.channels, like, palette=False)


def _taken_for_srgb(primaries: int) -> str:
    return f"its primaries, number {primaries} of ITU H.273, are taken for sRGB's"


def _require_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLarge(
            f"too large: {width}×{height} pixels, the limit is {max_pixels:,} in all", "max_pixels"
        )


def _require_memory(header: Any, file_format: str, max_memory: int) -> None:
    wide = {"uchar": 1, "ushort": 2}.get(header.format, 4)
    opaque = header.bands <= _CHANNELS.get(header.interpretation, header.bands)
    copies = 1 + _DECODERS_OWN.get(file_format, 0)
    copies += _value(header, "interlaced", 0) + (not opaque)  # which is taken apart
    needed = header.width * header.height * header.bands * wide * copies
    if needed > max_memory:
        raise TooLarge(
            f"too large: reading it takes {needed / 1e6:.0f} MB, and the limit is "
            f"{max_memory / 1e6:.0f} MB",
            "max_memory",
        )


def _extras(file: IO[bytes], file_format: str) -> containers.Extras:
    try:
        return containers.extras(file, file_format)
    except ValueError as error:
        raise PictureError(f"it is {error}") from None


def _opened(file: IO[bytes], file_format: str) -> Any:
    """libvips' picture, of which only the header is read as yet."""
    file.seek(0)
    source = pyvips.Source.new_from_descriptor(file.fileno())
    load = getattr(pyvips.Image, f"{_LOADERS[file_format]}load_source")
    return load(source, fail_on="truncated", access="sequential")  # once, from top to bottom


def _value(image: Any, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _is_raw(file: IO[bytes]) -> bool:
    """Whether what begins like a TIFF is as a camera's sensor saw it, or begins with a preview."""
    pictures = list(tiff.directories(file, (_SUBFILE, _PHOTOMETRIC, _DNG)))
    sensor = any((found.get(_PHOTOMETRIC) or (0,))[0] in _SENSOR for found in pictures)
    return _DNG in pictures[0] or sensor or bool((pictures[0].get(_SUBFILE) or (0,))[0] & 1)


def _of_tiff(file: IO[bytes]) -> tuple[bool, list[str]]:
    """Whether libvips takes luma and chroma for RGB, and what lies beside the one picture; refuses
    what would be misread (TIFF 6.0)."""
    wanted = (_SUBFILE, _PHOTOMETRIC, _BITS, _SAMPLES, _LAYERS, _COMPRESSION, _SUBSAMPLING)
    pictures = list(tiff.directories(file, wanted + tiff.OF_PIXELS))
    first, *others = pictures
    tiff.require_pixels(first, file.seek(0, os.SEEK_END))
    kinds = [(found.get(_SUBFILE) or (0,))[0] for found in pictures]
    whole = sum(not kind & 5 for kind in kinds)
    if whole > 1:
        raise PictureError(f"{whole} pages in one file; only files of one picture are read")
    if (first.get(_PHOTOMETRIC) or (0,))[0] in _LAB:
        raise PictureError("L*a*b* isn't read; save it as RGB")
    form, bits = max(first.get(_SAMPLES) or (1,)), max(first.get(_BITS) or (1,))
    if form != 3 and bits not in (1, 2, 4, 8, 16):
        raise PictureError(f"{bits}-bit whole numbers aren't read, only up to 8, and 16")
    if form == 3 and first.get(_PHOTOMETRIC) == (_WHITE_IS_ZERO,):
        raise PictureError("floating point whose white is 0 isn't read, only with black as 0")
    if form == 3 and bits > 32:
        raise PictureError(f"{bits}-bit floating point isn't read, only 16 and 32")
    lost = ["the file's previews and masks aren't kept"] if others else []
    lost += ["Photoshop's layers aren't kept"] if _LAYERS in first else []
    luma = (first.get(_PHOTOMETRIC) or (0,))[0] == _LUMA
    luma = luma and (first.get(_COMPRESSION) or (1,))[0] not in _JPEGS
    if luma and (bits != 8 or first.get(_SUBSAMPLING, (1, 1)) != (1, 1)):
        raise PictureError("luma and chroma aren't read but with as much of both, at 8 bits")
    return luma, lost


def _rgb_of_luma(samples: np.ndarray) -> np.ndarray:
    """Luma and chroma of ITU-R BT.601 at 8 bits, as in TIFF and JPEG, to RGB."""
    luma, blue, red = (samples[..., k].astype(np.float32) for k in range(3))
    blue, red = blue - 128, red - 128
    rgb = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    return np.rint(np.stack(rgb, -1)).clip(0, 255).astype(np.uint8)


def _samples_of(image: Any, file_format: str) -> tuple[np.ndarray, int, int]:
    """(H, W, C) as stored, opacity last if there is any; their bits; channels without opacity."""
    channels = _CHANNELS.get(image.interpretation)
    bits = {"uchar": 8, "ushort": 16, "float": FLOAT}.get(image.format)
    if channels is None or bits is None or not 0 <= image.bands - channels <= 1:
        raise PictureError(
            f"{image.bands} channels of {image.interpretation} and type {image.format} aren't read"
        )
    samples = image.numpy().reshape(image.height, image.width, image.bands)
    if bits == FLOAT and not np.isfinite(samples).all():
        raise PictureError("it holds values that aren't finite")
    if file_format == "AVIF" and bits == 16:
        bits = min(12, int(_value(image, "bits-per-sample", 12)))
        samples = samples >> (16 - bits)
    return samples, bits, channels


def _about(
    file: IO[bytes], file_format: str, image: Any, extras: containers.Extras
) -> tuple[Metadata, list[str]]:
    """What the file says about its picture, and what of it can't be read."""
    lost: list[str] = []
    exif = _value(image, "exif-data", b"") if file_format != "TIFF" else b""
    exif = exif or extras.exif
    resources = extras.resources
    if file_format == "TIFF":
        try:
            tags = tiff.tags(file)
            exif, lost = tiff.block(tags), [*tags.lost]
            resources = metadata.with_iptc(
                _value(image, "photoshop-data", b""), _value(image, "iptc-data", b"")
            )
        except ValueError as error:
            lost = [f"EXIF and IPTC aren't kept ({error})"]
    held = Metadata(
        exif=metadata.PREFIX + exif.removeprefix(metadata.PREFIX) if exif else b"",
        xmp=_value(image, "xmp-data", b""),
        resources=resources,
        comment=extras.comment,
        texts=extras.texts,
        density=(image.xres, image.yres) if file_format == "TIFF" else extras.density,
    )
    return held, lost


def _profile(image: Any, extras: containers.Extras) -> bytes | None:
    """The file's profile, or one for the primaries that it names."""
    held = _value(image, "icc-profile-data", None)
    if held is None and _CHANNELS[image.interpretation] == 3 and containers.is_p3(extras.primaries):
        return _display_p3()
    return held


def _display_p3() -> bytes:
    """The profile that libvips brings."""
    pixel: Any = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
    return pixel.icc_transform("p3", input_profile="srgb").get("icc-profile-data")


def _orientation(file: IO[bytes], file_format: str, held: Metadata) -> tuple[int, list[str]]:
    """How the samples lie, as EXIF says, or else XMP; and what is wrong with that."""
    told: object = 1
    if file_format == "TIFF":
        found = next(iter(tiff.directories(file, [274]))).get(274, (1,))
        told = found[0] if found else "of another type"
    elif held.exif:
        try:
            told = metadata.orientation(held.exif)
        except ValueError as error:
            return 1, [f"the orientation can't be read ({error})"]
    told = metadata.orientation_of_xmp(held.xmp) if told == 1 else told
    if isinstance(told, int) and told in range(9):  # 0 is what many programs write for "not known"
        return max(told, 1), []
    return 1, [f"the orientation {told!r} is none of 1 to 8"]


def _turned(samples: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) upright (Exif 2.32, 4.6.4 A)."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    across = orientation in (2, 3, 6, 7)
    down = orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(samples[:: -1 if down else 1, :: -1 if across else 1])


def _decoded_bmp(file: IO[bytes], max_pixels: int) -> Picture:
    """Windows' own, which libvips leaves out and Pillow reads."""
    file.seek(0)
    image = BmpImagePlugin.BmpImageFile(file)  # Image.open has a limit of its own
    _require_size(*image.size, max_pixels)
    grey, alpha = image.mode in ("1", "L"), image.mode == "RGBA"
    samples = np.asarray(image.convert("L" if grey else "RGBA" if alpha else "RGB"))
    samples = samples.reshape(*samples.shape[:2], -1)
    like = Picture(torch.empty(0), format="BMP")
    return _picture(samples, 1 if grey else 3, like, palette=image.mode == "P")


def _picture(samples: np.ndarray, channels: int, like: Picture, *, palette: bool) -> Picture:
    """`like` with what samples (H, W, C) show, opacity behind the channels if there is any."""
    stored = samples[..., :channels]
    alpha = np.ascontiguousarray(samples[..., -1]) if samples.shape[2] > channels else None
    profile, lost = like.icc_profile, like.lost
    if palette and profile is None and (stored == stored[..., :1]).all():
        stored = stored[..., :1]
    stored = np.ascontiguousarray(stored)
    try:
        space = profiles.space_of(profile, stored.shape[2])
    except ValueError as error:
        lost += (f"the color profile isn't kept ({error})",)
        profile, space = None, profiles.space_of(None, stored.shape[2])
    return replace(
        like,
        pixels=levels.Shown(space, stored, like.bits, alpha),
        grey=stored.shape[2] == 1,
        alpha=alpha,
        icc_profile=profile,
        stored=stored,
        lost=lost,
    )


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for, or None if its suffix is unknown."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def write(
    path: str | os.PathLike,
    picture: Picture,
    *,
    file_format: str | None = None,
    bits: int | None = None,
    quality: int | None = None,
    overwrite: bool = True,
) -> tuple[str, ...]:
    """Encode a picture and put the file in place whole or not at all.

    Samples that the picture was read with and that show what they did are written as they were.
    PNG, TIFF and BMP lose nothing, nor does a WebP or AVIF from a file that lost nothing. JPEG has
    all its chroma.

    Args:
        path: where to.
        picture: its image is floating point and finite; what is outside [0, 1] is clipped.
        file_format: one of `FORMATS`; if None the one that `path` names, else the picture's own.
        bits: a channel, 8, 16 or `FLOAT`; if None the picture's own, or the most that the format
            holds.
        quality: 1 to 100, of JPEG, WebP and AVIF; if None 95, 95 and 90.
        overwrite: replace a file that is there.

    Returns:
        what the format can't hold, a line each.

    Raises:
        PictureError: the format can't hold the picture (transparency in a JPEG, say), or picture,
            format or quality are none of the above.
        FileExistsError: a file is there, also if it came while this one was made.
        OSError: the file can't be written.
    """
    path = Path(path)
    file_format = file_format or format_of(path) or picture.format
    require_fits(path, picture, file_format=file_format, bits=bits, quality=quality)
    held, depth, lost = _that_fits(picture, file_format, bits)
    samples = _samples(held, depth)
    try:
        if file_format == "BMP":
            _write_bmp(path, samples, overwrite)
        elif file_format == "TIFF":
            lost += _write_tiff(path, held, samples, overwrite)
        else:
            encoded = _encoded(held, samples, file_format, depth, quality)
            size = (samples.shape[1], samples.shape[0])
            parts, said = containers.with_metadata(
                encoded, file_format, held.about, size, held.alpha is not None
            )
            lost += said
            write_atomically(path, lambda file: file.writelines(parts), overwrite=overwrite)
    except OSError:
        raise
    except Exception as error:  # encoders raise many things for what the format can't hold
        reason = _reason(error) if isinstance(error, pyvips.Error) else first_line(error)
        raise PictureError(f"can't be written as {file_format} ({reason})") from error
    return tuple(lost)


def require_fits(
    path: str | os.PathLike,
    picture: Picture,
    *,
    file_format: str | None = None,
    bits: int | None = None,
    quality: int | None = None,
) -> None:
    """Refuse what `write` would refuse, as far as that is known before anything is encoded.

    Raises:
        PictureError: as `write` has it.
    """
    file_format = file_format or format_of(Path(path)) or picture.format
    if file_format not in FORMATS:
        raise PictureError(f"expected a format among {', '.join(FORMATS)}, got {file_format!r}")
    if picture.alpha is not None and file_format not in WITH_ALPHA:
        raise PictureError(f"{file_format} can't hold transparency; write {WITH_ALPHA[0]} instead")
    if quality is not None and file_format not in WITH_QUALITY:
        raise PictureError(f"{file_format} has no quality, only {', '.join(WITH_QUALITY)} have")
    if quality is not None and quality not in range(1, 101):
        raise PictureError(f"expected a quality from 1 to 100, got {quality}")
    if bits is not None and bits not in BITS[file_format]:
        names = ", ".join("32f" if b == FLOAT else str(b) for b in BITS[file_format])
        raise PictureError(f"{file_format} holds {names} bits a channel, and {bits} were asked for")
    image, alpha = picture.pixels, picture.alpha
    if isinstance(image, Tensor):
        _require_image(image)
    if alpha is None:
        return
    size, kind = tuple(image.shape[1:]), levels.kind(picture.bits)
    if alpha.shape != size or alpha.dtype != kind:
        raise PictureError(
            f"expected opacity {size} of {kind}, got {alpha.shape} of {alpha.dtype}; an image of "
            "another size needs an opacity of its own"
        )


def _require_image(image: Tensor) -> None:
    if not (image.is_floating_point() and image.dim() == 3 and len(image) == 3 and image.numel()):
        raise PictureError(
            f"expected a floating-point image (3, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    if not image.isfinite().all():
        raise PictureError("the image holds values that aren't finite")


def _that_fits(picture: Picture, file_format: str, bits: int | None) -> tuple[Picture, int, list]:
    """The picture without what the format can't hold, the bits that it has there, and what is
    lost."""
    lost = []
    wanted = bits or picture.bits
    depth = next((b for b in BITS[file_format] if b >= wanted), BITS[file_format][-1])
    if depth < wanted:
        lost.append(f"{file_format} holds {depth} bits a channel, and the picture has {wanted}")
    inks = picture.stored is not None and picture.stored.shape[2] == 4
    if inks and file_format not in _WITH_INKS:
        lost.append(f"{file_format} can't hold inks; it is written as sRGB")
        picture = replace(picture, stored=None, icc_profile=None)
    if file_format == "BMP":
        lost += ["BMP can't hold the color profile"] if picture.icc_profile else []
        about = picture.about
        lost += ["BMP can't hold EXIF"] if picture.exif else []
        lost += ["BMP can't hold XMP"] if about.xmp else []
        lost += ["BMP can't hold IPTC"] if about.resources else []
        lost += ["BMP can't hold texts"] if about.comment or about.texts else []
        stored = None if picture.icc_profile else picture.stored
        picture = replace(picture, icc_profile=None, stored=stored)
    return picture, depth, lost


def _samples(picture: Picture, bits: int) -> np.ndarray:
    """(H, W, C), opacity last if there is any."""
    stored, alpha = picture.stored, picture.alpha
    channels = (1 if picture.grey else 3) if stored is None else stored.shape[2]
    out = np.empty((*picture.pixels.shape[1:], channels + (alpha is not None)), levels.kind(bits))
    space = profiles.space_of(picture.icc_profile, channels)
    visible = None if alpha is None else alpha > 0
    levels.carried(picture.shown, space, bits, stored, picture.bits, visible, out[..., :channels])
    if alpha is not None:
        out[..., -1] = levels.of_other_bits(alpha, picture.bits, bits)
    return out


def _image(picture: Picture, samples: np.ndarray, file_format: str) -> Any:
    """libvips' picture of these samples, which share their memory."""
    height, width, bands = samples.shape
    kind = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}[samples.dtype.name]
    image = pyvips.Image.new_from_memory(samples.data, width, height, bands, kind)
    channels = bands - (picture.alpha is not None)
    narrow, wide, floating = _INTERPRETATIONS[channels]
    along, down = picture.about.density
    image = image.copy(
        interpretation={"uchar": narrow, "ushort": wide, "float": floating}[kind],
        xres=along if file_format == "TIFF" else 1.0,
        yres=down if file_format == "TIFF" else 1.0,
    )
    profile: Any = picture.icc_profile  # pyvips' types know no bytes
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def _encoded(
    picture: Picture, samples: np.ndarray, file_format: str, bits: int, quality: int | None
) -> bytes:
    keep = ["icc"] if picture.icc_profile else []
    quality = quality or WITH_QUALITY.get(file_format, 0)
    if file_format == "AVIF" and bits > 8:
        samples = samples << (16 - bits)
    image = _image(picture, samples, file_format)
    lossless = picture.lossless and picture.format == file_format
    if file_format == "PNG":
        with TemporaryFile() as file:  # in memory it would grow by copies of itself
            image.pngsave_target(_target(file), keep=_flags(keep))
            file.seek(0)
            return file.read()
    if file_format == "JPEG":
        return image.jpegsave_buffer(keep=_flags(keep), Q=quality, subsample_mode="off")
    if file_format == "WEBP":
        return image.webpsave_buffer(
            keep=_flags(keep), Q=quality, lossless=lossless, exact=True, alpha_q=100
        )
    if picture.about.xmp:
        image.set_type(pyvips.GValue.blob_type, "xmp-data", picture.about.xmp)
        keep.append("xmp")
    return image.heifsave_buffer(
        keep=_flags([*keep, *(["exif"] if picture.exif else [])]),
        compression="av1",
        Q=quality,
        bitdepth=bits,
        subsample_mode="off",
        # One quality is for colors and opacity, which mustn't change.
        lossless=lossless or picture.alpha is not None,
    )


def _target(file: IO[bytes]) -> Any:
    return pyvips.Target.new_to_descriptor(file.fileno())


def _flags(names: list[str]) -> str:
    return ":".join(names) or "none"


def _write_bmp(path: Path, samples: np.ndarray, overwrite: bool) -> None:
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    write_atomically(path, lambda file: image.save(file, format="BMP"), overwrite=overwrite)


def _write_tiff(path: Path, picture: Picture, samples: np.ndarray, overwrite: bool) -> list[str]:
    """A TIFF has its EXIF among the tags of its pixels."""
    lost = ["TIFF can't hold PNG's texts"] if picture.about.texts else []
    lost += ["the comment isn't kept"] if picture.about.comment else []
    held = tiff.Tags("<", {})
    if picture.exif:
        try:
            held = tiff.tags(BytesIO(picture.exif.removeprefix(metadata.PREFIX)))
            lost += held.lost
        except ValueError as error:
            lost.append(f"EXIF isn't kept ({error})")
    resources = picture.about.resources
    iptc = metadata.iptc_of(resources) if resources else b""
    more = any(number != metadata.IPTC for number, _, _ in metadata.split_resources(resources))
    further = [
        (700, 1, picture.about.xmp),
        (33723, 7, iptc),
        (34377, 1, resources if more else b""),
    ]
    entries = [tiff.Entry(tag, kind, len(data), data) for tag, kind, data in further if data]
    image = _image(picture, samples, "TIFF")
    options = {"compression": "deflate", "predictor": "horizontal"}
    if samples.dtype == np.float32:
        options["predictor"] = "float"

    def write_to(file: IO[bytes]) -> None:
        keep = "icc" if picture.icc_profile else "none"
        image.tiffsave_target(_target(file), keep=keep, **options)
        if entries or any(held.parts.values()):
            tiff.graft(file, held, entries)

    write_atomically(path, write_to, overwrite=overwrite)
    return lost


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], clipped and rounded to 8 bits."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
