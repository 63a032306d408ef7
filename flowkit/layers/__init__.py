"""Invertible layers, one file each."""

from flowkit.layers.actnorm import ActNorm
from flowkit.layers.affine_coupling import AffineCoupling
from flowkit.layers.affine_injector import AffineInjector
from flowkit.layers.invconv1x1 import FoldedConv1x1, InvConv1x1
from flowkit.layers.permute import Permute
from flowkit.layers.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "AffineInjector",
    "FoldedConv1x1",
    "InvConv1x1",
    "Permute",
    "Squeeze",
]
