"""`llflow pipe`: raw frames in, raw frames out, for ffmpeg and others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from llflow.commands.options import (
    FROM_ONE,
    Bytes,
    FiniteRange,
    device_of,
    device_option,
    light,
    precision_option,
    weights_option,
)

if TYPE_CHECKING:
    import torch

EPILOG = """\b
example:
  ffmpeg -v error -i dark.mp4 -f rawvideo -pix_fmt rgb24 - \\
    | llflow pipe 1280 720 --rate 25 \\
    | ffmpeg -v error -f rawvideo -pix_fmt rgb24 -s 1280x720 -r 25 -i - bright.mp4
"""


@click.command("pipe", epilog=EPILOG)
@click.argument("width", type=FROM_ONE, metavar="W")
@click.argument("height", type=FROM_ONE, metavar="H")
@click.option(
    "--rate",
    type=FiniteRange(min=0, min_open=True),
    default=25.0,
    show_default=True,
    metavar="FPS",
    help="Frames a second.",
)
@click.option(
    "--depth",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="Bits a channel: FFmpeg's rgb24, or rgb48 in this machine's byte order.",
)
@light
@weights_option
@device_option
@precision_option("auto", "")
@click.option(
    "--max-memory",
    type=Bytes(),
    show_default="half of what is free",
    metavar="SIZE",
    help="Of one frame's computation, such as 800M or 2G; less takes more time.",
)
def command(
    width: int,
    height: int,
    rate: float,
    depth: str,
    weights: str | None,
    device: str,
    max_memory: int | None,
    **settings: Any,
) -> None:
    """Brighten a film's raw RGB frames of W × H pixels from standard input to standard output.

    Exposure, equalisation and white follow the film slowly, and begin anew at a cut; noise is
    averaged where nothing moves. Frames go out as they come in, one for one.
    """
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise click.UsageError("pipe reads and writes raw frames, not a terminal.")

    from llflow.film.frames import Frames
    from llflow.network import checkpoint

    model = checkpoint.load(weights or checkpoint.DEFAULT).to(device_of(device)).fold()
    frames = Frames(model, max_memory=max_memory, **settings)
    size, count = width * height * 3 * int(depth) // 8, 0
    while data := _read(sys.stdin.buffer, size):
        if len(data) < size:
            raise ValueError(
                f"standard input ended within frame {count + 1}: {len(data)} of {size} bytes"
            )
        bright = frames.next(_tensor(data, width, height, depth), 1 / rate)
        sys.stdout.buffer.write(_bytes(bright, depth))
        sys.stdout.buffer.flush()
        count += 1
    if not count:
        raise ValueError("standard input holds no frame")


def _read(stream: BinaryIO, size: int) -> bytearray:
    """So many bytes, or fewer where the stream ends."""
    data = bytearray()
    while len(data) < size and (block := stream.read(size - len(data))):
        data += block
    return data


def _tensor(data: bytearray, width: int, height: int, depth: str) -> torch.Tensor:
    import torch

    kind, largest = _KINDS[depth]
    stored = torch.frombuffer(data, dtype=getattr(torch, kind)).view(height, width, 3)
    return stored.permute(2, 0, 1).float() / largest


def _bytes(image: torch.Tensor, depth: str) -> bytes:
    kind, largest = _KINDS[depth]
    levels = (image * largest).round().permute(1, 2, 0).contiguous()
    return levels.numpy().astype(kind).tobytes()


_KINDS = {"8": ("uint8", 255), "16": ("uint16", 65535)}
