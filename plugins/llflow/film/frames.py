"""A film's frames made bright one after the other, without the flicker of single pictures.

Each frame alone would have its own exposure, equalisation and white, which noise changes from one
to the next, and its own noise, which brightening enlarges. Here they follow slowly what the frames
tell, and begin anew at a cut.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from llflow.enhancement import (
    AUTO,
    TILE,
    TILE_MEMORY,
    brightest,
    factor_to,
    finished,
    share_needed,
)
from llflow.film.calm import Calm
from llflow.film.cuts import coarse, is_cut
from llflow.film.steady import Steady
from llflow.inference import Drawing, decode, predicted_light
from llflow.memory import available
from llflow.network.model import Light, LLFlow
from llflow.picture import light as linear
from llflow.picture.overview import Overview
from llflow.picture.rows import ALL, Scratch, Whole

LEAST = 1e-6  # of what a logarithm is taken
LAST, CALM = "last", "calm"  # names in the state, beside those of what is steady
LIGHT = ("exposure", "std", "shape")  # those that are on the model's device


class Frames:
    """What has to be known of the frames before to make the next one bright.

    The latent is the prior's mean, z = color map, which follows the picture; nothing is drawn.
    Averaged is noise where nothing moves (`Calm`). Steady are the tables of the equalised picture,
    log exposure and log shape of the illumination, the share that needs brightening, night's white
    and where highlights begin to roll off (`Steady`); a frame's mean is the steady exposure. The
    first frame, and the first after a cut, is what `llflow.enhance` makes of it.

    Args:
        model: on the device to compute on; `model.fold()` is faster.
        brightness, exposure, strength, precision: as `llflow.enhance` has them.
        max_memory: bytes that a tile may take; if None half of what there is.
    """

    def __init__(
        self,
        model: LLFlow,
        *,
        brightness: float = 0.0,
        exposure: float | str = AUTO,
        strength: float = 1.0,
        precision: str = "float32",
        max_memory: int | None = None,
    ) -> None:
        self.model, self.exposure, self.strength = model, exposure, strength
        self.brighter = linear.factor_of_stops(brightness)
        self.drawing = Drawing(precision=precision)
        self.max_memory = max_memory
        self.calm, self.steady = Calm(), Steady()
        self._last: Tensor | None = None

    @torch.no_grad()
    def next(self, frame: Tensor, seconds: float) -> Tensor:
        """The bright frame (3, H, W) in [0, 1], float32, on the CPU.

        Args:
            frame: (3, H, W) RGB in [0, 1], float32, on the CPU, each of the same size.
            seconds: since the frame before; of the first one any.

        Raises:
            TooLittleMemory: the smallest tile takes more than there is.
            NotFinite: the network's result overflowed.
        """
        if not self.strength:
            return frame.clone()
        now = coarse(frame)
        if self._last is not None and is_cut(self._last, now):
            self.calm.restart()
            self.steady.restart()
        self._last = now
        frame = self.calm.next(frame)
        picture = Whole(frame)
        _, height, width = frame.shape
        overview = Overview.of(picture)
        light = predicted_light(self.model, picture, overview)
        held = self.steady.follow(_measured(overview, light), seconds)
        overview = replace(overview, tables=held["tables"])
        if light is not None:
            shape = held["shape"].exp()
            light = Light(held["exposure"], held["std"], shape / shape.mean((2, 3), keepdim=True))
        bright = Scratch(height, width)
        decode(
            self.model,
            picture,
            overview,
            light,
            self.drawing,
            lambda place, parts: bright.put(*place, parts[0]),
            tile=TILE,
            memory=self._memory(frame),
        )
        result = bright.rows(ALL)
        if light is not None:
            factor = factor_to(bright, light.exposure.item())
            top = self._followed("top", factor * brightest(bright).item(), seconds)
            share = overview.night.share(slice(0, height), held["white"].exp())
            result = finished(frame, result * factor, top, held["needed"].item(), share)
        if not isinstance(self.exposure, str):
            result = result * self._asked(result, self.exposure, seconds)
        return linear.blend(frame, (self.brighter * result).clamp(0, 1), self.strength)

    def _followed(self, name: str, value: float, seconds: float) -> float:
        """A positive number, steady in its logarithm."""
        measured = {name: torch.tensor(max(value, LEAST)).log()}
        return self.steady.follow(measured, seconds)[name].exp().item()

    def _asked(self, result: Tensor, exposure: float, seconds: float) -> float:
        """The factor to the exposure that is asked for; of a frame too black for that, as in a
        fade, the last one's."""
        try:
            factor = linear.factor_for_mean(result, exposure)
        except ValueError:
            return self.steady.means.get("asked", torch.zeros(())).exp().item()
        return self._followed("asked", factor, seconds)

    def _memory(self, frame: Tensor) -> int:
        if self.max_memory is not None:
            return self.max_memory
        usual = TILE_MEMORY[0] + TILE_MEMORY[1] * frame[0].numel()
        there = available()
        return usual if there is None else min(usual, there // 2)

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the next frame depends on, beside the settings; empty before the first one."""
        frames = {LAST: self._last, CALM: self.calm.mean}
        return self.steady.means | {name: one for name, one in frames.items() if one is not None}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self._last, self.calm.mean = state.get(LAST), state.get(CALM)
        device = next(self.model.parameters()).device
        self.steady.means = {
            name: mean.to(device) if name in LIGHT else mean
            for name, mean in state.items()
            if name not in (LAST, CALM)
        }


def _measured(overview: Overview, light: Light | None) -> dict[str, Tensor]:
    """What a frame tells of itself before it is computed."""
    measured = {"tables": overview.tables.float(), "white": overview.night.white.log()}
    if light is not None:
        measured |= {"exposure": light.mean, "std": light.std, "shape": light.shape.log()}
        measured["needed"] = torch.tensor(share_needed(overview.mean, light))
    return measured
