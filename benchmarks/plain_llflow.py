"""LLFlow as one would first write it: NCHW, nothing fused, folded or shared.

What `benchmarks/enhance.py` and `benchmarks/training_step.py` compare against. It loads the state
of `llflow.LLFlow` and gives the same pictures and likelihoods: dense blocks concatenate, every
normalisation is a pass of its own, and the 1x1 convolutions are inverted whenever they are needed.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llflow.network.model import LEVELS, Config, LLFlow
from llflow.picture.preprocess import encoder_features


class DenseBlock(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * 4 + [features]
        self.convs = nn.ModuleList(
            nn.Conv2d(features + index * growth, width, 3, padding=1)
            for index, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in self.convs[:4]:
            seen = torch.cat([seen, F.leaky_relu(conv(seen), 0.2, inplace=True)], dim=1)
        return x + 0.2 * self.convs[4](seen)


class ResidualBlocks(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * super().forward(x)


class Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        features = config.features
        self.taps = config.taps

        def conv(c_in: int) -> nn.Conv2d:
            return nn.Conv2d(c_in, features, 3, padding=1)

        self.conv_first, self.conv_second = conv(12), conv(features)
        self.trunk = nn.ModuleList(
            ResidualBlocks(*(DenseBlock(features, config.growth) for _ in range(3)))
            for _ in range(config.blocks)
        )
        self.trunk_conv = conv(features)
        self.down_quarter, self.down_eighth = conv(features), conv(features)
        self.color_head = nn.Conv2d(features, 3, 1)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        x = F.leaky_relu(self.conv_first(features), 0.2, inplace=True)
        head = x = F.max_pool2d(self.conv_second(x), 2)
        tapped = []
        for index, block in enumerate(self.trunk):
            x = block(x)
            if index in self.taps:
                tapped.append(x)
        half = head + self.trunk_conv(x)
        quarter = F.leaky_relu(self.down_quarter(F.avg_pool2d(half, 2)), 0.2, inplace=True)
        eighth = self.down_eighth(F.avg_pool2d(quarter, 2))
        taps = torch.cat(tapped, dim=1)
        colors = self.color_head(half).float().sigmoid()
        return {
            "half": torch.cat([half, taps], dim=1),
            "quarter": torch.cat([quarter, taps[..., ::2, ::2]], dim=1),
            "eighth": torch.cat([eighth, taps[..., ::4, ::4]], dim=1),
            "color_map": F.interpolate(colors, scale_factor=2),
        }


class Norm(nn.Module):
    """ActNorm, in the flow and inside the nets."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]

    def encode(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        return self(x), x.shape[2] * x.shape[3] * self.log_scale.sum()

    def decode(self, y: Tensor, cond: Tensor | None) -> Tensor:
        return y * (-self.log_scale).exp()[:, None, None] - self.bias[:, None, None]


class Mixing(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels))

    def encode(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        logdet = x.shape[2] * x.shape[3] * torch.linalg.slogdet(self.weight).logabsdet
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, self.weight[:, :, None, None]), logdet

    def decode(self, y: Tensor, cond: Tensor | None) -> Tensor:
        inverse = torch.linalg.inv(self.weight.double()).float()
        return F.conv2d(y, inverse[:, :, None, None])


class ZeroConv(nn.Conv2d):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)
        self.log_scale = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (3 * self.log_scale).exp()[:, None, None]


class Net(nn.Module):
    def __init__(self, c_in: int, c_out: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, hidden, 3, padding=1, bias=False)
        self.first_norm = Norm(hidden)
        self.second = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.second_norm = Norm(hidden)
        self.last = ZeroConv(hidden, c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first_norm(self.first(x)))
        return self.last(F.relu(self.second_norm(self.second(x))))


