"""A film's result, written by PyAV: bright frames, and everything else of the source as it is."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.reformatter import ColorRange
from torch import Tensor

from llflow.film.source import (
    EXACT,
    LARGEST,
    RGB,
    UNSPECIFIED,
    FilmError,
    Frame,
    Source,
    as_ours,
)

# Without B-frames packets come in the order of frames, whatever their times.
ENCODERS = {
    "hevc": ("libx265", {"crf": "18", "x265-params": "log-level=error:bframes=0:open-gop=0"}),
    "h264": ("libx264", {"crf": "16", "bf": "0"}),
    "av1": ("libsvtav1", {"crf": "22", "preset": "6"}),
    "vp9": ("libvpx-vp9", {"crf": "20", "b": "0", "auto-alt-ref": "0", "row-mt": "1"}),
}
OTHERS = {"h264": ["hevc"], "hevc": [], "av1": [], "vp9": ["av1"]}
CONTAINERS_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}


@dataclass(frozen=True)
class Coded:
    """An encoded frame.

    Attributes:
        data: its bytes.
        pts, dts, duration: in units of the source's `time_base`.
        key: whether a player can begin with it.
    """

    data: bytes
    pts: int
    dts: int
    duration: int
    key: bool


def pixel_format(source: av.VideoFormat, width: int, height: int) -> str:
    """The planar format that holds as many bits and as much color as the source's."""
    bits = max(component.bits for component in source.components)
    depth = "" if bits <= 8 else "10le" if bits <= 10 else "12le"
    if len(source.components) < 3 and not source.has_palette:
        return f"gray{depth}"
    wide = source.is_rgb or source.has_palette or source.chroma_width(16) == 16
    high = source.is_rgb or source.has_palette or source.chroma_height(16) == 16
    if wide or width % 2:
        return f"yuv444p{depth}"
    return f"yuv42{2 if high or height % 2 else 0}p{depth}"


class Coding:
    """How a film's bright frames are encoded: as the source is, if there is an encoder for it.

    Args:
        container: FFmpeg's name of the result's.
        size: width and height, upright.

    Raises:
        FilmError: nothing here writes such frames into such a container.
    """

    def __init__(self, source: Source, container: str, size: tuple[int, int]) -> None:
        self.source, self.size = source, size
        context = source.stream.codec_context
        self.pixels = pixel_format(source.format, *size)
        own = context.codec.canonical_name if context.codec else "h264"
        own = own if own in ENCODERS else "h264"
        allowed = av.ContainerFormat(container, "w")
        held = {"webm": {"av1", "vp9"}}.get(allowed.name, set(ENCODERS))
        for name in (own, *OTHERS[own], *(["vp9", "av1"] if container == "webm" else [])):
            codec = av.Codec(ENCODERS[name][0], "w")
            if name in held and self.pixels in {one.name for one in codec.video_formats or ()}:
                self.encoder, self.options = ENCODERS[name]
                return
        raise FilmError(
            f"frames of {self.pixels} don't go into {container}; expected "
            "a result in .mp4, .mov or .mkv"
        )

    def configure(self, context: av.VideoCodecContext) -> None:
        """An encoder's settings, the same for every part of the film."""
        given = self.source.stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt = self.pixels
        context.time_base = self.source.time_base
        context.framerate = self.source.stream.average_rate or Fraction(25)
        context.color_range = ColorRange.JPEG if self.source.full_range else ColorRange.MPEG
        context.colorspace = self._tag
        context.color_trc, context.color_primaries = given.color_trc, given.color_primaries
        aspect = self.source.stream.sample_aspect_ratio
        if aspect:
            upright = self.size == (given.width, given.height)
            context.sample_aspect_ratio = aspect if upright else 1 / aspect
        context.options = self.options

    @property
    def _tag(self) -> int:
        """The matrix that the result names: the source's, if that has one and isn't RGB."""
        given = self.source.stream.codec_context
        return self.source.matrix if self.source.format.is_rgb else given.colorspace or UNSPECIFIED

    def encode(self, frames: Iterable[tuple[Frame, Tensor]]) -> list[Coded]:
        """Frames and what became of them, as a part that needs no other one."""
        context = av.CodecContext.create(self.encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        self.configure(context)
        context.flags |= Flags.global_header
        packets, durations = [], {}
        for frame, bright in frames:
            durations[frame.pts] = frame.duration
            packets += context.encode(self._stored(bright, frame.pts))
        packets += context.encode(None)
        return [
            Coded(bytes(p), p.pts, p.dts, durations[p.pts], bool(p.is_keyframe)) for p in packets
        ]

    def _stored(self, bright: Tensor, pts: int) -> av.VideoFrame:
        rgb = (bright * LARGEST).round().numpy().astype(np.uint16).transpose(1, 2, 0)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), RGB).reformat(
            format=self.pixels,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG if self.source.full_range else ColorRange.MPEG,
            dst_colorspace=self.source.matrix,
            interpolation=EXACT,
        )
        frame.pts, frame.time_base = pts, self.source.time_base
        frame.color_range = ColorRange.JPEG if self.source.full_range else ColorRange.MPEG
        frame.colorspace = self._tag
        return frame


