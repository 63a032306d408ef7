"""Densities of two numbers that are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

TAU = 2 * math.pi


@dataclass(frozen=True)
class Toy:
    """Draws (count, 2), and their log-density (N, 2) -> (N,) in nats."""

    draw: Callable[[int], Tensor]
    log_prob: Callable[[Tensor], Tensor]


def around(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def polar(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])


def log_mean(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).logsumexp(0) - math.log(len(terms))


def rings() -> Toy:
    """Three circles of deviation 0.08; a radius below 0 is 12 deviations away."""
    normals = [Normal(radius, 0.08) for radius in (1.0, 2.0, 3.0)]

    def draw(count: int) -> Tensor:
        radius = 1.0 + torch.randint(3, (count,)) + 0.08 * torch.randn(count)
        return around(radius, TAU * torch.rand(count))

    def log_prob(x: Tensor) -> Tensor:
        radius = x.norm(dim=1)
        return log_mean([n.log_prob(radius) for n in normals]) - (TAU * radius).log()

    return Toy(draw, log_prob)


def gaussians() -> Toy:
    """Eight normal distributions of deviation 0.2 on a circle of radius 3."""
    angles = TAU * torch.arange(8) / 8
    centres = around(torch.tensor(3.0), angles)

    def draw(count: int) -> Tensor:
        return centres[torch.randint(8, (count,))] + 0.2 * torch.randn(count, 2)

    def log_prob(x: Tensor) -> Tensor:
        return log_mean([Normal(c, 0.2).log_prob(x).sum(1) for c in centres.to(x)])

    return Toy(draw, log_prob)


def pinwheel() -> Toy:
    """Five arms: normal distributions around (2, 0) of deviations 0.7 and 0.15, each point turned
    by its arm and by its distance from 0, which changes no volume."""
    length, width = Normal(2.0, 0.7), Normal(0.0, 0.15)

    def turned(x: Tensor, arm: Tensor | float, sign: int) -> Tensor:
        radius, angle = polar(x)
        return around(radius, angle + sign * (TAU * arm / 5 + 0.8 * radius))

    def draw(count: int) -> Tensor:
        x = torch.stack([length.sample((count,)), width.sample((count,))], dim=1)
        return turned(x, torch.randint(5, (count,)), 1)

    def log_prob(x: Tensor) -> Tensor:
        terms = []
        for arm in range(5):
            along, across = turned(x, arm, -1).T
            terms.append(length.log_prob(along) + width.log_prob(across))
        return log_mean(terms)

    return Toy(draw, log_prob)


def checkerboard() -> Toy:
    """Uniform on the eight black fields of a board of 4 × 4 on ±4."""

    def draw(count: int) -> Tensor:
        column, row = torch.randint(4, (count,)), torch.randint(2, (count,))
        fields = torch.stack([column, 2 * row + column % 2], dim=1)
        return 2 * (fields + torch.rand(count, 2)) - 4

    def log_prob(x: Tensor) -> Tensor:
        column, row = ((x + 4) / 2).floor().T
        black = ((column + row) % 2 == 0) & (x.abs().amax(1) < 4)
        return torch.where(black, -math.log(32), -math.inf).to(x)

    return Toy(draw, log_prob)


def moons() -> Toy:
    """Two half circles of deviation 0.1, one upside down within the other."""
    normal = Normal(1.0, 0.1)

    def draw(count: int) -> Tensor:
        x = around(normal.sample((count,)), math.pi * torch.rand(count))
        return torch.where(torch.rand(count, 1) < 0.5, x, torch.tensor([1.0, 0.5]) - x)

    def half(x: Tensor) -> Tensor:
        radius, _ = polar(x)
        value = normal.log_prob(radius) - (math.pi * radius).log()
        return torch.where(x[:, 1] >= 0, value, -math.inf)

    def log_prob(x: Tensor) -> Tensor:
        return log_mean([half(x), half(torch.tensor([1.0, 0.5]).to(x) - x)])

    return Toy(draw, log_prob)


def spirals() -> Toy:
    """Two arms: at a uniform radius in 0.3 to 3, an angle of 2·radius of deviation 0.15."""

    def draw(count: int) -> Tensor:
        radius = 0.3 + 2.7 * torch.rand(count)
        angle = 2 * radius + math.pi * torch.randint(2, (count,)) + 0.15 * torch.randn(count)
        return around(radius, angle)

    def log_prob(x: Tensor) -> Tensor:
        radius, angle = polar(x)
        # An angle is one of many; those more than half a turn away are 20 deviations away.
        off = torch.remainder(angle - 2 * radius + math.pi / 2, math.pi) - math.pi / 2
        value = Normal(0.0, 0.15).log_prob(off) - math.log(2 * 2.7) - radius.log()
        return torch.where((radius >= 0.3) & (radius <= 3), value, -math.inf)

    return Toy(draw, log_prob)


TOYS = {toy.__name__: toy() for toy in (rings, gaussians, pinwheel, checkerboard, moons, spirals)}
