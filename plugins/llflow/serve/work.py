"""What is computed of a picture, in a folder that holds it and everything made of it.

The folder has `source`, the file that came; then `bright.pt`, what the network made of it before
anything is clipped, which any light is made from; and `small.pt`, both at the size of a screen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.nn.functional import interpolate

from llflow.distribution.likelihood import score
from llflow.distribution.spread import exposure_stops, uncertainty
from llflow.enhancement import AUTO, brighten, unclipped
from llflow.network import checkpoint
from llflow.picture import files
from llflow.picture import light as linear
from llflow.picture.heat import colored
from llflow.serve.asked import Asked, Drawing, Finish, Light

SCREEN = 1280  # pixels of a preview's longer side
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}
_SHOWN = (  # of EXIF, which a page lists
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
    ExifTags.Base.ImageDescription,
)
_SHOWN_INNER = (
    ExifTags.Base.DateTimeOriginal,
    ExifTags.Base.ExposureTime,
    ExifTags.Base.FNumber,
    ExifTags.Base.ISOSpeedRatings,
    ExifTags.Base.FocalLength,
    ExifTags.Base.LensModel,
)
_LONGEST = 200  # characters of a value
_MAP = 512  # pixels of the longer side, where many samples are drawn
_SAMPLES = 6
_MOST = 0.995  # quantile that is the lightest color


class Network:
    """What needs the network.

    Args:
        weights: of `llflow.load`.
        device: auto, cpu or cuda.
        precision: of `llflow.enhance`.
        max_pixels: larger pictures are refused.
        tell: called with the share of the work that is done, now and then.
    """

    def __init__(
        self,
        weights: str | Path,
        device: str,
        precision: str,
        max_pixels: int,
        tell: Callable[[float], object],
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = checkpoint.load(weights).to(torch.device(device)).fold()
        self.precision, self.max_pixels, self.tell = precision, max_pixels, tell

    def enhance(self, folder: Path, asked: Asked) -> dict[str, Any]:
        """Picture in, picture out; what `result` returns."""
        picture = files.read(folder / "source", self.max_pixels)
        path = _target(folder, picture, asked.finish)
        arguments = asked.settings(self.precision).arguments()
        bright = brighten(self.model, picture, **arguments, folder=folder, progress=self.tell)
        return _write(path, bright, asked.finish)

    def compute(self, folder: Path, asked: Asked) -> dict[str, Any]:
        """The network's part, after which light and output are cheap; what there is to tell of the
        picture."""
        picture = files.read(folder / "source", self.max_pixels)
        arguments = asked.settings(self.precision).arguments()
        drawing = {name: arguments[name] for name in (*Drawing.model_fields, "precision")}
        bright = unclipped(self.model, picture.image, **drawing, progress=self.tell)
        torch.save(bright, folder / "bright.pt")
        small = {"before": _reduced(picture.image), "after": _reduced(bright)}
        if picture.alpha is not None:
            alpha = torch.from_numpy(picture.alpha.astype(np.float32))[None]
            white = 1.0 if picture.bits == files.FLOAT else np.iinfo(picture.alpha.dtype).max
            small["alpha"] = _reduced(alpha / white)
        torch.save(small, folder / "small.pt")
        _, height, width = picture.image.shape
        return {
            "width": width,
            "height": height,
            "format": picture.format,
            "depth": "32f" if picture.bits == files.FLOAT else str(picture.bits),
            "grey": picture.grey,
            "transparent": picture.alpha is not None,
            "profile": picture.icc_profile is not None,
            "exif": _told(picture.exif),
            "lost": list(picture.lost),
        }

    def uncertainty(self, folder: Path) -> bytes:
        """A PNG of where samples of the small picture differ, from none to most."""
        dark = _reduced(_opened(folder)["before"], _MAP)
        spread = uncertainty(self.model, dark, samples=_SAMPLES, precision=self.precision)
        encoded = BytesIO()
        colored(spread / spread.flatten().quantile(_MOST).clamp(min=1e-6)).save(
            encoded, format="PNG"
        )
        return encoded.getvalue()

    def score(self, folder: Path) -> dict[str, float | None]:
        """How well the small bright picture fits the dark one, as `llflow score` has it."""
        small = _opened(folder)
        dark, bright = (_reduced(small[name].clamp(0, 1), _MAP) for name in ("before", "after"))
        (found,) = score(self.model, dark, [bright])
        return asdict(found) | {"exposure_stops": exposure_stops(self.model, dark)}


class Darkroom:
    """What needs it no more, and so can be done while the network computes another picture.

    Args:
        max_pixels: larger pictures are refused.
        tell: not called; everything is quick.
    """

    def __init__(self, max_pixels: int, tell: Callable[[float], object]) -> None:
        self.max_pixels = max_pixels

    def result(self, folder: Path, finish: Finish) -> dict[str, Any]:
        """The whole picture in this light, as the command writes it: where, its type, and what its
        format can't hold."""
        picture = files.read(folder / "source", self.max_pixels)
        path = _target(folder, picture, finish)
        bright = torch.load(folder / "bright.pt", weights_only=True)
        image = _in_light(picture.image, bright, finish.light)
        return _write(path, picture.with_image(image), finish)

    def preview(self, folder: Path, light: Light) -> tuple[bytes, str]:
        """A small JPEG in this light, or a PNG where something is transparent; and its type."""
        small = _opened(folder)
        alpha = small.get("alpha")
        image = files.to_pil(_in_light(small["before"], small["after"], light))
        encoded = BytesIO()
        if alpha is None:
            image.save(encoded, format="JPEG", quality=90)
            return encoded.getvalue(), "image/jpeg"
        image.putalpha(Image.fromarray((alpha[0] * 255).round().to(torch.uint8).numpy()))
        image.save(encoded, format="PNG", compress_level=1)
        return encoded.getvalue(), "image/png"


