"""FrEIA's flow: it has no splines, so affine couplings with random rotations, twice as many; and
the same blocks as Glow."""

from __future__ import annotations

import density
import FrEIA.framework
import FrEIA.modules
import numpy as np
import torch
from density import Density
from torch import Tensor, nn


def spline(dims: int, cond: int) -> Density:
    def net(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(c_in, density.HIDDEN),
            nn.ReLU(),
            nn.Linear(density.HIDDEN, density.HIDDEN),
            nn.ReLU(),
            nn.Linear(density.HIDDEN, c_out),
        )

    _seeded()
    flow = FrEIA.framework.SequenceINN(dims)
    for _ in range(2 * density.STEPS):
        given = {"cond": 0, "cond_shape": (cond,)} if cond else {}
        flow.append(
            FrEIA.modules.AllInOneBlock, subnet_constructor=net, permute_soft=dims > 1, **given
        )

    def log_prob(x: Tensor, cond: Tensor | None) -> Tensor:
        z, logdet = flow(x, c=None if cond is None else [cond])
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + logdet

    def sample(cond: Tensor | None, count: int) -> Tensor:
        given = None if cond is None else [cond.expand(count, -1)]
        return flow(torch.randn(count, dims), c=given, rev=True)[0]

    return Density(flow, log_prob, sample)


def _seeded() -> None:
    """FrEIA draws its permutations by numpy, which `torch.manual_seed` leaves alone."""
    np.random.seed(torch.initial_seed() % 2**32)


class Scales(nn.Module):
    """Levels of blocks; half of the channels are done with after each."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.levels, self.sizes = nn.ModuleList(), []
        for _ in range(density.LEVELS):
            level = FrEIA.framework.SequenceINN(channels, height, width)
            level.append(FrEIA.modules.IRevNetDownsampling)
            for _ in range(density.GLOW_STEPS):
                level.append(
                    FrEIA.modules.AllInOneBlock,
                    subnet_constructor=density.glow_net,
                    permute_soft=True,
                )
            self.levels.append(level)
            self.sizes.append((4 * channels, height // 2, width // 2))
            channels, height, width = 2 * channels, height // 2, width // 2

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        total, left = 0.0, x
        for number, level in enumerate(self.levels):
            left, logdet = level(left)
            total = total + logdet
            if number < len(self.levels) - 1:
                left, done = left.chunk(2, dim=1)
                total = total + _normal(done)
        return total + _normal(left)

    def sample(self, count: int) -> Tensor:
        left = None
        for level, size in reversed(list(zip(self.levels, self.sizes, strict=True))):
            z = torch.randn(count, *size)
            if left is not None:
                z = torch.cat([left, z[:, size[0] // 2 :]], dim=1)
            left = level(z, rev=True)[0]
        assert left is not None
        return left


def _normal(z: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)


def glow(shape: tuple[int, int, int]) -> Density:
    _seeded()
    flow = Scales(shape)
    return Density(flow, flow.log_prob, lambda cond, count: flow.sample(count))
