"""Where the likelihood would change most: the gradient activation map."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit import Flow, Reversible
from llflow.distribution.given import picture_of, prepared, require_model
from llflow.network.model import LLFlow
from llflow.picture import preprocess
from llflow.picture.inputs import Input
from llflow.picture.preprocess import MULTIPLE
from llflow.picture.tiles import tiles

SIDE = 512


def gradient_norm(model: LLFlow, dark: Input, result: Input, *, side: int = SIDE) -> Tensor:
    """‖∂L/∂x‖₂ over RGB, (H, W), of L = -log₂ p(x | dark) in bits of the whole picture x.

    Args:
        model: on the device to compute on; its own color map is the prior's mean.
        dark: what `llflow.enhance` takes.
        result: x, likewise, of the same size.
        side: larger pictures are computed in tiles of at most this side, which overlap by twice
            what the network sees: so far does a pixel's gradient depend on others.

    Raises:
        ValueError, TypeError: an argument is of another kind, or sizes differ.
        ArithmeticError: the gradient isn't finite.
        PictureError, OSError: a file can't be read.
    """
    require_model("explain", model)
    shown, picture = picture_of("explain", dark), picture_of("explain", result)
    if picture.shape != shown.shape:
        raise ValueError(
            f"explain: expected a result of the dark picture's size {shown.shape[2]}×"
            f"{shown.shape[1]}, got {picture.shape[2]}×{picture.shape[1]}"
        )
    given = prepared(model, shown)
    flow = Flow(Reversible(model.flow.bijection, keep="inputs"), model.flow.base)
    padded = preprocess.pad(picture)
    height, width = padded.shape[1:]
    norm = torch.zeros(height, width)
    for part in tiles(height, width, side, 2 * model.config.reach):
        with torch.no_grad():
            cond = given.condition(model, part.outer)
        x = padded[(..., *part.outer)][None].to(given.low).requires_grad_()
        with torch.enable_grad():
            bits = -flow.log_prob(x, cond).sum() / math.log(2)
            (gradient,) = torch.autograd.grad(bits, x)
        norm[part.place] = gradient[0].norm(dim=0)[part.inner].cpu()
    norm = preprocess.crop(norm, *shown.shape[1:])
    if not norm.isfinite().all():
        raise ArithmeticError("the likelihood's gradient isn't finite")
    return norm


def without_grid(norm: Tensor) -> Tensor:
    """The mean over 8×8 pixels around each: the flow squeezes squares of that size into channels,
    each with a gain of its own, and every such mean has each of these gains once."""
    padded = F.pad(norm[None, None], (3, 4, 3, 4), "replicate")
    return F.avg_pool2d(padded, MULTIPLE, 1)[0, 0]


def equalized_map(norm: Tensor) -> Tensor:
    """h(g): the share of pixels whose value is at most this one's, in (0, 1].

    Histogram equalisation with a level for every value: norms span orders of magnitude, and 256
    equal steps would put most pixels into the first.
    """
    values = norm.flatten()
    ranks = torch.searchsorted(values.sort().values, values, right=True)
    return (ranks / len(values)).reshape(norm.shape)


def explain(model: LLFlow, dark: Input, result: Input, *, side: int = SIDE) -> Tensor:
    """The gradient activation map G = h(‖∂L/∂x‖₂) of a result, (H, W) in (0, 1]: eq. 10.

    1 is where a change of the result would change its likelihood most. The norm is averaged over
    8×8 pixels first. Arguments and errors are those of `gradient_norm`.

    Wang et al., AAAI 2022, eq. 10 and Fig. 8.
    """
    return equalized_map(without_grid(gradient_norm(model, dark, result, side=side)))