class Affine(nn.Module):
    """The injector (`kept` = 0) and the coupling: shift and scale of what isn't kept."""

    def __init__(self, channels: int, kept: int, config: Config) -> None:
        super().__init__()
        self.kept, self.floor = kept, config.scale_floor
        self.net = Net(kept + config.cond_channels, 2 * (channels - kept), config.hidden)

    def _shift_and_scale(self, kept: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        params = self.net(torch.cat([kept, cond], dim=1) if self.kept else cond).float()
        shift, raw = params.chunk(2, dim=1)
        return shift, torch.sigmoid(raw + 2) + self.floor

    def encode(self, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        kept, changed = x[:, : self.kept], x[:, self.kept :]
        shift, scale = self._shift_and_scale(kept, cond)
        logdet = scale.log().sum(dim=(1, 2, 3))
        return torch.cat([kept, (changed + shift) * scale], dim=1), logdet

    def decode(self, y: Tensor, cond: Tensor) -> Tensor:
        kept, changed = y[:, : self.kept], y[:, self.kept :]
        shift, scale = self._shift_and_scale(kept, cond)
        return torch.cat([kept, changed / scale - shift], dim=1)


class Level(nn.Module):
    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()

        def mixing() -> list[nn.Module]:
            return [Norm(channels), Mixing(channels)]

        def step() -> list[nn.Module]:
            affine = Affine(channels, 0, config), Affine(channels, channels // 2, config)
            return [*mixing(), *affine]

        self.mixing = nn.ModuleList(mixing() + mixing())
        self.steps = nn.ModuleList(layer for _ in range(config.steps) for layer in step())

    def encode(self, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        x = F.pixel_unshuffle(x, 2)
        total = x.new_zeros(x.shape[0])
        for layer in [*self.mixing, *self.steps]:
            x, logdet = layer.encode(x, cond)
            total = total + logdet
        return x, total

    def decode(self, y: Tensor, cond: Tensor) -> Tensor:
        for layer in reversed([*self.mixing, *self.steps]):
            y = layer.decode(y, cond)
        return F.pixel_shuffle(y, 2)


class PlainLLFlow(nn.Module):
    """The released network's kind of model: a color map prior, made at half the resolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if (config.prior, config.color_head, config.color_map) != ("color_map", "half", "sum"):
            raise ValueError(f"PlainLLFlow: expected the released network's kind, got {config}")
        self.encoder = Encoder(config)
        self.levels = nn.ModuleList(Level(channels, config) for channels in LEVELS.values())

    @classmethod
    def like(cls, model: LLFlow) -> Self:
        """The same network, with a copy of the weights."""
        plain = cls(model.config)
        state = {_own_name(name): tensor for name, tensor in model.state_dict().items()}
        for name in [name for name in state if "first_cond" in name]:
            joined = name.replace("first_cond", "first")
            state[joined] = torch.cat([state[joined], state.pop(name)], dim=1)
        plain.load_state_dict(state)
        return plain.to(next(model.parameters()).device)

    def enhance(self, low: Tensor) -> Tensor:
        """The bright picture (B, 3, H, W) of the prior's mean, unclipped."""
        cond = self.encoder(encoder_features(low))
        z = F.pixel_unshuffle(cond["color_map"], 8)
        for key, level in reversed(list(zip(LEVELS, self.levels, strict=True))):
            z = level.decode(z, cond[key])
        return z

    def nll(self, bright: Tensor, low: Tensor) -> Tensor:
        """Bits per pixel (B,), under the prior around the encoder's color map."""
        cond = self.encoder(encoder_features(low))
        z, total = bright, bright.new_zeros(bright.shape[0])
        for key, level in zip(LEVELS, self.levels, strict=True):
            z, logdet = level.encode(z, cond[key])
            total = total + logdet
        error = z - F.pixel_unshuffle(cond["color_map"], 8)
        log_prob = -0.5 * (error.square() + math.log(2 * math.pi)).sum(dim=(1, 2, 3))
        return -(log_prob + total) / (math.log(2) * bright.shape[2] * bright.shape[3])


def _own_name(name: str) -> str:
    for theirs, own in (
        ("flow.bijection.layers.", "levels."),
        (".layers.1.layers.", ".mixing."),
        (".layers.2.bijection.layers.", ".steps."),
        (".weight.entries", ".weight"),
    ):
        name = name.replace(theirs, own)
    return name
