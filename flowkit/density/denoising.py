"""Denoising by the score, which every flow has."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.conditions import mapped
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
        TypeError: σ is neither a number nor a tensor.
        ValueError: σ is negative or has another shape; or what `Flow.log_prob` refuses.

    Tweedie's formula: Efron, Tweedie's formula and selection bias, 2011; for flows, Zhai et al.,
    TarFlow, 2024, arXiv:2412.06329, §2.4.
    """
    require_channels("denoise", x)
    if not isinstance(sigma, Tensor):
        require_real("denoise", sigma=sigma)
    sigma = torch.as_tensor(sigma).detach()
    if not (sigma >= 0).all():
        raise ValueError(f"denoise: expected sigma >= 0, got {sigma.tolist()}")
    if not _broadcasts(sigma, x):
        raise ValueError(
            f"denoise: expected sigma as a number, or to broadcast to {tuple(x.shape)}, got "
            f"{tuple(sigma.shape)}"
        )
    # Samples drawn in inference mode take no gradients; copies do.
    with torch.inference_mode(False), torch.enable_grad():
        noisy = wide(x).detach().clone().requires_grad_()
        cond = mapped(cond, lambda entry: entry.clone() if entry.is_inference() else entry)
        (score,) = torch.autograd.grad(flow.log_prob(noisy, cond).sum(), noisy)
    return noisy.detach() + sigma.to(score) ** 2 * score


def _broadcasts(value: Tensor, x: Tensor) -> bool:
    pairs = zip(reversed(value.shape), reversed(x.shape), strict=False)
    return value.dim() <= x.dim() and all(size in (1, other) for size, other in pairs)