def mux(file: IO[bytes], container: str, coding: Coding, coded: Iterable[Coded]) -> list[str]:
    """Write the encoded frames and, packet by packet, the source's other streams.

    Returns:
        What of the source the result doesn't hold, a line each.

    Raises:
        FilmError: the container doesn't take the source's sound or subtitles.
        OSError: the disk refuses.
    """
    source = coding.source
    with av.open(str(source.path)) as again, as_ours(), _opened(file, container) as out:
        video, copied, lost = _streams(again, coding, out)
        out.start_encoding()
        for packet in heapq.merge(
            _own(coded, video, source.time_base), _others(again, copied), key=_seconds
        ):
            out.mux_one(packet)
    return lost


def require_fits(container: str, coding: Coding) -> None:
    """Raise what `mux` would raise of the streams, before the work."""
    with (
        av.open(str(coding.source.path)) as again,
        as_ours(),
        _opened(BytesIO(), container) as out,
    ):
        _streams(again, coding, out)
        out.start_encoding()


def _opened(file: IO[bytes], container: str) -> OutputContainer:
    options = {"movflags": "use_metadata_tags"} if container in ("mp4", "mov") else {}
    return av.open(file, "w", format=container, options=options)


def _streams(
    source: InputContainer, coding: Coding, out: OutputContainer
) -> tuple[av.VideoStream, dict[int, Stream], list[str]]:
    """The result's stream of pictures, those of the source's others, and what of them is lost."""
    out.metadata.update(source.metadata)
    video = out.add_stream(coding.encoder, options=coding.options)
    assert isinstance(video, av.VideoStream)
    coding.configure(video.codec_context)
    video.time_base = coding.source.time_base
    video.metadata.update(coding.source.stream.metadata)
    video.disposition = coding.source.stream.disposition
    copied, lost = _copied(source, coding.source.stream.index, out)
    out.set_chapters(source.chapters())
    return video, copied, lost


def lost_tags(source: Source, result: Path) -> list[str]:
    """Which of the source's metadata the result's container didn't take, in a line, or none."""
    with av.open(str(result)) as written:
        kept = {name.lower() for name in written.metadata} | CONTAINERS_OWN
    lost = sorted(name for name in source.container.metadata if name.lower() not in kept)
    return [f"metadata isn't kept: {', '.join(lost)}"] if lost else []


def _copied(
    source: InputContainer, but: int, out: OutputContainer
) -> tuple[dict[int, Stream], list[str]]:
    """The result's stream of each of the source's others, and those that it doesn't take."""
    copied, lost = {}, []
    for stream in source.streams:
        if stream.index == but:
            continue
        try:
            copied[stream.index] = out.add_stream_from_template(stream)
        except (ValueError, FFmpegError) as error:
            if stream.type in ("audio", "subtitle", "video"):
                raise FilmError(
                    f"{out.format.name} doesn't take stream {stream.index}, {stream.type} "
                    f"({error}); expected a result in .mkv"
                ) from error
            lost.append(f"stream {stream.index} ({stream.type}) isn't kept")
            continue
        copied[stream.index].metadata.update(stream.metadata)
        copied[stream.index].disposition = stream.disposition
    return copied, lost


def _own(
    coded: Iterable[Coded], stream: av.VideoStream, time_base: Fraction
) -> Iterator[av.Packet]:
    for one in coded:
        packet = av.Packet(one.data)
        packet.pts, packet.dts, packet.duration = one.pts, one.dts, one.duration
        packet.time_base, packet.is_keyframe, packet.stream = time_base, one.key, stream
        yield packet


def _others(source: InputContainer, copied: dict[int, Stream]) -> Iterator[av.Packet]:
    streams: Sequence[Stream] = [source.streams[index] for index in copied]
    for packet in source.demux(streams) if streams else ():
        if packet.dts is not None:  # else it only says that the file has ended
            packet.stream = copied[packet.stream_index]
            yield packet


def _seconds(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * packet.time_base
