"""Elementwise maps, one file each: how one number is mapped; its parameters come from outside."""

from flowkit.elementwise.additive import Additive
from flowkit.elementwise.affine import Affine
from flowkit.elementwise.bernstein import Bernstein
from flowkit.elementwise.bounded_spline import BoundedSpline
from flowkit.elementwise.circular_spline import CircularSpline
from flowkit.elementwise.cubic_rational import CubicRational
from flowkit.elementwise.deep_sigmoid import DeepSigmoid
from flowkit.elementwise.logistic_mixture import LogisticMixture
from flowkit.elementwise.mapping import Elementwise, apply, require_elementwise
from flowkit.elementwise.numerical import solve
from flowkit.elementwise.sinh_arcsinh import SinhArcsinh
from flowkit.elementwise.spline import RationalQuadraticSpline

__all__ = [
    "Additive",
    "Affine",
    "Bernstein",
    "BoundedSpline",
    "CircularSpline",
    "CubicRational",
    "DeepSigmoid",
    "Elementwise",
    "LogisticMixture",
    "RationalQuadraticSpline",
    "SinhArcsinh",
    "apply",
    "require_elementwise",
    "solve",
]
