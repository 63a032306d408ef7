"""Logistic mixture: the distribution function of several logistics."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from flowkit.elementwise.affine import Affine
from flowkit.elementwise.logistics import Logistics, apart, require_curves
from flowkit.ops.coupling.scale import ExpScale, Scale, scale_and_log


@dataclass(frozen=True)
class LogisticMixture:
    """y = affine((1 - least)·logit(Σ πₖ·σ((x - μₖ)/sₖ)) + least·x), k = 1 … K.

    The sum is the distribution function of a mixture of K logistic distributions; the affine map
    comes last. The inverse is found numerically, by bisection.

    Args:
        components: K.
        width: the map from raw numbers to (sₖ, log sₖ), bounded away from 0 and ∞.
        affine: the map that follows.
        spread: the means start at K even places in (-spread, spread).
        least: of the slope before the affine map; the paper has 0, where far-off components leave
            flat stretches between them that can't be inverted.

    Takes 3K + 2 numbers for each element: K logits of πₖ, K means, K raw widths, and those of the
    affine map. All 0 is near the identity, log dy/dx in (-0.09, 0); the identity itself, with
    spread=0, would leave all components alike for ever, since they get the same gradients.
    Ho et al., Flow++, 2019, arXiv:1902.00275, §3.2.1, with the shift before the scale.
    """

    components: int = 8
    width: Scale = field(default_factory=lambda: ExpScale(5.0))
    affine: Affine = field(default_factory=Affine)
    spread: float = 1.0
    least: float = 1e-3

    def __post_init__(self) -> None:
        require_curves(self, "components", self.components, self.spread, self.least)

    @property
    def count(self) -> int:
        return 3 * self.components + self.affine.count

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        mixture, affine = self._parts(params)
        y, log_slope = mixture.forward(x)
        y, log_scale = self.affine.forward(y, affine)
        return y, log_slope + log_scale

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        mixture, affine = self._parts(params)
        x, log_scale = self.affine.inverse(y, affine)
        x, log_slope = mixture.inverse(x)
        return x, log_slope + log_scale

    def _parts(self, params: Tensor) -> tuple[Logistics, Tensor]:
        sizes = [*[self.components] * 3, self.affine.count]
        weights, means, widths, affine = params.split(sizes, dim=1)
        s, _ = scale_and_log(self.width, widths)
        offset = -apart(means, self.spread) / s
        return Logistics(weights.log_softmax(1), 1 / s, offset, self.least), affine
