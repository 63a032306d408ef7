"""A dark and a bright picture to a latent and a likelihood, in tensors alone."""

from __future__ import annotations

import math

from torch import Tensor, nn

from llflow.export.whole import conditions, padded
from llflow.network.model import LLFlow


class Encoding(nn.Module):
    """Dark and bright picture (1, 3, H, W), both in [0, 1] -> z (1, 192, ⌈H/8⌉, ⌈W/8⌉),
    log|det dz/dx| (1,), and the bits per dimension (1,):

        bits = -(log N(z; color map, 1) + log|det dz/dx|) / (192·⌈H/8⌉·⌈W/8⌉·ln 2)

    x is the bright picture as it is, padded to multiples of 8 as the network's input is.

    Args:
        model: folded, on the CPU.

    Wang et al., AAAI 2022, eq. 3.
    """

    def __init__(self, model: LLFlow) -> None:
        super().__init__()
        self.model = model

    def forward(self, dark: Tensor, bright: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cond, _ = conditions(self.model, dark)
        z, logdet = self.model.flow.encode(padded(bright), cond)
        away = z - self.model.flow.base(cond).mean
        # Axis by axis: in one mean of millions of numbers the last ones are rounded away.
        square = away.square().mean(3).mean(2).mean(1)
        dimensions = z.shape[1] * z.shape[2] * z.shape[3]
        nats = (square + math.log(2 * math.pi)) / 2 - logdet / dimensions
        return z, logdet, nats / math.log(2)
