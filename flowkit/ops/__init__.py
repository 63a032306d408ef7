"""The hot paths as functions. Each op has a folder: `api` owns the meaning and the choice,
`reference` is the definition in plain PyTorch, `triton` holds the kernels, and `schema` is what
PyTorch knows of them: one opaque op, its shapes and its gradient."""

from flowkit.choice import Choice, Impl, implementation
from flowkit.ops.coupling.api import (
    affine_coupling,
    affine_coupling_choice,
    affine_coupling_inverse,
)
from flowkit.ops.coupling.scale import ExpScale, Scale, SigmoidScale, SoftplusScale
from flowkit.ops.linear.api import linear_map, linear_map_choice
from flowkit.ops.spline.api import (
    rational_quadratic,
    rational_quadratic_choice,
    rational_quadratic_inverse,
)
from flowkit.ops.spline.knots import Knots

__all__ = [
    "Choice",
    "ExpScale",
    "Impl",
    "Knots",
    "Scale",
    "SigmoidScale",
    "SoftplusScale",
    "affine_coupling",
    "affine_coupling_choice",
    "affine_coupling_inverse",
    "implementation",
    "linear_map",
    "linear_map_choice",
    "rational_quadratic",
    "rational_quadratic_choice",
    "rational_quadratic_inverse",
]
