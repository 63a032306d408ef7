"""Per-channel mean and standard deviation of a batch that may be spread over processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def channel_mean_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (biased) of each channel of `x` (B, C, H, W), both (C,), float64.

    Under an initialised process group they are those of the whole batch, over all ranks, so every
    rank gets the same numbers, and the same as one process with the global batch would.
    """
    count = torch.tensor([x.numel() // x.shape[1]], dtype=torch.float64, device=x.device)
    total = x.double().sum(dim=(0, 2, 3))
    _sum_over_ranks(count, total)
    mean = total / count
    squares = (x.double() - mean[:, None, None]).square().sum(dim=(0, 2, 3))
    _sum_over_ranks(squares)
    return mean, (squares / count).sqrt()


def _sum_over_ranks(*tensors: Tensor) -> None:
    if dist.is_available() and dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)
