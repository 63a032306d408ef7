"""Convolutional conditioners for sequences and images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import exactly, require_at_least
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.zero import ChannelNorm, ZeroConv

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ConvNet(Conditioner):
    """conv 3 – norm – ReLU – conv 1 – norm – ReLU – zero conv 3: Glow's conditioner.

    The first convolution is a sum of two, one of x and one of the condition, so that the latter is
    done once for all samples of a condition. Where each sample has its own, as in training, one of
    both is faster and takes more memory: `lambda c_in, c_out: ConvNet(c_in, c_out)` as the factory.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: channels between.
        axes: 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3 for volumes.

    Takes (B, c_in, *S) and a condition (B, D) or (B, D, *S), gives (B, c_out, *S). Kingma &
    Dhariwal, Glow, 2018, arXiv:1807.03039, with the norms of the code that they released.

    >>> import torch
    >>> ConvNet(4, 6)(torch.rand(2, 4, 8, 8)).shape
    torch.Size([2, 6, 8, 8])
    >>> ConvNet(4, 6, axes=1)(torch.rand(2, 4, 8)).shape
    torch.Size([2, 6, 8])
    """

    def __init__(
        self, c_in: int, c_out: int, *, cond_channels: int = 0, hidden: int = 64, axes: int = 2
    ) -> None:
        super().__init__()
        if axes not in CONV:
            raise ValueError(f"ConvNet: expected axes among 1, 2, 3, got {axes} (vectors: MLP)")
        require_at_least(self, "hidden", hidden, 1)
        conv = CONV[axes]
        self.cond_channels, self.axes = cond_channels, axes
        self.first = conv(c_in, hidden, 3, padding=1, bias=False)
        self.first_cond = (
            conv(cond_channels, hidden, 3, padding=1, bias=False) if cond_channels else None
        )
        self.first_norm = ChannelNorm(hidden)
        self.second = conv(hidden, hidden, 1, bias=False)
        self.second_norm = ChannelNorm(hidden)
        self.last = ZeroConv(hidden, c_out, axes=axes)
        for layer in (self.first, self.first_cond, self.second):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.05)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.first(x) if share is None else self.first(x) + share
        x = F.relu(self.first_norm(x))
        x = F.relu(self.second_norm(self.second(x)))
        return self.last(x)

    def fold(self) -> nn.Module:
        """The same map, norms and output scale merged into the convolutions; a plain frozen copy
        where a part isn't the one that was built."""
        return FoldedConvNet(self) if _as_built(self) else super().fold()


class FoldedConvNet(Conditioner):
    """conv 3 – ReLU – conv 1 – ReLU – conv 3: a `ConvNet` for inference."""

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        self.cond_channels, self.axes = net.cond_channels, net.axes
        bias, log_scale = net.first_norm.bias, net.first_norm.log_scale
        self.first = _folded(net.first, bias, log_scale)
        self.first_cond = None
        if net.first_cond is not None:
            self.first_cond = _folded(net.first_cond, torch.zeros_like(bias), log_scale)
        self.second = _folded(net.second, net.second_norm.bias, net.second_norm.log_scale)
        self.last = _folded(net.last, net.last.bias, 3 * net.last.log_scale)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        x = self.first(x)
        if share is not None:
            # In place: at a picture's size another tensor of all hidden channels costs page faults.
            # (Not under vmap, where the share alone may have more axes.)
            x = x + share if torch._C._are_functorch_transforms_active() else x.add_(share)
        return self.last(F.relu_(self.second(F.relu_(x))))


def _as_built(net: ConvNet) -> bool:
    """Whether every part of `net` is the one that its `__init__` made."""
    convolutions = [(net.first, 3), (net.second, 1)]
    if net.first_cond is not None:
        convolutions.append((net.first_cond, 3))
    parts = [part for part, _ in convolutions] + [net.first_norm, net.second_norm, net.last]
    return (
        exactly(net, ConvNet)
        and {*map(id, net.children())} == {*map(id, parts)}
        and all(exactly(norm, ChannelNorm) for norm in (net.first_norm, net.second_norm))
        and exactly(net.last, ZeroConv)
        and all(_plain(conv, CONV[net.last.axes], width) for conv, width in convolutions)
    )


def _plain(conv: nn.Module, kind: type[nn.Module], width: int) -> bool:
    """Whether `conv` is a convolution of this width that keeps the places, without a bias."""
    return (
        exactly(conv, kind)
        and {*conv.kernel_size} == {width}  # pyright: ignore
        and {*conv.padding} == {width // 2}  # pyright: ignore
        and {*conv.stride, *conv.dilation, conv.groups} == {1}  # pyright: ignore
        and conv.padding_mode == "zeros"
        and conv.bias is None
    )


def _folded(conv: nn.Module, shift: Tensor, log_scale: Tensor) -> nn.Module:
    """x -> (w∗x + shift)·exp(log_scale) as one frozen convolution, worked out in float64."""
    weight, scale = conv.weight, log_scale.double().exp()
    assert isinstance(weight, Tensor)
    c_out, c_in, *sizes = weight.shape
    kind = CONV[len(sizes)]
    folded = nn.utils.skip_init(kind, c_in, c_out, sizes[0], padding=sizes[0] // 2)
    shaped = scale.reshape(-1, *[1] * (weight.dim() - 1))
    folded.weight = nn.Parameter((weight.double() * shaped).to(weight.dtype).detach())
    folded.bias = nn.Parameter((shift.double() * scale).to(weight.dtype).detach())
    return folded.requires_grad_(False)
