"""Densities: a flow, what it starts from, and how it is set up."""

from flowkit.density.base import StandardNormal, diagonal_normal
from flowkit.density.distributions import GivenFlow
from flowkit.density.flow import Flow
from flowkit.density.initialization import broadcast, initialize

__all__ = ["Flow", "GivenFlow", "StandardNormal", "broadcast", "diagonal_normal", "initialize"]
