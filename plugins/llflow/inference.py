"""The network's result for a picture of any size, tile by tile."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llflow.errors import LLFlowError, OverLimit
from llflow.memory import release
from llflow.network.illumination import of_averages, thumbnail_size
from llflow.network.live_bytes import LiveBytes
from llflow.network.model import Light, LLFlow
from llflow.network.precision import networks_in
from llflow.network.prior import squeeze_map
from llflow.picture import preprocess, retinex
from llflow.picture.overview import Overview
from llflow.picture.preprocess import mirrored
from llflow.picture.rows import Rows, Whole, each
from llflow.picture.tiles import (
    LEAST,
    Stage,
    Tile,
    Window,
    halves,
    memory_of,
    nearer,
    rounded_up,
    sides,
    tiles,
)

TRIAL = 128  # pixels a side, of which memory is counted
PLENTY = 4096  # bytes a pixel, more than any of the sizes takes
SMALLEST = 64  # pixels, of a kept part's longer side, which isn't halved
OWN = 1.08  # what operations take beside their tensors, of these
KEPT = 100_000_000  # bytes of freed tensors, each below 32 MB, that the C library keeps at most
FREE = 0.5  # of a GPU's free memory that a tile may take
BLOCK = 64  # rows of noise from one state of its generator

Put = Callable[[Window, Sequence[Tensor]], object]
Progress = Callable[[float], object]


class NotFinite(LLFlowError, ArithmeticError):
    """The network's inverse overflowed on this picture."""


class TooLittleMemory(OverLimit):
    """Not even the smallest tile fits into the memory that may be taken."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a picture: `samples` at a temperature, `seed` deciding which, by networks
    in `precision`."""

    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    precision: str = "float32"


