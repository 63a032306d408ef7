"""Per-channel mean and standard deviation of a batch that may be spread over processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from flowkit.contract import along_channels, wide_dtype


def channel_mean_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (biased) of each channel of x (B, C, *S), both (C,), float64.

    Under an initialised process group they are those of the whole batch, over all ranks, so every
    rank gets the same numbers, and the same as one process with the global batch would.
    """
    others = [axis for axis in range(x.dim()) if axis != 1]
    count = torch.tensor([x.numel() // x.shape[1]], dtype=torch.float64, device=x.device)
    total = x.double().sum(others)
    _sum_over_ranks(count, total)
    mean = total / count
    squares = (x.double() - along_channels(mean, x)).square().sum(others)
    _sum_over_ranks(squares)
    return mean, (squares / count).sqrt()


def normalizing(x: Tensor) -> tuple[Tensor, Tensor]:
    """`(bias, log_scale)`, each (C,), such that (x + bias)·exp(log_scale) has mean 0 and standard
    deviation 1 in every channel of x (B, C, *S). A channel that is constant over the batch, but for
    rounding, says nothing about its scale and keeps 1. Kingma & Dhariwal, Glow, 2018,
    arXiv:1807.03039, §3.1.
    """
    mean, std = channel_mean_std(x)
    rounding = 8 * torch.finfo(wide_dtype(x)).eps * mean.abs()
    constant = std <= rounding.clamp(min=1e-12)
    return -mean, -torch.where(constant, torch.ones_like(std), std).log()


def scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x·scale + shift, each (C,), for every channel of x (B, C, *S)."""
    # Batch norm in evaluation is this map, and one kernel has all its gradients.
    mean, variance = torch.zeros_like(scale), torch.ones_like(scale)
    return F.batch_norm(x, mean, variance, scale, shift, eps=0.0)


def _sum_over_ranks(*tensors: Tensor) -> None:
    if dist.is_available() and dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)
