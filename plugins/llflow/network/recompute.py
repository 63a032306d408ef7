"""A block of a network whose activations training computes again instead of keeping."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def through(block: nn.Module, x: Tensor, *, recompute: bool) -> Tensor:
    """block(x); with `recompute`, of what training needs only x is kept."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)
