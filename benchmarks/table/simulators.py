"""Six simulators whose posteriors are known: how parameters are drawn, and data given parameters.

Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv:2101.04653, appendix T.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Simulator:
    """One task.

    Attributes:
        prior: (count, P) parameters.
        data: (N, D) for parameters (N, P).
        bound: the prior is uniform on ±bound; None: it has no bounds.
        published: C2ST of neural posterior estimation by a neural spline flow of 10,000
            simulations, mean of ten observations (the paper's figure 1 and supplement).
    """

    prior: Callable[[int], Tensor]
    data: Callable[[Tensor], Tensor]
    bound: float | None
    published: float

    def supports(self, parameters: Tensor) -> Tensor:
        """(N,) whether the prior can have drawn these."""
        if self.bound is None:
            return torch.ones(len(parameters), dtype=torch.bool)
        return parameters.abs().amax(1) <= self.bound


def uniform(dims: int, bound: float) -> Callable[[int], Tensor]:
    return lambda count: bound * (2 * torch.rand(count, dims) - 1)


def two_moons(parameters: Tensor) -> Tensor:
    """T.8: a crescent around two functions of the parameters, one of which hides a sign."""
    count = len(parameters)
    angle, radius = math.pi * (torch.rand(count) - 0.5), 0.1 + 0.01 * torch.randn(count)
    first, second = parameters.T
    turned = torch.stack([-(first + second).abs(), second - first], dim=1) / math.sqrt(2)
    return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], dim=1) + turned


def gaussian_linear(parameters: Tensor) -> Tensor:
    """T.1 and T.2: variance 0.1 around the parameters."""
    return parameters + math.sqrt(0.1) * torch.randn_like(parameters)


def gaussian_mixture(parameters: Tensor) -> Tensor:
    """T.7: deviation 1 or, as often, 0.1 around the parameters."""
    wide = torch.rand(len(parameters), 1) < 0.5
    return parameters + torch.where(wide, 1.0, 0.1) * torch.randn_like(parameters)


def slcp(parameters: Tensor) -> Tensor:
    """T.3: four points of a normal distribution whose mean, deviations and correlation are simple
    functions of five parameters."""
    mean = parameters[:, None, :2]
    first, second = (parameters[:, 2:4] ** 2).T[..., None]
    correlation = parameters[:, 4:].tanh()
    noise = torch.randn(len(parameters), 4, 2)
    other = correlation * noise[..., 0] + (1 - correlation**2).sqrt() * noise[..., 1]
    points = torch.stack([first * noise[..., 0], second * other], dim=-1)
    return (mean + points).flatten(1)


def stimuli() -> Tensor:
    """(100, 10): a one, and white noise of the last nine moments, at each of 100 moments."""
    noise = np.random.RandomState(42).randn(100)
    columns = [np.ones(100)]
    columns += [np.concatenate([np.zeros(lag), noise[: 100 - lag]]) for lag in range(9)]
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


def bernoulli_glm(parameters: Tensor) -> Tensor:
    """T.5: spikes at 100 moments by a generalised linear model, summed up with the stimuli."""
    design = stimuli()
    return torch.bernoulli((parameters @ design.T).sigmoid()) @ design


def smooth(count: int) -> Tensor:
    """T.5: an offset of variance 2, and a filter whose second differences are small."""
    difference = torch.eye(9) - torch.eye(9).roll(1, 0).tril()
    factor = difference @ difference + (torch.arange(9) / 9).sqrt().diag()
    filters = torch.linalg.solve(factor, torch.randn(9, count)).T
    return torch.cat([math.sqrt(2) * torch.randn(count, 1), filters], dim=1)


def normal(count: int) -> Tensor:
    return math.sqrt(0.1) * torch.randn(count, 10)


SIMULATORS = {
    "two_moons": Simulator(uniform(2, 1.0), two_moons, 1.0, 0.606),
    "gaussian_linear": Simulator(normal, gaussian_linear, None, 0.552),
    "gaussian_linear_uniform": Simulator(uniform(10, 1.0), gaussian_linear, 1.0, 0.553),
    "gaussian_mixture": Simulator(uniform(2, 10.0), gaussian_mixture, 10.0, 0.615),
    "slcp": Simulator(uniform(5, 3.0), slcp, 3.0, 0.901),
    "bernoulli_glm": Simulator(smooth, bernoulli_glm, None, 0.678),
}
