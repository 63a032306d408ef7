"""The hot paths as functions. Each op has a folder: the public function, its plain PyTorch
reference (the definition), and one file for every faster implementation."""

from flowkit.ops.affine_coupling import (
    ExpScale,
    SigmoidScale,
    affine_coupling,
    affine_coupling_choice,
    affine_coupling_inverse,
)
from flowkit.ops.conv1x1 import conv1x1, conv1x1_choice
from flowkit.ops.implementation import Choice, implementation

__all__ = [
    "Choice",
    "ExpScale",
    "SigmoidScale",
    "affine_coupling",
    "affine_coupling_choice",
    "affine_coupling_inverse",
    "conv1x1",
    "conv1x1_choice",
    "implementation",
]
