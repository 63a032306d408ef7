"""The definition of the 1x1 convolution, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    pixels = x.flatten(2)
    weight = weight.expand(x.shape[0], -1, -1)
    if bias is None:
        y = torch.bmm(weight, pixels)
    else:
        y = torch.baddbmm(bias[:, None].expand(x.shape[0], -1, pixels.shape[2]), weight, pixels)
    return y.unflatten(2, x.shape[2:])
