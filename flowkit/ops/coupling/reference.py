"""The definition of the affine coupling, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import sum_logdet
from flowkit.ops.coupling.scale import Scale, scale_and_log


def affine_coupling(x: Tensor, params: Tensor, scale_map: Scale) -> tuple[Tensor, Tensor]:
    kept, changed = _halves(x, params)
    shift, raw = params.chunk(2, dim=1)
    scale, log_scale = scale_and_log(scale_map, raw)
    return _joined(kept, (changed + shift) * scale), sum_logdet(log_scale)


def affine_coupling_inverse(y: Tensor, params: Tensor, scale_map: Scale) -> tuple[Tensor, Tensor]:
    kept, changed = _halves(y, params)
    shift, raw = params.chunk(2, dim=1)
    scale, log_scale = scale_and_log(scale_map, raw)
    # Summed before the rest, and that in place, where no gradient needs what was there: two tensors
    # less of a picture's size.
    logdet = -sum_logdet(log_scale)
    del log_scale
    return _joined(kept, (changed / scale).sub_(shift)), logdet


def _halves(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    changed = params.shape[1] // 2
    # One split in place of two slices: its gradient is joined, theirs are padded and added.
    kept, changed = x.split([x.shape[1] - changed, changed], dim=1)
    return kept, changed


def _joined(kept: Tensor, changed: Tensor) -> Tensor:
    return torch.cat([kept, changed], dim=1) if kept.shape[1] else changed