def _in_light(original: Tensor, bright: Tensor, light: Light) -> Tensor:
    """What `llflow.enhance` makes of the network's result."""
    if light.exposure != AUTO:
        bright = bright * linear.factor_for_mean(bright, float(light.exposure))
    result = (linear.factor_of_stops(light.brightness) * bright).clamp(0, 1)
    return linear.blend(original, result, light.strength)


def _target(folder: Path, picture: files.Picture, finish: Finish) -> Path:
    """Where the result goes; refused before the work if its format can't hold it."""
    file_format = finish.format or picture.format
    path = folder / f"result{files.SUFFIXES[file_format][0]}"
    files.require_fits(path, picture, bits=finish.bits, quality=finish.quality)
    return path


def _write(path: Path, picture: files.Picture, finish: Finish) -> dict[str, Any]:
    lost = files.write(path, picture, bits=finish.bits, quality=finish.quality)
    media_type = MEDIA_TYPES[files.format_of(path) or picture.format]
    return {"path": path, "media_type": media_type, "lost": [*picture.lost, *lost]}


def _opened(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "small.pt", weights_only=True)


def _reduced(image: Tensor, side: int = SCREEN) -> Tensor:
    """(C, H, W) with a longer side of at most this many pixels."""
    height, width = image.shape[1:]
    share = side / max(height, width)
    if share >= 1:
        return image
    size = [max(1, round(height * share)), max(1, round(width * share))]
    return interpolate(image[None], size=size, mode="area")[0]


def _told(exif: bytes) -> dict[str, str]:
    """What a reader wants to know of EXIF, as text by the tags' names."""
    held = Image.Exif()
    try:
        held.load(exif)
        inner = held.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # Pillow's reader raises anything, and what is told here decides nothing
        return {}
    found = {tag.name: held.get(tag) for tag in _SHOWN}
    found |= {tag.name: inner.get(tag) for tag in _SHOWN_INNER}
    return {name: _text(value) for name, value in found.items() if _text(value)}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = "" if value is None else str(value)
    return "".join(c for c in text if c.isprintable()).strip()[:_LONGEST]
