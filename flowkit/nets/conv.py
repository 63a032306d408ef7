"""Convolutional conditioners for sequences and images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.conditions import Unchanged, everywhere
from flowkit.contract import HoldsCondition, repeated
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.zero import ChannelNorm, ZeroConv

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ConvNet(Conditioner):
    """conv 3 – norm – ReLU – conv 1 – norm – ReLU – zero conv 3: Glow's conditioner.

    The first convolution is a sum of two, one of x and one of the condition, so that the latter is
    done once for all samples of a condition.

    Args:
        c_in: input channels.
        c_out: output channels; the output is 0 until training moves the last layer.
        cond_channels: D of the condition, 0 for none.
        hidden: channels between.
        axes: 1 for sequences (B, C, T), 2 for images (B, C, H, W), 3 for volumes.

    Takes (B, c_in, *S) and a condition (B, D) or (B, D, *S), gives (B, c_out, *S). Kingma &
    Dhariwal, Glow, 2018, arXiv:1807.03039, with the norms of the code that they released.
    """

    def __init__(
        self, c_in: int, c_out: int, *, cond_channels: int = 0, hidden: int = 64, axes: int = 2
    ) -> None:
        super().__init__()
        if axes not in CONV:
            raise ValueError(f"ConvNet: expected axes among 1, 2, 3, got {axes} (vectors: MLP)")
        conv = CONV[axes]
        self.cond_channels = cond_channels
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

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if self.first_cond is None:
            return self.rest(self.first(x))
        assert cond is not None
        return self.rest(self.first(x) + self.first_cond(everywhere(cond, x)))

    def rest(self, x: Tensor) -> Tensor:
        """What follows the first convolution."""
        x = F.relu(self.first_norm(x))
        x = F.relu(self.second_norm(self.second(x)))
        return self.last(x)

    def given(self, cond: Tensor) -> nn.Module:
        # A vector has to be known together with the places that it is put beside.
        if type(self) is not ConvNet or cond.dim() == 2:
            return super().given(cond)
        return GivenConvNet(self, cond)

    def fold(self) -> nn.Module:
        """The same map, norms and output scale merged into the convolutions; a plain frozen copy
        where a part was replaced or has hooks."""
        if not _as_built(self):
            return super().fold()
        return FoldedConvNet(self)


class GivenConvNet(nn.Module, HoldsCondition):
    """A `ConvNet` (or a folded one) whose convolution of the condition is done."""

    def __init__(self, net: ConvNet | FoldedConvNet, cond: Tensor) -> None:
        super().__init__()
        assert net.first_cond is not None
        self.net = net
        self.share = net.first_cond(cond)
        self.cond_shape = tuple(cond.shape)
        self.unchanged = Unchanged(type(net).__name__, list(net.first_cond.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        self.unchanged.require()
        if self.share.shape[2:] != x.shape[2:]:
            expected = (*self.cond_shape[:2], *x.shape[2:])
            raise ValueError(
                f"{type(self.net).__name__}: expected a condition of shape {expected}, "
                f"got {self.cond_shape}"
            )
        share = repeated(self.net, self.share, x)
        assert isinstance(share, Tensor)
        return self.net.rest(self.net.first(x) + share)


class FoldedConvNet(Conditioner):
    """conv 3 – ReLU – conv 1 – ReLU – conv 3: a `ConvNet` for inference."""

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        self.cond_channels = net.cond_channels
        bias, log_scale = net.first_norm.bias, net.first_norm.log_scale
        self.first = _folded(net.first, bias, log_scale)
        self.first_cond = None
        if net.first_cond is not None:
            self.first_cond = _folded(net.first_cond, torch.zeros_like(bias), log_scale)
        self.second = _folded(net.second, net.second_norm.bias, net.second_norm.log_scale)
        self.last = _folded(net.last, net.last.bias, 3 * net.last.log_scale)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if self.first_cond is None:
            return self.rest(self.first(x))
        assert cond is not None
        return self.rest(self.first(x) + self.first_cond(everywhere(cond, x)))

    def rest(self, x: Tensor) -> Tensor:
        return self.last(F.relu_(self.second(F.relu_(x))))

    def given(self, cond: Tensor) -> nn.Module:
        return super().given(cond) if cond.dim() == 2 else GivenConvNet(self, cond)


def _as_built(net: ConvNet) -> bool:
    """Whether nothing in `net` was replaced, wrapped, hooked or reparametrised."""
    fresh = type(net) is ConvNet and not _hooked(net)
    conv = CONV.get(net.first.weight.dim() - 2)
    parts = {
        "first": (conv, 3),
        "second": (conv, 1),
        "last": (ZeroConv, 3),
        "first_norm": (ChannelNorm, None),
        "second_norm": (ChannelNorm, None),
    }
    if net.first_cond is not None:
        parts["first_cond"] = (conv, 3)
    for name, (kind, width) in parts.items():
        part = getattr(net, name)
        fresh = fresh and type(part) is kind and not _hooked(part)
        if fresh and kind is conv:
            fresh = (
                {*part.kernel_size} == {width}
                and {*part.padding} == {width // 2}
                and {*part.stride, *part.dilation, part.groups} == {1}
                and part.padding_mode == "zeros"
                and part.bias is None
            )
    return fresh and {name for name, _ in net.named_children()} == {*parts}


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        or "forward" in vars(module)
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
