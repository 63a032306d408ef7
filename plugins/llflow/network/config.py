"""What the shape of a network depends on: the authors' and the lean one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from llflow.picture import retinex

PRIORS = ("color_map", "standard")
COLOR_HEADS = ("half", "full")
LEVELS = {"half": 12, "quarter": 48, "eighth": 192}  # condition and channels of each level


def _require_shared(config: Config | LeanConfig) -> None:
    if not 0 < config.scale_floor < 1:
        raise ValueError(f"Config: expected 0 < scale_floor < 1, got {config.scale_floor}")
    if config.color_map not in retinex.COLOR_MAPS:
        raise ValueError(
            f"Config: expected color_map to be one of {sorted(retinex.COLOR_MAPS)}, "
            f"got {config.color_map!r}"
        )
    if config.prior not in PRIORS:
        raise ValueError(f"Config: expected prior among {PRIORS}, got {config.prior!r}")


def _require_integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"Config: expected {name} to be an integer >= {least}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The authors' network: everything that its shape depends on; travels with its weights.

    Attributes:
        features: channels of the encoder's trunk.
        blocks: its length in residual-in-residual dense blocks.
        taps: the blocks whose outputs join the conditions.
        growth: channels that each dense convolution adds.
        steps: coupled flow steps per level.
        hidden: channels inside the conditioner nets.
        scale_floor: smallest factor of an affine layer; an inverse divides by it.
        color_map: "sum" (released network) or "mean" (paper), see `llflow.picture.retinex`.
        prior: "color_map" centres the latent on it; "standard" is N(0, 1), the paper's "w/o color
            map".
        color_head: resolution at which the encoder's color map is made, "half" (released network)
            or "full".

    With steps = 0 there is no flow, and the color map is the picture: the paper's "only encoder",
    which l1 can train; its color_head should be "full".
    """

    features: int
    blocks: int
    taps: tuple[int, ...]
    growth: int = 32
    steps: int
    hidden: int = 64
    scale_floor: float = 1e-4
    color_map: str = "sum"
    prior: str = "color_map"
    color_head: str = "half"

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        for name in ("features", "blocks", "growth", "hidden", "steps"):
            _require_integer(name, getattr(self, name), int(name != "steps"))
        if not self.taps or any(tap not in range(self.blocks) for tap in self.taps):
            raise ValueError(
                f"Config: expected taps among blocks 0 … {self.blocks - 1}, got {self.taps}"
            )
        if len(set(self.taps)) < len(self.taps):
            raise ValueError(f"Config: expected each tap once, got {self.taps}")
        _require_shared(self)
        if self.color_head not in COLOR_HEADS:
            raise ValueError(
                f"Config: expected color_head among {COLOR_HEADS}, got {self.color_head!r}"
            )

    @property
    def cond_channels(self) -> int:
        return self.features * (1 + len(self.taps))

    @property
    def depth(self) -> int:
        """Blocks or steps, whichever are more: each has tensors of its own."""
        return max(self.blocks, self.steps)

    @property
    def reach(self) -> int:
        """How many pixels away the dark picture can still change a pixel of the result.

        Every 3x3 convolution adds one pixel of its resolution: the noise map and two at full, the
        trunk's at half, one each at a quarter and an eighth, then an injector's two and each
        coupling's two per level. Two more for the alignment of the 2x2 pooling.
        """
        trunk = 2 * (15 * self.blocks + 1)
        return 3 + trunk + 4 + 8 + self.flow_reach + 2

    @property
    def flow_reach(self) -> int:
        """How many pixels away the conditions can still change a pixel of the result."""
        return 2 * 8 + self.steps * 2 * (8 + 4 + 2)

    @property
    def margin(self) -> int:
        """By how many pixels tiles overlap to each side: the reach, up to 320 pixels, beyond which
        only `large` sees."""
        return min(self.reach, 320)

    def without_flow(self) -> Self:
        """The paper's "only encoder"."""
        return replace(self, steps=0, color_head="full")


@dataclass(frozen=True, kw_only=True)
class LeanConfig:
    """The lean network, made for a CPU: illumination from a thumbnail of the whole picture, an
    encoder whose trunk runs at a quarter and an eighth of the resolution, and few flow steps.

    Attributes:
        half, quarter, eighth: channels of the encoder at these resolutions; the condition at half
            has twice as many as `half`.
        blocks: residual blocks at a quarter, at an eighth, and at a quarter again.
        thumbnail: channels of the illumination branch, which has half of them at first.
        steps: coupled flow steps at half, quarter and eighth.
        hidden: channels inside the conditioner nets, likewise.
        scale_floor, color_map, prior: see `Config`.

    Without any steps there is no flow, and the color map times the exposure is the picture.
    """

    half: int = 16
    quarter: int = 48
    eighth: int = 48
    blocks: tuple[int, int, int] = (2, 4, 2)
    thumbnail: int = 32
    steps: tuple[int, int, int] = (2, 2, 2)
    hidden: tuple[int, int, int] = (16, 32, 32)
    scale_floor: float = 0.25
    color_map: str = "sum"
    prior: str = "color_map"

    def __post_init__(self) -> None:
        for name, least in (("half", 1), ("quarter", 1), ("eighth", 1), ("thumbnail", 2)):
            _require_integer(name, getattr(self, name), least)
        for name, least in (("blocks", 0), ("steps", 0), ("hidden", 1)):
            values = tuple(getattr(self, name))
            if len(values) != 3:
                raise ValueError(f"Config: expected three {name}, got {values}")
            for value in values:
                _require_integer(name, value, least)
            object.__setattr__(self, name, values)
        _require_shared(self)

    @property
    def depth(self) -> int:
        """Blocks or steps, whichever are more: each has tensors of its own."""
        return max(*self.blocks, *self.steps)

    @property
    def reach(self) -> int:
        """How many pixels away the dark picture can still change a pixel of the result, beside
        what its thumbnail tells of the whole.

        The noise map; light averaged over 8 pixels and spread to its neighbours; every 3x3
        convolution one pixel of its resolution: two and the color map's two at half, one at a
        quarter, one at an eighth, two per block; an injector's two and each coupling's two per
        level. Then seven for the places of an 8x8 square.
        """
        at_quarter, at_eighth, joined = self.blocks
        encoder = 2 * 4 + 4 * (1 + 2 * (at_quarter + joined)) + 8 * (1 + 2 * at_eighth)
        return 1 + 16 + encoder + self.flow_reach + 7

    @property
    def flow_reach(self) -> int:
        """How many pixels away the conditions can still change a pixel of the result."""
        return 2 * 8 + 2 * sum(map(lambda steps, side: steps * side, self.steps, (2, 4, 8)))

    @property
    def margin(self) -> int:
        """By how many pixels tiles overlap to each side: the reach, up to 128 pixels. Further away
        only the flow's steps see, which with the weights of `tiny` changes no value by a tenth of
        1/255."""
        return min(self.reach, 128)

    def without_flow(self) -> Self:
        """The paper's "only encoder"."""
        return replace(self, steps=(0, 0, 0))


LARGE = Config(features=64, blocks=24, taps=(1, 3, 5, 7), steps=12)
SMALL = Config(features=32, blocks=4, taps=(1,), steps=4)
TINY = LeanConfig()
SIZES: dict[str, Config | LeanConfig] = {"tiny": TINY, "small": SMALL, "large": LARGE}
