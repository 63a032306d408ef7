"""A net that brings points closer together: what a residual layer needs to be invertible."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from flowkit.contract import along_channels, exactly, frozen, require_at_least, require_real
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.places import layer, require_axes
from flowkit.nets.spectral import largest_stretch
from flowkit.nets.zero import CONVOLUTION


class LipSwish(nn.Module):
    """x·sigmoid(β·x)/1.1 with a learned β > 0 per channel; its slope is within ±1.

    Chen et al., Residual flows for invertible generative modeling, 2019, arXiv:1906.02735, §3.3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * (along_channels(F.softplus(self.raw), x) * x).sigmoid() / 1.1


class ContractiveLayer(nn.Module):
    """A linear layer or convolution w∗x + b, w = raw·min(1, stretch/‖raw‖), which stretches by no
    more than `stretch`; ‖·‖ is `largest_stretch`. With None for the stretch w is raw itself."""

    def __init__(self, c_in: int, c_out: int, axes: int, stretch: float | None) -> None:
        super().__init__()
        made = layer(axes, c_in, c_out)
        assert isinstance(made, nn.Linear | _ConvNd)
        self.raw, self.bias = made.weight, made.bias
        self.axes, self.stretch = axes, stretch

    def forward(self, x: Tensor) -> Tensor:
        padding = {"padding": 1} if self.axes else {}
        return CONVOLUTION[self.axes](x, self.weight(), self.bias, **padding)

    def weight(self) -> Tensor:
        if self.stretch is None:
            return self.raw
        return (self.raw / (largest_stretch(self.raw) / self.stretch).clamp(min=1)).to(self.raw)

    def extra_repr(self) -> str:
        c_out, c_in = self.raw.shape[:2]
        limit = "folded" if self.stretch is None else f"stretch={self.stretch:.4g}"
        return f"{c_in}, {c_out}, axes={self.axes}, {limit}"


class LipschitzNet(Conditioner):
    """g(x) with ‖g(x) - g(x')‖ ≤ lipschitz·‖x - x'‖: layers that stretch by no more than
    lipschitz^(1/(depth + 1)), and LipSwish between them. The condition may move g in any way.

    The bound holds exactly, not only in the limit of a power iteration, and costs singular values
    of every weight in each call; after `fold()` they are known.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: channels between.
        depth: number of the layers between, at least 1.
        axes: of S: 0 for vectors (linear layers), 1, 2 or 3 (convolutions of width 3).
        lipschitz: the bound, above 0.

    Takes (B, c_in, *S) and a condition (B, D) or (B, D, *S), gives (B, c_out, *S). Behrmann et al.,
    Invertible residual networks, 2019, arXiv:1811.00995, §2.1; Gouk et al., Regularisation of
    neural networks by enforcing Lipschitz continuity, 2018, arXiv:1804.04368, for convolutions.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        cond_channels: int = 0,
        hidden: int = 64,
        depth: int = 2,
        axes: int = 0,
        lipschitz: float = 0.9,
    ) -> None:
        super().__init__()
        require_axes(self, axes)
        require_at_least(self, "hidden", hidden, 1)
        require_at_least(self, "depth", depth, 1)
        require_real(self, lipschitz=lipschitz)
        if not lipschitz > 0:
            raise ValueError(f"LipschitzNet: expected lipschitz > 0, got {lipschitz}")
        self.cond_channels, self.axes = cond_channels, axes
        sizes = [c_in, *[hidden] * depth, c_out]
        stretch = lipschitz ** (1 / (depth + 1))
        self.layers = nn.ModuleList(
            ContractiveLayer(a, b, axes, stretch) for a, b in pairwise(sizes)
        )
        self.between = nn.ModuleList(LipSwish(hidden) for _ in range(depth))
        self.first_cond = None
        if cond_channels:
            self.first_cond = layer(axes, cond_channels, hidden, bias=False)
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.layers[0](x)
        if share is not None:
            x = x + share
        for between, after in zip(self.between, self.layers[1:], strict=True):
            x = after(between(x))
        return x

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """The same map as a frozen copy that knows its weights."""
        folded = frozen(self)
        for one in folded.layers:
            if exactly(one, ContractiveLayer):
                assert isinstance(one, ContractiveLayer)
                one.raw.copy_(one.weight())
                one.stretch = None
        return folded
