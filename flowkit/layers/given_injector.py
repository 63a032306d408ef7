"""What an Injector is under one condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowkit.conditions import Unchanged, require_places
from flowkit.contract import Cond, Example, HoldsCondition
from flowkit.elementwise import Affine, Elementwise
from flowkit.layers.pointwise import Pointwise
from flowkit.nets import MLP
from flowkit.nets.conditioner import ask


class GivenInjector(Pointwise, HoldsCondition):
    """y = how(x; net(cond)) for a condition that is inside: the net has answered.

    Made by `Injector.given`. Raises a ValueError once the net's parameters have changed.
    """

    def __init__(self, channels: int, how: Elementwise, net: nn.Module, cond: Tensor) -> None:
        super().__init__(channels, how, numbers=ask(net, cond))
        self.net, self.cond_shape = net, tuple(cond.shape)
        self.unchanged = Unchanged(net)

    def params(self, x: Tensor, cond: Cond) -> Tensor:
        self.unchanged.require("Injector", self.net)
        require_places("Injector", self.cond_shape, x)
        return super().params(x, cond)

    @classmethod
    def examples(cls) -> list[Example]:
        cond = torch.tensor([[1.0, 2.0, 3.0]])
        return [Example(lambda: cls(2, Affine(), MLP(3, 4, hidden=4), cond), (2,))]
