"""A film's frames, read by PyAV (FFmpeg's libraries): upright RGB, whatever the file stores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
import torch
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Interpolation
from torch import Tensor

from llflow.errors import LLFlowError

# ITU-T H.273, and FFmpeg's numbers for the same.
HDR = {16: "PQ", 18: "HLG"}
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
UNSPECIFIED = 2
HIGH_DEFINITION = 720  # rows, from which on an unspecified matrix is BT.709's, else BT.601's
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
RGB = "rgb48le"
LARGEST = 65535


class FilmError(LLFlowError, ValueError):
    """A film can't be read, or its result can't be written; the message says why."""


@contextmanager
def as_ours() -> Iterator[None]:
    """What FFmpeg raises within, as ours."""
    try:
        yield
    except FFmpegError as error:
        raise FilmError(f"{error.strerror or error}") from error


@dataclass(frozen=True)
class Frame:
    """One picture of a film.

    Attributes:
        pts: when it is shown, in units of the stream's `time_base`; its `duration` too, 0 if the
            file doesn't tell.
        image: (3, H, W) RGB in [0, 1], upright.
    """

    pts: int
    duration: int
    image: Tensor


class Source:
    """A film to read, closed at the end of a `with`.

    Attributes:
        container, stream: PyAV's.
        format, full_range, matrix: how its numbers mean colors.
        size: width and height of upright frames; None until the first one is decoded.

    Raises:
        OSError: the disk refuses.
        FilmError: no film, one without pictures or of more than `max_pixels` a frame, interlaced,
            with opacity, for screens of more light than white (HDR), or of a color matrix that
            isn't known.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path = path
        self.size: tuple[int, int] | None = None
        with as_ours():
            self.container = av.open(str(path))
        try:
            self._check(max_pixels)
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def _check(self, max_pixels: int) -> None:
        found = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not found:
            raise FilmError("no pictures in this film")
        self.stream = found[0]
        context = self.stream.codec_context
        if context is None or context.format is None:
            raise FilmError("pictures of an unknown kind")
        if context.width * context.height > max_pixels:
            raise FilmError(
                f"frames of {context.width}×{context.height}, more than "
                f"{max_pixels / 1e6:g} megapixels (--max-pixels)"
            )
        if context.color_trc in HDR:
            raise FilmError(
                f"for screens of more light than white ({HDR[context.color_trc]})"
                "; convert it to SDR first"
            )
        if any(component.is_alpha for component in context.format.components):
            raise FilmError(f"has opacity ({context.format.name})")
        self.format = context.format
        self.full_range = context.color_range == ColorRange.JPEG or "yuvj" in context.format.name
        self.matrix = self._matrix(context.colorspace, context.format, context.height)
        self.stream.thread_type = "AUTO"

    def _matrix(self, named: int, stored: VideoFormat, height: int) -> int:
        if named == UNSPECIFIED or stored.is_rgb or len(stored.components) < 3:
            return 1 if height >= HIGH_DEFINITION else 5
        if named not in MATRICES:
            raise FilmError(f"color matrix {named} isn't known")
        return MATRICES[named]

    @property
    def time_base(self) -> Fraction:
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def count(self) -> int | None:
        """Frames that the file says it has, or about as many, None where it doesn't say."""
        rate = self.stream.average_rate
        if self.stream.frames or not rate:
            return self.stream.frames or None
        return round(self._seconds * rate) or None

    @property
    def _seconds(self) -> float:
        """Of the pictures, or where their stream doesn't tell, of the film."""
        told = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", self.stream.metadata.get("DURATION", ""))
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        if told:  # in Matroska
            return 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3])
        return (self.container.duration or 0) / av.time_base

    def frames(self, skip: int = 0) -> Iterator[Frame]:
        """Frame after frame, the first `skip` of them left out.

        Raises:
            FilmError: a frame can't be decoded, has no time or one before the last, is interlaced,
                or of another size than the first.
        """
        last, stored = None, None
        with as_ours():
            for number, frame in enumerate(self.container.decode(self.stream)):
                pts = frame.dts if frame.pts is None else frame.pts
                if pts is None or (last is not None and pts <= last):
                    raise FilmError(f"frame {number + 1} isn't after the last")
                if frame.interlaced_frame:
                    raise FilmError("interlaced; deinterlace it first")
                stored = stored or (frame.width, frame.height)
                if (frame.width, frame.height) != stored:
                    raise FilmError(
                        f"frame {number + 1} is {frame.width}×{frame.height}, "
                        f"the first {stored[0]}×{stored[1]}"
                    )
                if self.size is None:
                    _, height, width = self._upright(frame).shape
                    self.size = width, height
                last = pts
                if number >= skip:
                    yield Frame(pts, frame.duration or 0, self._upright(frame))

    def _upright(self, frame: av.VideoFrame) -> Tensor:
        rgb = frame.reformat(
            format=RGB,
            src_colorspace=self.matrix,
            src_color_range=ColorRange.JPEG if self.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=EXACT,
        ).to_ndarray()
        turned = turn(rgb, display_matrix(frame))
        planes = turned.transpose(2, 0, 1).astype(np.float32)
        return torch.from_numpy(planes).div_(LARGEST)


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the file's matrix: a stored place (x, y) is shown at (ax + cy, bx + dy)."""
    beside: Any = frame.side_data  # PyAV's types take it for a dictionary
    found = [one for one in beside if one.type == Type.DISPLAYMATRIX]
    if not found:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(found[0]), np.int32).astype(float) / 65536
    a, b, c, d = (round(value) if value == round(value) else 2 for value in numbers[[0, 1, 3, 4]])
    return a, b, c, d


def turn(stored: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """(H, W, 3) as it is to be shown.

    Raises:
        FilmError: it is turned by less than a quarter, or stretched.
    """
    a, b, c, d = matrix
    if (abs(a), abs(b), abs(c), abs(d)) not in ((1, 0, 0, 1), (0, 1, 1, 0)):
        raise FilmError(f"is turned or stretched by a matrix of {matrix}")
    if a == 0:  # shown x is c·y, shown y is b·x
        stored, a, d = stored.transpose(1, 0, 2), c, b
    return stored[:: d or 1, :: a or 1]