class Draws:
    """What picture and seed decide of sample k, whatever else is computed beside it, on every
    device: its noise and its exposure at a temperature."""

    def __init__(self, picture: Rows, drawing: Drawing) -> None:
        self.drawing = drawing
        _, height, width = picture.shape
        self.size = len(mirrored(height)), len(mirrored(width))
        self._states: dict[int, list[list[Tensor]]] = {}
        digest = hashlib.sha256()
        # Without a temperature nothing is drawn, and a large picture's digest takes its time.
        for channel in range(3) if drawing.temperature else ():
            for _, strip in each(picture):
                digest.update(strip[channel].contiguous().numpy().data)
        self.digest = digest.digest()

    def noise(self, index: int, window: Window) -> Tensor:
        """Standard normal noise (1, 3, h, w), that part of the padded picture's."""
        rows, columns = window
        height, width = self.size
        if index not in self._states:
            self._states[index] = self._walk(self._generator(f"{index}"))
        first = rows.start // BLOCK
        planes = []
        for states in self._states[index]:
            blocks = []
            for number in range(first, -(-rows.stop // BLOCK)):
                generator = torch.Generator()
                generator.set_state(states[number])
                count = min(BLOCK, height - BLOCK * number)
                blocks.append(torch.randn(count, width, generator=generator)[:, columns])
            planes.append(torch.cat(blocks)[rows.start - BLOCK * first :][: rows.stop - rows.start])
        return torch.stack(planes)[None]

    def _walk(self, generator: torch.Generator) -> list[list[Tensor]]:
        """The generator's states before each block of rows of each channel."""
        height, width = self.size
        states = [[], [], []]
        for channel in states:
            for start in range(0, height, BLOCK):
                channel.append(generator.get_state())
                torch.randn(min(BLOCK, height - start), width, generator=generator)
        return states

    def exposure(self, light: Light, index: int) -> float:
        """exp(mean + τ·std·ε')."""
        deviation = 0.0
        if self.drawing.temperature:
            normal = torch.randn((), generator=self._generator(f"{index} exposure")).item()
            deviation = self.drawing.temperature * light.std.item() * normal
        try:
            return math.exp(light.mean.item() + deviation)
        except OverflowError as error:
            raise NotFinite(
                "the exposure that was drawn isn't finite; expected less heat"
            ) from error

    def _generator(self, what: str) -> torch.Generator:
        seeded = hashlib.sha256(self.digest + f"{self.drawing.seed} {what}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(seeded[:8], "big") >> 1)


def predicted_light(model: LLFlow, picture: Rows, overview: Overview) -> Light | None:
    """The illumination that the model predicts from the whole picture, before it is padded or cut;
    None without that branch."""
    if model.illumination is None:
        return None
    light, contrast = overview.averages(picture, thumbnail_size(*picture.shape[1:]))
    like = next(model.parameters())
    return model.illumination(of_averages(light[None].to(like), contrast[None].to(like)))


def decode(
    model: LLFlow,
    picture: Rows,
    overview: Overview,
    light: Light | None,
    drawing: Drawing,
    put: Put,
    *,
    tile: int,
    memory: int,
    progress: Progress | None = None,
) -> list[float]:
    """Put every sample's part of the picture tile by tile, and tell each sample's exposure; nothing
    without an illumination branch.

    Where a GPU's memory is at an end, what is left is cut into halves.

    Args:
        put: called with rows and columns of the picture and a part (3, h, w) of each sample.
        tile: no tile keeps more rows or columns.
        memory: bytes that a tile may take, on a CPU; a GPU tells itself what it has.
        progress: called with the share that is done, after each tile.

    Raises:
        TooLittleMemory: the smallest tile takes more.
        NotFinite: the result overflowed.
    """
    part = _Part(model, picture, overview, light, drawing)
    _, height, width = picture.shape
    size, margin = part.draws.size, model.config.margin
    side = _side(model, size, drawing, tile, memory)
    waiting = deque(tiles(*size, side, margin))
    done = 0
    while waiting:
        drawn = _unless_exhausted(part, waiting[0])
        if drawn is None:
            if max(span.stop - span.start for span in waiting[0].place) <= SMALLEST:
                raise TooLittleMemory("the device's memory doesn't hold the smallest tile")
            waiting = deque(half for one in waiting for half in halves(one, *size, margin))
            continue
        rows, columns = waiting.popleft().place
        down, across = min(rows.stop, height), min(columns.stop, width)
        kept = [part[:, : down - rows.start, : across - columns.start] for part in drawn]
        put((slice(rows.start, down), slice(columns.start, across)), kept)
        del drawn, kept
        release()
        done += (rows.stop - rows.start) * (columns.stop - columns.start)
        if progress is not None:
            progress(done / (size[0] * size[1]))
    if light is None:
        return []
    return [part.draws.exposure(light, index) for index in range(drawing.samples)]


def _side(
    model: LLFlow, size: tuple[int, int], drawing: Drawing, tile: int, memory: int
) -> tuple[int, int]:
    """Most rows and columns that tiles may keep."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        memory = int(FREE * torch.cuda.mem_get_info(device)[0])
    if memory >= PLENTY * size[0] * size[1]:
        return tile, tile
    stages = _stages(model, drawing)
    side = sides(*size, tile, int(_of_tensors(memory)), stages)
    if side is None:
        least = memory_of((LEAST, LEAST), (3, 3), stages)
        least = OWN * least + min(KEPT, OWN * least)
        raise TooLittleMemory(
            f"the smallest tile takes {least / 1e9:.2f} GB, and of the memory that may be taken "
            f"{max(0, memory) / 1e9:.2f} GB are left for it"
        )
    return side


def _of_tensors(memory: int) -> float:
    """How many bytes of tensors may live at once where so much may be resident: what is freed and
    kept is no more than what lived."""
    return max(memory - KEPT, memory / 2) / OWN


def _stages(model: LLFlow, drawing: Drawing) -> list[Stage]:
    """What the encoder and then the flow take of a tile, counted in a trial."""
    trial = Whole(torch.full((3, TRIAL, TRIAL), 0.1))
    overview = Overview.of(trial)
    part = _Part(model, trial, overview, predicted_light(model, trial, overview), drawing)
    everything = slice(0, TRIAL), slice(0, TRIAL)
    tile = Tile(everything, everything, everything)
    with LiveBytes() as live:
        cond = part.conditions(tile)
        encoder, live.peak = live.peak, live.now
        part.decoded(cond, tile)
    peaks = (encoder, part.margin), (live.peak, part.flow_margin)
    return [Stage(math.ceil(peak / TRIAL**2), margin) for peak, margin in peaks]


def _unless_exhausted(part: _Part, tile: Tile) -> list[Tensor] | None:
    """None if the device has too little memory, after what was taken is given back."""
    try:
        return part.drawn(tile)
    except torch.OutOfMemoryError:
        pass  # the error holds on to what was computed, as long as it is there
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


class _Part:
    """Parts of one picture as the network makes them."""

    def __init__(
        self,
        model: LLFlow,
        picture: Rows,
        overview: Overview,
        light: Light | None,
        drawing: Drawing,
    ) -> None:
        self.model, self.picture, self.overview = model, picture, overview
        self.light, self.drawing = light, drawing
        self.draws = Draws(picture, drawing)

    @property
    def margin(self) -> int:
        """How far beyond what is kept the conditions are computed."""
        return rounded_up(self.model.config.margin)

    @property
    def flow_margin(self) -> int:
        """How far the flow is."""
        return min(self.margin, rounded_up(self.model.config.flow_reach))

    def drawn(self, tile: Tile) -> list[Tensor]:
        """The kept part (3, h, w) of each sample, in float32 on the CPU."""
        cond = self.conditions(tile)
        near, window = nearer(tile, *self.draws.size, self.flow_margin)
        if near.outer != tile.outer:
            _cut(cond, window, tile)
        release()
        return self.decoded(cond, near)

    def conditions(self, tile: Tile) -> dict[str, Tensor]:
        """What the encoder makes of a tile."""
        with networks_in(self.drawing.precision, next(self.model.parameters()).device):
            low, over = self._low(tile.outer), self._over(tile.outer)
            return self.model.condition(low, self.light, over)

    def decoded(self, cond: dict[str, Tensor], tile: Tile) -> list[Tensor]:
        """What the flow makes of a tile's conditions: the kept part (3, h, w) of each sample."""
        if self.drawing.samples == 1:
            return [self._kept(self._only(cond, tile), tile)]
        like = next(self.model.parameters())
        given = self.model.flow.given(cond)
        samples = []
        for index in range(self.drawing.samples):
            noise = squeeze_map(self.draws.noise(index, tile.outer))
            with networks_in(self.drawing.precision, like.device):
                bright = given.sample_with(temperature=self.drawing.temperature, noise=noise)
            samples.append(self._kept(bright, tile))
        return samples

    def _only(self, cond: dict[str, Tensor], tile: Tile) -> Tensor:
        """For one sample, work done ahead would only cost."""
        base = self.model.flow.base(cond)
        z, temperature = base.mean, self.drawing.temperature
        if temperature:
            noise = squeeze_map(self.draws.noise(0, tile.outer))
            z = z + temperature * base.stddev * noise.to(z)
        del base, cond["color_map"]  # most of what it takes
        with networks_in(self.drawing.precision, z.device):
            return self.model.flow.decode(z, cond)[0]

    def _kept(self, bright: Tensor, tile: Tile) -> Tensor:
        if not bright.isfinite().all():
            raise NotFinite("the network's result isn't finite; other weights may do better")
        return bright[0][(..., *tile.inner)].float().cpu()

    def _low(self, window: Window) -> Tensor:
        _, height, width = self.picture.shape
        (rows, at), (columns, across) = (
            _within(mirrored(length)[span])
            for length, span in zip((height, width), window, strict=True)
        )
        image = self.picture.rows(rows, columns)
        if at is not None:
            image = image[:, at]
        if across is not None:
            image = image[..., across]
        equalized = retinex.equalized(image, self.overview.tables)
        return preprocess.network_input(image, equalized)[None].to(next(self.model.parameters()))

    def _over(self, window: Window) -> Tensor | None:
        if self.light is None:
            return None
        _, height, width = self.picture.shape
        if window == tuple(slice(0, length) for length in self.draws.size):
            return preprocess.pad(self.light.over(height, width))
        rows, columns = (
            mirrored(length)[span] for length, span in zip((height, width), window, strict=True)
        )
        return self.light.over_part((height, width), rows, columns)


def _cut(cond: dict[str, Tensor], window: Window, tile: Tile) -> None:
    """Leave of a tile's conditions, each at its resolution, what is in a window of it."""
    height = tile.outer[0].stop - tile.outer[0].start
    for name, value in cond.items():
        if value.dim() == 4:  # else it is one of the whole picture
            each = height // value.shape[2]
            rows, columns = (slice(span.start // each, span.stop // each) for span in window)
            cond[name] = value[..., rows, columns].clone()


def _within(indices: Tensor) -> tuple[slice, Tensor | None]:
    """A slice that has these indices, and where they are in it; None if they are all of it."""
    first, last = int(indices.min()), int(indices.max()) + 1
    if len(indices) == last - first:
        return slice(first, last), None
    return slice(first, last), indices - first
