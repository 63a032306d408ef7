"""Denoising by the score, which every flow has."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import Cond, require_channels, require_real, wide
from flowkit.density.flow import Flow


def denoise(flow: Flow, x: Tensor, sigma: float | Tensor, cond: Cond = None) -> Tensor:
    """E[clean | x] = x + σ²·∇ₓ log p(x | cond), for a flow trained on data plus normal noise of
    standard deviation σ.

    Noise makes training of a deep flow stable, and its samples noisy; this takes it out again.

    Args:
        flow: of the noisy data.
        x: noisy samples (B, C, *S), such as the flow's own.
        sigma: σ, a number or a tensor that broadcasts to x.
        cond: the condition of these samples.

    Returns:
        (B, C, *S), without records of gradients.

    Raises:
        ValueError: σ is a negative number; or what `Flow.log_prob` refuses.

    Tweedie's formula: Efron, Tweedie's formula and selection bias, 2011; for flows, Zhai et al.,
    TarFlow, 2024, arXiv:2412.06329, §2.4.
    """
    require_channels("denoise", x)
    if not isinstance(sigma, Tensor):
        require_real("denoise", sigma=sigma)
        if not sigma >= 0:
            raise ValueError(f"denoise: expected sigma >= 0, got {sigma}")
    with torch.enable_grad():
        noisy = wide(x).detach().requires_grad_()
        (score,) = torch.autograd.grad(flow.log_prob(noisy, cond).sum(), noisy)
    return noisy.detach() + sigma**2 * score
