"""How much a linear map or a convolution can stretch."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import wide
from flowkit.nets.zero import CONVOLUTION

DOUBLINGS = 2


def largest_stretch(weight: Tensor) -> Tensor:
    """An upper bound () of ‖w∗x‖/‖x‖ for a zero-padded convolution w (c_out, c_in, *width):

        ‖w‖ = ‖G₁‖^½ = ‖G₂‖^¼,  G₀ = w,  Gᵢ = Gᵢ₋₁ᵀ∗Gᵢ₋₁;  ‖G₂‖ ≤ Σ over its taps of each tap's norm

    for w without borders, which is never stretched less than with zeros around. The sum of a 3×3
    convolution's own taps is up to 9 times the stretch, that of G₂'s up to 81^¼ = 3 times; of
    random ones with 32 channels 2.8 and 1.3 times. For a matrix (c_out, c_in) it is the stretch
    itself.

    The same for every call, and never too small but for rounding, unlike a power iteration. That is
    float32's, under autocast too, or TF32's where convolutions run in it. Delattre et al.,
    Efficient bound of Lipschitz constant for convolutional layers by Gram iteration, 2023,
    arXiv:2305.16173, theorem 3, with zeros in place of a circle.
    """
    weight = wide(weight)
    if weight.dim() == 2:
        return torch.linalg.matrix_norm(weight, ord=2)
    # The bound is as many times larger as w is, so that no gradient is missing.
    size = weight.detach().abs().amax().clamp(min=torch.finfo(weight.dtype).tiny)
    power = weight / size
    with torch.autocast(weight.device.type, enabled=False):
        for _ in range(DOUBLINGS):
            axes, turned = power.shape[2:], power.transpose(0, 1)
            power = CONVOLUTION[len(axes)](turned, turned, padding=[width - 1 for width in axes])
    taps = torch.linalg.matrix_norm(power.flatten(2).movedim(-1, 0), ord=2).sum()
    # At w = 0 a root has no slope.
    return size * taps.clamp(min=torch.finfo(taps.dtype).tiny) ** 0.5**DOUBLINGS
