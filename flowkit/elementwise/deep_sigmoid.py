"""Deep sigmoid: a monotone network of one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from flowkit.elementwise.logistics import Logistics, apart, require_curves
from flowkit.ops.coupling.scale import Scale, SoftplusScale, scale_and_log


@dataclass(frozen=True)
class DeepSigmoid:
    """y = (1 - least)·logit(Σ wₖ·σ(aₖ·x + bₖ)) + least·x, k = 1 … K: the neural autoregressive
    flow's transformer, which approximates any increasing map as K grows.

    The inverse is found numerically, by bisection. Layers of it in a row are a deep sigmoidal flow.

    Args:
        units: K.
        rate: the map from raw numbers to (aₖ, log aₖ), bounded away from 0 and ∞.
        spread: bₖ start at K even places in (-spread, spread).
        least: of the slope; the paper has 0, where it can't be inverted in flat stretches.

    Takes 3K numbers for each element: K logits of wₖ, K raw rates, K offsets bₖ. All 0 is near the
    identity, log dy/dx in (-0.09, 0); the identity itself, with spread=0, would leave all units
    alike for ever, since they get the same gradients.
    Huang et al., Neural autoregressive flows, 2018, arXiv:1804.00779, eq. 8-9.
    """

    units: int = 8
    rate: Scale = field(default_factory=SoftplusScale)
    spread: float = 1.0
    least: float = 1e-3

    def __post_init__(self) -> None:
        require_curves(self, "units", self.units, self.spread, self.least)

    @property
    def count(self) -> int:
        return 3 * self.units

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._sigmoids(params).forward(x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._sigmoids(params).inverse(y)

    def _sigmoids(self, params: Tensor) -> Logistics:
        weights, rates, offsets = params.chunk(3, dim=1)
        a, _ = scale_and_log(self.rate, rates)
        return Logistics(weights.log_softmax(1), a, apart(offsets, self.spread), self.least)
