"""normflows (Stimper et al., JOSS 8(86), 2023): its layers here, and ours in its models.

Its layers' `forward` is noise -> data, so it is our `inverse`; a log-determinant that is the same
for all samples comes as one number, here it is one for each.
"""

from __future__ import annotations

from typing import Any

from normflows import NormalizingFlow
from normflows.flows import Flow, Reverse
from normflows.flows.affine.coupling import AffineConstFlow
from torch import Tensor

from flowkit.combine.parts import require_bijection, run
from flowkit.contract import Bijection, Cond, Example, require_bool, require_channels, zero_logdet


class FromNormflows(Bijection):
    """A layer of normflows: y = layer.inverse(x).

    Args:
        layer: one that has an inverse and keeps the shape of its samples, such as a spline or a
            coupling. `Squeeze`, which doesn't, is flowkit's own; for `Split` and `Merge` there are
            `OnChannels` and `split`.
        conditional: whether it is to get the condition, as its `context`.

    A model noise -> data of layers f₁ … fₙ is Chain(*map(FromNormflows, reversed(model.flows))).
    normflows' `ActNorm` sets itself from the first batch it sees, in either direction; flowkit's
    waits for `flowkit.initialize`.

    Raises:
        TypeError: it isn't a layer of normflows.
        ValueError: it has no inverse; or, on use, there is no condition where it is to get one, or
            samples change their shape.
    """

    def __init__(self, layer: Flow, *, conditional: bool = False) -> None:
        super().__init__()
        require_bool(self, conditional=conditional)
        if isinstance(layer, NormalizingFlow):
            raise TypeError(
                "FromNormflows: expected one layer, got a model "
                "(Chain(*map(FromNormflows, reversed(model.flows))))"
            )
        if not isinstance(layer, Flow):
            came = (
                f"the class {layer.__name__}" if isinstance(layer, type) else type(layer).__name__
            )
            raise TypeError(f"FromNormflows: expected a layer of normflows.flows, got {came}")
        if type(layer).inverse is Flow.inverse:
            raise ValueError(
                f"FromNormflows: expected a layer with an inverse, got {type(layer).__name__}, "
                "which normflows gives none"
            )
        self.layer = layer
        self.conditional = conditional

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._through(self.layer.inverse, x, cond)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._through(self.layer, y, cond)

    def _through(self, direction: Any, x: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        if self.conditional and cond is None:
            raise ValueError("FromNormflows: expected a condition, got None")
        name = type(self.layer).__name__
        try:
            value, logdet = direction(x, context=cond) if self.conditional else direction(x)
        except NotImplementedError as error:
            raise ValueError(
                f"FromNormflows: expected a layer with an inverse, got {name}, of which normflows "
                f"says: {error}"
            ) from error
        if not isinstance(value, Tensor) or value.shape != x.shape:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"FromNormflows: expected a layer that keeps the shape {tuple(x.shape)}, got "
                f"{came} from {name} (flowkit has Squeeze, OnChannels and split)"
            )
        if not isinstance(logdet, Tensor) or logdet.dim() == 0:
            logdet = zero_logdet(x) + logdet
        return value, logdet

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls(AffineConstFlow((3,))), (3,), name="vectors"),
            Example(lambda: cls(Reverse(AffineConstFlow((2, 1, 1)))), (2, 2, 3), name="images"),
        ]


class AsNormflows(Flow):
    """A bijection as a layer of normflows, in `NormalizingFlow` and `ConditionalNormalizingFlow`.

    `forward` is noise -> data there, the bijection's `inverse`. The `context` of a conditional
    model is the condition; layers that need none leave it.

    Args:
        bijection: data -> noise, any of flowkit's.

    Raises:
        TypeError: it isn't a bijection.
        ValueError (on use): it needs a condition, and a `NormalizingFlow` gives none.
    """

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = require_bijection(self, bijection)

    def forward(self, z: Tensor, context: Cond = None) -> tuple[Tensor, Tensor]:
        return run(self.bijection, z, context, inverse=True)

    def inverse(self, z: Tensor, context: Cond = None) -> tuple[Tensor, Tensor]:
        return run(self.bijection, z, context)
