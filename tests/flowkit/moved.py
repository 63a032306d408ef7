"""Layers and nets away from where they start, which mostly is the identity."""

import torch


def moved(module, by=0.3, seed=0):
    """The module with normal noise, `by` its deviation, on every parameter; the same noise in
    every precision."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(by * noise.to(parameter.dtype))
    return module
