"""The definition of the affine coupling, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.ops.affine_coupling.scale import Scale


def affine_coupling(x: Tensor, params: Tensor, scale_map: Scale) -> tuple[Tensor, Tensor]:
    kept, changed = _halves(x, params)
    shift, raw = params.chunk(2, dim=1)
    scale, log_scale = scale_map(raw)
    return torch.cat([kept, (changed + shift) * scale], dim=1), log_scale.sum(dim=(1, 2, 3))


def affine_coupling_inverse(y: Tensor, params: Tensor, scale_map: Scale) -> tuple[Tensor, Tensor]:
    kept, changed = _halves(y, params)
    shift, raw = params.chunk(2, dim=1)
    scale, log_scale = scale_map(raw)
    return torch.cat([kept, changed / scale - shift], dim=1), -log_scale.sum(dim=(1, 2, 3))


def _halves(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    changed = params.shape[1] // 2
    return x[:, : x.shape[1] - changed], x[:, x.shape[1] - changed :]
