"""Residual: x plus a map that stretches by less than 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from flowkit.conditions import require_cond
from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    exactly,
    frozen,
    repeated,
    require_at_least,
    require_channels,
    require_real,
    require_shape,
    wide,
)
from flowkit.layers.exact_logdet import exact_logdet
from flowkit.layers.russian_roulette import RussianRoulette
from flowkit.nets import LipschitzNet
from flowkit.nets.conditioner import Net, ask, build, fold, given


class Residual(Bijection):
    """y = x + g(x, cond) with ‖g(x) - g(x')‖ ≤ lipschitz·‖x - x'‖,  log|det| = log|det(1 + J_g)|.

    The inverse is the fixed point of x ← y - g(x), with as many steps as bring it to within
    `tolerance` of ‖y - x‖: 132 for 0.9 and 1e-6. Gradients go through all of them. The net runs in
    full precision, under autocast too, or there would be no fixed point.

    The log-det is exact if no estimator is given: D = C·|S| derivatives and a determinant of D rows
    for each sample, for vectors and small images. A `RussianRoulette` estimates it, unbiased, at
    the cost of some derivatives whatever D is. Then log-dets are random and those of a round trip
    cancel in expectation only; `estimates` has them one by one, to see how they scatter.

    Args:
        channels: C of the input (B, C, *S).
        net: makes g from (C, C, lipschitz=...), e.g. `LipschitzNet`, or a net of one's own, which
            has to keep to the constant that it is told.
        lipschitz: between 0 and 1.
        tolerance: of the inverse, between 0 and 1.
        estimator: of the log-det; None for the exact one.
        cond_channels: D of the condition (B, D) or (B, D, *S); 0 for none.

    Raises:
        TypeError: the estimator is something else.
        ValueError: a number is out of its range, or the estimator's variance has no bound at this
            `lipschitz`; or, on use, input or condition have another shape.

    Behrmann et al., Invertible residual networks, 2019, arXiv:1811.00995, eq. 1, algorithm 1;
    Chen et al., Residual flows for invertible generative modeling, 2019, arXiv:1906.02735.
    """

    def __init__(
        self,
        channels: int,
        net: Net = LipschitzNet,
        *,
        lipschitz: float = 0.9,
        tolerance: float = 1e-6,
        estimator: RussianRoulette | None = None,
        cond_channels: int = 0,
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        require_at_least(self, "cond_channels", cond_channels, 0)
        require_real(self, lipschitz=lipschitz, tolerance=tolerance)
        if not 0 < lipschitz < 1 or not 0 < tolerance < 1:
            raise ValueError(
                "Residual: expected lipschitz and tolerance between 0 and 1, got "
                f"{lipschitz} and {tolerance}"
            )
        if not isinstance(estimator, RussianRoulette | None):
            raise TypeError(
                "Residual: expected the estimator as a RussianRoulette, or None for the exact "
                f"log-det, got {type(estimator).__name__}"
            )
        if estimator is not None and lipschitz**2 >= 1 - estimator.stop:
            raise ValueError(
                f"Residual: expected an estimator of finite variance, stop < 1 - lipschitz² = "
                f"{1 - lipschitz**2:.3g}, got stop={estimator.stop}"
            )
        self.channels, self.cond_channels = channels, cond_channels
        self.lipschitz, self.tolerance, self.estimator = lipschitz, tolerance, estimator
        made = partial(net, lipschitz=lipschitz)
        self.net = build(self, made, channels, channels, cond_channels)

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cond_channels > 0

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        g, x = self._net_under(x, cond), wide(x)
        return x + g(x), self._logdet(g, x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        g, y = self._net_under(y, cond), wide(y)
        x = y
        for _ in range(math.ceil(math.log(self.tolerance) / math.log(self.lipschitz))):
            x = y - g(x)
        return x, -self._logdet(g, x)

    def estimates(self, x: Tensor, cond: Cond = None) -> Tensor:
        """(B, probes) estimates of the log-det of `forward`, whose mean that is; their standard
        deviation over √probes is its error.

        Raises:
            ValueError: there is no estimator.
        """
        if self.estimator is None:
            raise ValueError("Residual.estimates: expected an estimator, got none (it is exact)")
        return self.estimator(self._net_under(x, cond), wide(x))

    def _net_under(self, x: Tensor, cond: Cond) -> Callable[[Tensor], Tensor]:
        """g of x (B, C, *S) alone, in x's precision."""
        require_channels(self, x, self.channels)
        beside = require_cond(self, cond, self.cond_channels, like=x) if self.conditional else None

        def g(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                under = repeated(self, beside, x)
                assert not isinstance(under, Mapping)
                return ask(self.net, x, under).to(x.dtype)

        return g

    def _logdet(self, g: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return exact_logdet(g, x) if self.estimator is None else self.estimator(g, x).mean(1)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels)

    def given(self, cond: Cond) -> Bijection:
        if not self.conditional or not exactly(self, Residual):
            return super().given(cond)
        net = given(self.net, require_cond(self, cond, self.cond_channels))
        return Residual(
            self.channels,
            lambda *_, **__: net,
            lipschitz=self.lipschitz,
            tolerance=self.tolerance,
            estimator=self.estimator,
        )

    def fold(self) -> Bijection:
        folded = frozen(self)
        if exactly(self, Residual):
            folded.net = fold(self.net)
        return folded

    def extra_repr(self) -> str:
        estimator = "" if self.estimator is None else f", estimator={self.estimator}"
        return f"{self.channels}, lipschitz={self.lipschitz}, tolerance={self.tolerance}{estimator}"

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(LipschitzNet, hidden=4, depth=1)
        make = partial(cls, lipschitz=0.1, tolerance=1e-10, cond_channels=2)
        return [
            Example(lambda: make(3, net), (3,), (2,), name="vectors"),
            Example(lambda: make(1, partial(net, axes=2)), (1, 2, 3), (2, 2, 3), name="images"),
        ]
