"""LLFlow: a conditional encoder and a conditional flow."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

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
from llflow.network.config import LARGE, LEVELS, PRIORS, SIZES, SMALL, TINY, Config, LeanConfig
from llflow.network.encoder import ConditionEncoder, ResidualDenseBlocks
from llflow.network.exposed import Exposed
from llflow.network.illumination import Illumination, Light, thumbnail
from llflow.network.lean import LeanEncoder
from llflow.network.prior import ColorMapPrior, StandardPrior
from llflow.network.residual import Residual
from llflow.picture import retinex
from llflow.picture.preprocess import encoder_features

__all__ = [
    "KEEP",
    "LARGE",
    "LEVELS",
    "PRIORS",
    "SIZES",
    "SMALL",
    "TINY",
    "Config",
    "LLFlow",
    "LeanConfig",
    "Light",
]

Net = Callable[..., nn.Module]
KEEP = ("all", "inputs", "nothing")
EXPOSURE = "exposure"  # the log exposure among the conditions, where the network has one


class LLFlow(nn.Module):
    """p(bright picture | dark picture), and the bright picture it deems typical.

    `keep` says what training remembers for the backward pass: "all" activations; "inputs" of the
    flow's steps and the encoder's blocks, which then run again; or "nothing" of the flow, whose
    steps are inverted, see `flowkit.Reversible`.

    `encoder` turns the dark picture into conditions and a color map; `flow` maps bright pictures
    (B, 3, H, W) to latents (B, 192, H/8, W/8) under them, with N(color map, 1) for the latents.
    Of a `LeanConfig`, `illumination` tells from the whole dark picture how bright the bright one
    is; the encoder sees that, and the flow maps pictures divided by their exposure. A `Config` has
    no such branch, and `illumination` is None.

    Wang et al., Low-Light Image Enhancement with Normalizing Flow, AAAI 2022.
    """

    def __init__(self, config: Config | LeanConfig = TINY) -> None:
        super().__init__()
        self.config = config
        self.keep = "all"
        color_scale = 3.0 if config.color_map == "mean" else 1.0
        if isinstance(config, LeanConfig):
            self.illumination = Illumination(config.thumbnail)
            self.encoder = LeanEncoder(
                config.half,
                config.quarter,
                config.eighth,
                config.blocks,
                color_scale,
                config.color_map,
            )
            bijection = _lean(config)
        else:
            self.illumination = None
            self.encoder = ConditionEncoder(
                config.features,
                config.growth,
                config.blocks,
                config.taps,
                color_scale=color_scale,
                color_head=config.color_head,
            )
            bijection = _authors(config)
        prior = ColorMapPrior() if config.prior == "color_map" else StandardPrior()
        self.flow = Flow(bijection, prior)

    @staticmethod
    def from_pretrained(source: str | os.PathLike[str], *, revision: str | None = None) -> LLFlow:
        """The model of a folder or of the Hugging Face hub, in evaluation mode.

        What `save_pretrained` wrote: config.json and model.safetensors, of which no code comes.
        A folder of this machine goes before the hub, and what the hub's cache has before the
        network. Of other files nothing is asked for.

        Args:
            source: a folder; or text like "owner/model", a name on the hub, which takes
                flowkit[hub].
            revision: branch, tag or commit on the hub. What the cache has of it isn't asked for
                again, so that only a commit's full name says which model it is.

        Raises:
            CheckpointError: there is no such folder, nor does the hub give one; a file is missing,
                damaged, or doesn't fit the other.
            ValueError: a revision of a folder.
            ModuleNotFoundError: the hub's package isn't there; the message says how to get it.
            OSError: a file can't be read.
        """
        from llflow.network import pretrained  # which knows this class

        return pretrained.load(source, revision)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors, for `from_pretrained`. Each of them appears
        whole or not at all, in the place of one that was there; `llflow.load` and --weights take
        model.safetensors alone, too.

        Raises:
            ValueError: the model is folded, or of another dtype than float32.
            OSError: folder or disk refuses.
        """
        from llflow.network import pretrained

        pretrained.save(self, Path(folder))

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
            if isinstance(module, ResidualDenseBlocks | Residual | ConvNet):
                module.compile()

    def light(self, image: Tensor, equalized: Tensor) -> Light | None:
        """The illumination of whole dark pictures (B, 3, H, W), of any size; None for a network
        without that branch.

        Args:
            image: in [0, 1].
            equalized: their `retinex.equalize`.
        """
        if self.illumination is None:
            return None
        return self.illumination(thumbnail(image, equalized))

    def condition(
        self, low: Tensor, light: Light | None = None, illumination: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Conditions and color map of dark pictures.

        Args:
            low: (B, 6, H, W) from `preprocess.network_input`, H and W multiples of 8.
            light: of the whole pictures that `low` is part of. None: `low` is whole pictures, of
                which the network tells it. A network without that branch takes none.
            illumination: (B, 1, H, W), the part of `light.over(...)` that belongs to `low`. None:
                `low` is whole pictures.

        Raises:
            ValueError: the shapes don't belong together, or a network without an illumination
                branch gets a light.
        """
        if low.dim() != 4 or low.shape[1] != 6 or low.shape[2] % 8 or low.shape[3] % 8:
            raise ValueError(
                "LLFlow: expected the network's input as (B, 6, H, W) with H and W multiples of 8, "
                f"got {tuple(low.shape)}"
            )
        recompute = self.keep != "all"
        if self.illumination is None:
            if light is not None or illumination is not None:
                raise ValueError(
                    "LLFlow: expected no light for a network without an illumination branch; "
                    "condition(low) is all it takes"
                )
            features = encoder_features(low, self.config.color_map)
            return self.encoder(features, recompute=recompute)
        if light is None:
            light = self.illumination(thumbnail(retinex.from_log_low(low[:, :3]), low[:, 3:]))
            assert isinstance(light, Light)
        if illumination is None:
            illumination = light.over(*low.shape[2:])
        expected = (len(low), 1, *low.shape[2:])
        if illumination.shape != expected or light.mean.shape != expected[:1]:
            raise ValueError(
                f"LLFlow: expected the illumination as {expected}, got "
                f"{tuple(illumination.shape)} and the light of {len(light.mean)} pictures"
            )
        cond = self.encoder(low, illumination, recompute=recompute)
        return cond | {EXPOSURE: light.mean[:, None]}

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


def _authors(config: Config) -> Bijection:
    """Three levels of equal steps, each after two mixings."""
    if not config.steps:
        return Squeeze(8)
    how = Affine(SigmoidScale(floor=config.scale_floor))
    net, cond = partial(ConvNet, hidden=config.hidden), config.cond_channels
    return Chain(
        *(
            _level(key, channels, 2, config.steps, net, how, cond)
            for key, channels in LEVELS.items()
        )
    )


def _lean(config: LeanConfig) -> Bijection:
    """The picture at exposure 1, then three levels, each after one mixing."""
    exposed = At(EXPOSURE, Exposed())
    if not any(config.steps):
        return Chain(exposed, Squeeze(8))
    how = Affine(SigmoidScale(floor=config.scale_floor))
    conds = (2 * config.half, config.quarter, config.eighth)
    levels = zip(LEVELS.items(), config.steps, config.hidden, conds, strict=True)
    return Chain(
        exposed,
        *(
            _level(key, channels, 1, steps, partial(ConvNet, hidden=hidden), how, cond)
            for (key, channels), steps, hidden, cond in levels
        ),
    )


def _level(
    key: str, channels: int, mixings: int, steps: int, net: Net, how: Affine, cond: int
) -> Bijection:
    """Halve the resolution, mix the channels, then `steps` steps that see cond[key]."""
    mixing = [layer for _ in range(mixings) for layer in _mixing(channels)]
    coupled = [
        layer
        for _ in range(steps)
        for layer in (
            *_mixing(channels),
            Injector(channels, net, how, cond_channels=cond),
            Coupling(channels, net, how, cond_channels=cond),
        )
    ]
    return Chain(Squeeze(), Chain(*mixing), At(key, Chain(*coupled)))


def _mixing(channels: int) -> tuple[Bijection, Bijection]:
    return ActNorm(channels), InvertibleLinear(channels)
