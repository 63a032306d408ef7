"""flowkit: invertible layers with exact log-determinants, and conditional flows made of them."""

from flowkit.bijection import Bijection, Cond, Example, Prepared
from flowkit.combine import At, Chain, Inverse, OnChannels
from flowkit.flow import Flow, image_normal
from flowkit.initialize import broadcast, initialize
from flowkit.layers import (
    ActNorm,
    AffineCoupling,
    AffineInjector,
    FoldedConv1x1,
    InvConv1x1,
    Permute,
    Squeeze,
)
from flowkit.nets import ConvNet
from flowkit.ops import ExpScale, SigmoidScale
from flowkit.reversible import Drifted, Reversible

__version__ = "0.1.0"

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "AffineInjector",
    "At",
    "Bijection",
    "Chain",
    "Cond",
    "ConvNet",
    "Drifted",
    "Example",
    "ExpScale",
    "Flow",
    "FoldedConv1x1",
    "InvConv1x1",
    "Inverse",
    "OnChannels",
    "Permute",
    "Prepared",
    "Reversible",
    "SigmoidScale",
    "Squeeze",
    "broadcast",
    "image_normal",
    "initialize",
]
