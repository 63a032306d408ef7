"""Densities integrate to one."""

from __future__ import annotations

import math
from unittest import SkipTest

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from flowkit.contract import Cond, Example
from flowkit.testing.draws import Draw
from flowkit.testing.subject import Subject, each, subject_of
from flowkit.testing.tolerances import QUADRATURE

POINTS = 2**18
FAR = 6.5  # standard deviations


def check_density(example: Example) -> None:
    """A standard normal on the noise side makes a density on the data side that integrates to one:
    no number is reached twice, and none is left out.

    Raises:
        unittest.SkipTest: a sample has more than two numbers, too many for quadrature.
    """
    if len(example.shape) != 1 or example.shape[0] > 2:
        raise SkipTest("by quadrature, and so for vectors of one or two channels only")
    for seed in range(2):
        subject = subject_of(example, Draw(batch=1, seed=seed))
        with torch.no_grad():
            mass = _mass(example, subject)
        if not abs(mass - 1) < max(QUADRATURE, example.tolerance):
            raise AssertionError(
                f"{subject.who}: expected a density that integrates to 1, got {mass:.4g}"
                f"{_meaning(mass)}"
            )


def _mass(example: Example, subject: Subject) -> float:
    """∫ p(x) dx over u, where x = T(u) is in the domain, y = S(v) in the codomain, v normal."""
    channels = example.shape[0]
    there, back = subject.sides
    domain, codomain = _onto(example.domain), _onto(example.codomain)
    axis = torch.linspace(-FAR, FAR, 101, dtype=torch.float64)
    noise = torch.cartesian_prod(*[axis] * channels).reshape(-1, channels)
    seen = back(codomain(noise), _many(subject.cond, len(noise)))[0]
    reached = domain.inv(seen[seen.isfinite().all(1)])
    low, high = reached.amin(0), reached.amax(0)
    sobol = torch.quasirandom.SobolEngine(channels).draw(POINTS, dtype=torch.float64)
    u = low + (high - low) * sobol
    x = domain(u)
    y, logdet = there(x, _many(subject.cond, len(u)))
    v = codomain.inv(y)
    log_density = (
        -(v.square() / 2 + math.log(2 * math.pi) / 2).sum(1)
        - _slope(codomain, v, y)
        + logdet
        + _slope(domain, u, x)
    )
    return (log_density.exp().nan_to_num(0, 0, 0).mean() * (high - low).prod()).item()


def _onto(constraint: object):
    return biject_to(constraints.real if constraint is None else constraint)


def _slope(transform, u: Tensor, x: Tensor) -> Tensor:
    slope = transform.log_abs_det_jacobian(u, x)
    return slope if slope.dim() == 1 else slope.sum(1)


def _many(cond: Cond, count: int) -> Cond:
    return each(cond, lambda entry: entry.expand(count, *entry.shape[1:]))


def _meaning(mass: float) -> str:
    if mass > 1.5:
        return " (are some numbers reached from several?)"
    return " (is a part of the noise never reached?)" if mass < 1 else ""
