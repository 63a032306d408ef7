"""Logit: numbers of an interval onto all numbers, and Sigmoid, the other way round."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from flowkit.contract import Example, require_real
from flowkit.layers.fixed import Fixed


class Logit(Fixed):
    """y = logit(α + (1 - 2α)·x),  log dy/dx = log(1 - 2α) - log σ(y) - log σ(-y).

    The first layer of a flow for pictures with x in [0, 1], which goes to [logit α, logit(1 - α)].
    Beyond that, any y has an x, so that samples of a flow may leave [0, 1], by α/(1 - 2α) at most.
    With α = 0 it is the logit on (0, 1) itself, and 0 and 1 are refused.

    Args:
        alpha: α, in [0, 0.5).

    Raises:
        ValueError: alpha isn't as above; or, on use, x isn't within α/(1 - 2α) of (0, 1), see
            `Fixed`.

    Dinh et al., Real NVP, 2017, arXiv:1605.08803, §4.1; so written in Papamakarios et al., Masked
    autoregressive flow, 2017, arXiv:1705.07057, §4.2.

    >>> import torch
    >>> Logit(0.05)(torch.tensor([[0.0, 0.5, 1.0]]))[0][0, 1]
    tensor(0.)
    """

    advice = "divide pictures of whole numbers first; alpha > 0 takes 0 and 1"

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        require_real(self, alpha=alpha)
        if not 0 <= alpha < 0.5:
            raise ValueError(f"Logit: expected 0 <= alpha < 0.5, got {alpha}")
        self.alpha = alpha
        margin = alpha / (1 - 2 * alpha)
        self.domain = (0 - margin, 1 + margin)

    def value(self, x: Tensor) -> Tensor:
        low, high = self.domain
        # The logit's two arguments but for 1 - 2α; as differences of x they can't round below 0.
        return (x - low).log() - (high - x).log()

    def value_back(self, y: Tensor) -> Tensor:
        low, high = self.domain
        return low + (high - low) * torch.sigmoid(y)

    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        return math.log(1 - 2 * self.alpha) - F.logsigmoid(y) - F.logsigmoid(-y)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"

    @classmethod
    def examples(cls) -> list[Example]:
        layer, unit = cls(), constraints.unit_interval
        whole = constraints.interval(*layer.domain)
        return [
            Example(cls, (2, 2, 3), domain=whole, name="images"),
            Example(cls, (2,), domain=whole, name="vectors"),
            Example(lambda: cls(0.0), (2, 3), domain=unit, name="alpha 0"),
        ]


class Sigmoid(Fixed):
    """y = 1 / (1 + e⁻ˣ), in (0, 1);  log dy/dx = log σ(x) + log σ(-x).

    Raises (on use, by the inverse):
        ValueError: y isn't in (0, 1), see `Fixed`. 0 and 1 themselves are what a large x rounds to;
            `Logit(alpha)` is for data that has them.
    """

    codomain = (0.0, 1.0)
    advice = "large x round to the ends; Logit(alpha) takes data that has them"

    def value(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def value_back(self, y: Tensor) -> Tensor:
        return torch.logit(y)

    def log_slope(self, x: Tensor, y: Tensor) -> Tensor:
        return F.logsigmoid(x) + F.logsigmoid(-x)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls, (2,), codomain=constraints.unit_interval, name="vectors"),
            Example(cls, (1, 2, 3), codomain=constraints.unit_interval, name="images"),
        ]
