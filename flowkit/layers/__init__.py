"""Invertible layers, one file each."""

from flowkit.layers.actnorm import ActNorm
from flowkit.layers.autoregressive import Autoregressive
from flowkit.layers.conv_exponential import ConvExponential
from flowkit.layers.coupling import Coupling
from flowkit.layers.fixed import Fixed
from flowkit.layers.flip import Flip
from flowkit.layers.folded import FoldedLinear
from flowkit.layers.given_injector import GivenInjector
from flowkit.layers.haar import Haar
from flowkit.layers.injector import Injector
from flowkit.layers.leaky_relu import LeakyReLU
from flowkit.layers.linear import InvertibleLinear
from flowkit.layers.loft import LOFT
from flowkit.layers.logit import Logit, Sigmoid
from flowkit.layers.masked_coupling import MaskedCoupling
from flowkit.layers.masks import Checkerboard, Mask, Stripes
from flowkit.layers.parameterized import Parameterized
from flowkit.layers.permute import Permute
from flowkit.layers.pointwise import Pointwise
from flowkit.layers.reshape import Flatten, Reshape
from flowkit.layers.residual import Residual
from flowkit.layers.russian_roulette import RussianRoulette
from flowkit.layers.softplus import Softplus
from flowkit.layers.squeeze import Squeeze
from flowkit.layers.standardize import Standardize
from flowkit.layers.tanh import Tanh
from flowkit.layers.token_autoregressive import TokenAutoregressive
from flowkit.layers.weights import PLU, Full, Orthogonal, Weight

__all__ = [
    "LOFT",
    "PLU",
    "ActNorm",
    "Autoregressive",
    "Checkerboard",
    "ConvExponential",
    "Coupling",
    "Fixed",
    "Flatten",
    "Flip",
    "FoldedLinear",
    "Full",
    "GivenInjector",
    "Haar",
    "Injector",
    "InvertibleLinear",
    "LeakyReLU",
    "Logit",
    "Mask",
    "MaskedCoupling",
    "Orthogonal",
    "Parameterized",
    "Permute",
    "Pointwise",
    "Reshape",
    "Residual",
    "RussianRoulette",
    "Sigmoid",
    "Softplus",
    "Squeeze",
    "Standardize",
    "Stripes",
    "Tanh",
    "TokenAutoregressive",
    "Weight",
]
