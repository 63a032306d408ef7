"""LLFlow: a conditional encoder and a conditional flow."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from flowkit import (
    ActNorm,
    Affine,
    At,
    Bijection,
    Chain,
    ConvNet,
    Coupling,
    Flow,
    Injector,
    InvertibleLinear,
    Reversible,
    SigmoidScale,
    Squeeze,
    broadcast,
    initialize,
)
from llflow.network.encoder import COLOR_HEADS, ConditionEncoder, ResidualDenseBlocks
from llflow.network.prior import ColorMapPrior, StandardPrior
from llflow.picture import retinex
from llflow.picture.preprocess import encoder_features

KEEP = ("all", "inputs", "nothing")
PRIORS = ("color_map", "standard")
LEVELS = {"half": 12, "quarter": 48, "eighth": 192}  # condition and channels of each level


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that the network's shape depends on; travels with its weights.

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
            value, least = getattr(self, name), int(name != "steps")
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"Config: expected {name} to be an integer >= {least}, got {value!r}"
                )
        if not self.taps or any(tap not in range(self.blocks) for tap in self.taps):
            raise ValueError(
                f"Config: expected taps among blocks 0 … {self.blocks - 1}, got {self.taps}"
            )
        if len(set(self.taps)) < len(self.taps):
            raise ValueError(f"Config: expected each tap once, got {self.taps}")
        if not 0 < self.scale_floor < 1:
            raise ValueError(f"Config: expected 0 < scale_floor < 1, got {self.scale_floor}")
        if self.color_map not in retinex.COLOR_MAPS:
            raise ValueError(
                f"Config: expected color_map to be one of {sorted(retinex.COLOR_MAPS)}, "
                f"got {self.color_map!r}"
            )
        for name, choices in (("prior", PRIORS), ("color_head", COLOR_HEADS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Config: expected {name} among {choices}, got {getattr(self, name)!r}"
                )

    @property
    def cond_channels(self) -> int:
        return self.features * (1 + len(self.taps))

    @property
    def reach(self) -> int:
        """How many pixels away the dark picture can still change a pixel of the result.

        Every 3x3 convolution adds one pixel of its resolution: the noise map and two at full, the
        trunk's at half, one each at a quarter and an eighth, then an injector's two and each
        coupling's two per level. Two more for the alignment of the 2x2 pooling.
        """
        trunk = 2 * (15 * self.blocks + 1)
        flow = 2 * 8 + self.steps * 2 * (8 + 4 + 2)
        return 3 + trunk + 4 + 8 + flow + 2


LARGE = Config(features=64, blocks=24, taps=(1, 3, 5, 7), steps=12)
SMALL = Config(features=32, blocks=4, taps=(1,), steps=4)
TINY = Config(features=16, growth=8, blocks=2, taps=(1,), steps=3, hidden=24, scale_floor=0.1)
SIZES = {"tiny": TINY, "small": SMALL, "large": LARGE}


class LLFlow(nn.Module):
    """p(bright picture | dark picture), and the bright picture it deems typical.

    `keep` says what training remembers for the backward pass: "all" activations; "inputs" of the
    flow's steps and the encoder's blocks, which then run again; or "nothing" of the flow, whose
    steps are inverted, see `flowkit.Reversible`.

    `encoder` turns the dark picture into conditions and a color map; `flow` maps bright pictures
    (B, 3, H, W) to latents (B, 192, H/8, W/8) under them, with N(color map, 1) for the latents.

    Wang et al., Low-Light Image Enhancement with Normalizing Flow, AAAI 2022.
    """

    def __init__(self, config: Config = TINY) -> None:
        super().__init__()
        self.config = config
        self.keep = "all"
        self.encoder = ConditionEncoder(
            config.features,
            config.growth,
            config.blocks,
            config.taps,
            color_scale=3.0 if config.color_map == "mean" else 1.0,
            color_head=config.color_head,
        )
        levels = [_level(key, channels, config) for key, channels in LEVELS.items()]
        prior = ColorMapPrior() if config.prior == "color_map" else StandardPrior()
        self.flow = Flow(Chain(*levels) if config.steps else Squeeze(8), prior)

    @property
    def keep(self) -> str:
        return self._keep

    @keep.setter
    def keep(self, keep: str) -> None:
        if keep not in KEEP:
            raise ValueError(f"LLFlow: expected keep among {', '.join(KEEP)}, got {keep!r}")
        self._keep = keep

    def _remembering(self) -> Flow:
        """The flow, with `keep` seen to; it shares the parameters."""
        if self.keep == "all":
            return self.flow
        return Flow(Reversible(self.flow.bijection, keep=self.keep), self.flow.base)

    def compile_networks(self) -> None:
        """Let `torch.compile` make the encoder's blocks and the conditioner nets faster; the first
        call is slow. The bijections around them stay as they are, so `keep` applies."""
        for module in self.modules():
            if isinstance(module, ResidualDenseBlocks | ConvNet):
                module.compile()

    def condition(self, low: Tensor) -> dict[str, Tensor]:
        """Conditions and color map of dark pictures.

        Args:
            low: (B, 6, H, W) from `preprocess.network_input`, H and W multiples of 8.
        """
        if low.dim() != 4 or low.shape[1] != 6 or low.shape[2] % 8 or low.shape[3] % 8:
            raise ValueError(
                "LLFlow: expected the network's input as (B, 6, H, W) with H and W multiples of 8, "
                f"got {tuple(low.shape)}"
            )
        features = encoder_features(low, self.config.color_map)
        return self.encoder(features, recompute=self.keep != "all")

    def reference_color_map(self, bright: Tensor) -> Tensor:
        """C(x_ref) (B, 3, H, W) in the formula that this model was built for."""
        return retinex.COLOR_MAPS[self.config.color_map](bright)

    def nll(
        self,
        bright: Tensor,
        low: Tensor,
        from_reference: Tensor | bool = False,
        cond: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Negative log-likelihood in bits per pixel (not per channel), (B,).

            -(log N(z; r, 1) + log|det dz/dx|) / (H·W·ln 2),   z = flow(bright | low)

        Args:
            bright: (B, 3, H, W) in [0, 1].
            low: (B, 6, H, W) of the dark pictures.
            from_reference: which samples centre the prior on the reference's own color map instead
                of the encoder's, a bool or bools (B,): the random selector r(a, b) of eq. 9, drawn
                true with probability p.
            cond: `condition(low)`, where it has been computed already.

        Raises:
            ValueError: the shapes don't belong together, or `from_reference` isn't as above.

        Wang et al., AAAI 2022, eq. 7-9.
        """
        cond = self.condition(low) if cond is None else cond
        expected = (low.shape[0], 3, *low.shape[2:])
        if bright.shape != expected:
            raise ValueError(
                f"LLFlow.nll: expected bright pictures of shape {expected}, "
                f"got {tuple(bright.shape)}"
            )
        from_reference = torch.as_tensor(from_reference, device=low.device)
        shaped = from_reference.dim() == 0 or from_reference.shape == low.shape[:1]
        if from_reference.dtype != torch.bool or not shaped:
            raise ValueError(
                f"LLFlow.nll: expected from_reference as a bool or bools ({len(low)},), "
                f"got {from_reference.dtype} {tuple(from_reference.shape)}"
            )
        from_reference = from_reference.expand(len(low))
        center = torch.where(
            from_reference[:, None, None, None],
            self.reference_color_map(bright),
            cond["color_map"],
        )
        log_prob = self._remembering().log_prob(bright, cond | {"color_map": center})
        return -log_prob / (math.log(2) * bright.shape[2] * bright.shape[3])

    def typical(self, cond: dict[str, Tensor]) -> Tensor:
        """The bright picture (B, 3, H, W) of the prior's mean, unclipped, with its gradient.

        Args:
            cond: from `condition`.
        """
        flow = self._remembering()
        return flow.sample(cond, temperature=0)

    @torch.no_grad()
    def initialize(self, bright: Tensor, low: Tensor) -> None:
        """Set every ActNorm and every norm of the conditioner nets from one batch of pairs.

        Under a process group each rank passes its own part of the batch, and all end with the same
        weights, as `flowkit.initialize` has it.
        """
        broadcast(self)
        initialize(self.flow, bright, self.condition(low))

    def fold(self) -> LLFlow:
        """The same model as a frozen copy, cheap for enhancement."""
        folded = copy.deepcopy(self).eval().requires_grad_(False)
        folded.flow = folded.flow.fold()
        if next(self.parameters()).device.type == "cpu":  # where this was measured to be faster
            folded.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return folded


def _level(key: str, channels: int, config: Config) -> Bijection:
    """Halve the resolution, mix the channels twice, then `steps` steps that see cond[key]."""
    steps = [layer for _ in range(config.steps) for layer in _step(channels, config)]
    mixing = [layer for _ in range(2) for layer in _mixing(channels)]
    return Chain(Squeeze(), Chain(*mixing), At(key, Chain(*steps)))


def _mixing(channels: int) -> tuple[Bijection, Bijection]:
    return ActNorm(channels), InvertibleLinear(channels)


def _step(channels: int, config: Config) -> tuple[Bijection, ...]:
    net = partial(ConvNet, hidden=config.hidden)
    how = Affine(SigmoidScale(floor=config.scale_floor))
    cond = config.cond_channels
    return (
        *_mixing(channels),
        Injector(channels, net, how, cond_channels=cond),
        Coupling(channels, net, how, cond_channels=cond),
    )
