"""Conditioner networks: what turns one half and the condition into shift and scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.bijection import frozen, hooked
from flowkit.statistics import channel_mean_std


def init_scale_and_shift(x: Tensor) -> tuple[Tensor, Tensor]:
    """`(bias, log_scale)`, each (C,), such that (x + bias)·exp(log_scale) has mean 0 and standard
    deviation 1 in every channel of `x` (B, C, H, W). A channel that is constant over the batch says
    nothing about its scale and keeps 1. Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.1.
    """
    mean, std = channel_mean_std(x)
    return -mean, -torch.where(std > 1e-6, std, torch.ones_like(std)).log()


class ChannelNorm(nn.Module):
    """y = (x + bias)·exp(log_scale) per channel: ActNorm inside a net, where no log-det is owed.

    Unlike batch norm it is the same map for every batch, which an invertible layer needs of its
    net. `flowkit.initialize` sets it from data; before that it is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialize_from(self, x: Tensor) -> None:
        bias, log_scale = init_scale_and_shift(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]


class ZeroConv(nn.Module):
    """y = (w∗x + b)·exp(3·log_scale), a 3x3 convolution that starts at zero.

    Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039, §3.3; the learned output scale is from the code
    that they released.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.log_scale = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, padding=1)
        return y * (3 * self.log_scale).exp()[:, None, None]


class ConvNet(nn.Module):
    """conv 3x3 – norm – ReLU – conv 1x1 – norm – ReLU – zero conv 3x3: Glow's conditioner.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        hidden: channels between.

    Takes (B, c_in, H, W), gives (B, c_out, H, W). Kingma & Dhariwal, Glow, 2018, arXiv:1807.03039,
    with the norms of the code that they released.
    """

    def __init__(self, c_in: int, c_out: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, hidden, 3, padding=1, bias=False)
        self.first_norm = ChannelNorm(hidden)
        self.second = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.second_norm = ChannelNorm(hidden)
        self.last = ZeroConv(hidden, c_out)
        nn.init.normal_(self.first.weight, std=0.05)
        nn.init.normal_(self.second.weight, std=0.05)

    def share(self, cond: Tensor) -> Tensor | None:
        """What a condition in the last channels adds to the first convolution (B, hidden, H, W);
        None if that has been replaced, or has hooks, and can't be taken apart."""
        return _share(self, self.first, cond)

    def forward(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        """The net's output for `x`, or for `x` beside the condition whose `share` is given."""
        x = F.relu(self.first_norm(_first(self.first, x, share)))
        x = F.relu(self.second_norm(self.second(x)))
        return self.last(x)

    def fold(self) -> FoldedConvNet:
        """The same map, norms and output scale merged into the convolutions."""
        return FoldedConvNet(
            _folded(self.first, self.first_norm.bias, self.first_norm.log_scale),
            _folded(self.second, self.second_norm.bias, self.second_norm.log_scale),
            _folded(self.last, self.last.bias, 3 * self.last.log_scale),
        )


class FoldedConvNet(nn.Module):
    """conv 3x3 – ReLU – conv 1x1 – ReLU – conv 3x3: a `ConvNet` for inference."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, last: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second, self.last = first, second, last

    def share(self, cond: Tensor) -> Tensor | None:
        return _share(self, self.first, cond)

    def forward(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        return self.last(F.relu_(self.second(F.relu_(_first(self.first, x, share)))))


def _share(net: nn.Module, conv: nn.Conv2d, cond: Tensor) -> Tensor | None:
    if type(conv) is not nn.Conv2d or hooked(net, conv):
        return None
    return F.conv2d(cond, conv.weight[:, -cond.shape[1] :], conv.bias, padding=1)


def _first(conv: nn.Conv2d, x: Tensor, share: Tensor | None) -> Tensor:
    # A convolution of joined channels is the sum of each part's convolution.
    if share is None:
        return conv(x)
    return F.conv2d(x, conv.weight[:, : x.shape[1]], padding=1).add_(share)


def _folded(conv: nn.Conv2d | ZeroConv, shift: Tensor, log_scale: Tensor) -> nn.Conv2d:
    """x -> (w∗x + shift)·exp(log_scale) as one frozen convolution, worked out in float64."""
    weight, scale = conv.weight, log_scale.double().exp()
    c_out, c_in, size, _ = weight.shape
    folded = nn.utils.skip_init(nn.Conv2d, c_in, c_out, size, padding=size // 2)
    folded.weight.data = (weight.double() * scale[:, None, None, None]).to(weight.dtype).detach()
    folded.bias = nn.Parameter((shift.double() * scale).to(weight.dtype).detach())
    assert isinstance(folded, nn.Conv2d)
    return folded.requires_grad_(False)


def fold_net(net: nn.Module) -> nn.Module:
    """`net.fold()` where the net offers it, else a frozen copy."""
    fold = getattr(net, "fold", None)
    folded = fold() if callable(fold) else net
    assert isinstance(folded, nn.Module)
    return frozen(folded)
