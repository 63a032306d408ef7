"""Densities: a flow, what it starts from, and how it is set up."""

from flowkit.density.augmented import Augmented
from flowkit.density.base import StandardNormal, diagonal_normal
from flowkit.density.conditional import ConditionalNormal
from flowkit.density.denoising import denoise
from flowkit.density.dequantized import Dequantized
from flowkit.density.distributions import GivenFlow
from flowkit.density.flow import Flow
from flowkit.density.guidance import dropped, guided
from flowkit.density.initialization import broadcast, initialize
from flowkit.density.mixture import MixtureOfGaussians
from flowkit.density.summary import Summary
from flowkit.density.uniform import BoxUniform

__all__ = [
    "Augmented",
    "BoxUniform",
    "ConditionalNormal",
    "Dequantized",
    "Flow",
    "GivenFlow",
    "MixtureOfGaussians",
    "StandardNormal",
    "Summary",
    "broadcast",
    "denoise",
    "diagonal_normal",
    "dropped",
    "guided",
    "initialize",
]
