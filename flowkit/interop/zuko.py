"""zuko (Rozet et al., https://github.com/probabilists/zuko): its transforms as layers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Transform
from zuko.flows import GeneralCouplingTransform, MaskedAutoregressiveTransform
from zuko.lazy import LazyDistribution, LazyTransform

from flowkit.contract import Bijection, Cond, Example, require_bool
from flowkit.interop.distributions import require_transform, through


class FromZuko(Bijection):
    """A transform of zuko on vectors: y = transform(cond)(x).

    Args:
        transform: a lazy one, which is a module and takes the condition; or one bound already,
            whose tensors are neither trained nor moved nor saved with this layer.
        conditional: whether it is to get the condition, as its context c.

    zuko's flows map data -> noise, as ours do: FromZuko(flow.transform) is the bijection of one.

    Raises:
        TypeError: it isn't a transform.
        ValueError: it isn't bijective, or is bound and to get a condition; or, on use, there is no
            condition where it is to get one, or its numbers of axes don't fit.
    """

    def __init__(self, transform: LazyTransform | Transform, *, conditional: bool = False) -> None:
        super().__init__()
        require_bool(self, conditional=conditional)
        if isinstance(transform, LazyDistribution):
            raise TypeError(
                f"FromZuko: expected a transform, got the distribution {type(transform).__name__} "
                "(flow.transform)"
            )
        if not isinstance(transform, LazyTransform):
            require_transform(self, transform)
            if conditional:
                raise ValueError(
                    "FromZuko: expected a lazy transform to get a condition, got "
                    f"{type(transform).__name__}, which is bound already"
                )
        self.transform = transform
        self.conditional = conditional

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return through(self, self._bound(cond), x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return through(self, self._bound(cond).inv, y)

    def _bound(self, cond: Cond) -> Transform:
        if not isinstance(self.transform, LazyTransform):
            return self.transform
        if not self.conditional:
            return require_transform(self, self.transform())
        if not isinstance(cond, Tensor):
            raise ValueError(f"FromZuko: expected a condition (B, D), got {type(cond).__name__}")
        return require_transform(self, self.transform(cond))

    @classmethod
    def examples(cls) -> list[Example]:
        smooth = {"hidden_features": (8,), "activation": torch.nn.SiLU}

        def coupling() -> FromZuko:
            return cls(GeneralCouplingTransform(3, 2, **smooth), conditional=True)

        def autoregressive() -> FromZuko:
            return cls(MaskedAutoregressiveTransform(3, **smooth))

        return [
            Example(coupling, (3,), (2,), name="coupling"),
            Example(autoregressive, (3,), name="autoregressive"),
        ]
