"""Elementwise maps, one file each: how one number is mapped; its parameters come from outside."""

from flowkit.elementwise.additive import Additive
from flowkit.elementwise.affine import Affine
from flowkit.elementwise.mapping import Elementwise, apply, require_elementwise
from flowkit.elementwise.numerical import solve
from flowkit.elementwise.spline import RationalQuadraticSpline

__all__ = [
    "Additive",
    "Affine",
    "Elementwise",
    "RationalQuadraticSpline",
    "apply",
    "require_elementwise",
    "solve",
]
