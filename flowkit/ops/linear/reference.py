"""The definition of the linear map, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_map(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.dim() == 2:
        return F.linear(x, weight, bias)
    places = x.flatten(2)
    weight = weight.expand(x.shape[0], -1, -1)
    if bias is None:
        y = torch.bmm(weight, places)
    else:
        y = torch.baddbmm(bias[:, None].expand(x.shape[0], -1, places.shape[2]), weight, places)
    return y.reshape(x.shape)
