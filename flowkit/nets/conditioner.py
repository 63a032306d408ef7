"""Making a conditioner net, and asking it: its condition beside the input, or apart from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from flowkit.conditions import Unchanged, beside, everywhere, require_places
from flowkit.contract import (
    HoldsCondition,
    exactly,
    frozen,
    repeated,
    require_channels,
    require_not_empty,
)

Net = Callable[..., nn.Module]
"""Makes a net (B, c_in, *S) -> (B, c_out, *S) from (c_in, c_out), see `build`."""


class Conditioner(nn.Module):
    """A net that takes its condition apart from its input:

        net(x, cond) = respond(x, first_cond(cond))

    so that `first_cond` is done once for all samples of a condition. A subclass is made as
    cls(c_in, c_out, cond_channels=D) and called with x (B, c_in, *S) and cond (B, D) or
    (B, D, *S), or without cond if D = 0. It writes `respond` and has a module `first_cond` (None if
    D = 0), whose output has a batch axis, channels, and the places of x; or it writes `forward`.
    """

    cond_channels: int = 0
    axes: int | None = None
    """How many axes S has; None: any number."""
    cond_places: bool = True
    """Whether a condition's places are those of x, a vector at all of them; else it has its own."""

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        require_channels(self, x, axes=self.axes)
        if (cond is None) != (self.cond_channels == 0):
            came = "None" if cond is None else "one"
            raise ValueError(
                f"{type(self).__name__}: expected a condition of {self.cond_channels} channels, "
                f"got {came}"
            )
        if cond is None:
            return self.answer(x)
        placed = everywhere(cond, x) if self.cond_places else cond
        return self.answer(x, self.first_cond(placed))  # pyright: ignore

    def answer(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        """`respond`, or what becomes of several responses."""
        return self.respond(x, share)

    def respond(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        """(B, c_out, *S), given what `first_cond` made of the condition."""
        raise NotImplementedError(f"{type(self).__name__} has neither forward nor respond")

    def given(self, cond: Tensor) -> nn.Module:
        """A net of x alone, for this condition; what depends on the condition alone is done."""
        apart = type(self).forward is Conditioner.forward and exactly(self, type(self))
        # A vector has to be known together with the places that it is put beside.
        if apart and (not self.cond_places or cond.dim() - 2 == self.axes):
            return WithShare(self, cond)
        return GivenNet(self, cond)

    def fold(self) -> nn.Module:
        """The same map as a frozen copy, cheap for inference."""
        return frozen(self)


class GivenNet(nn.Module, HoldsCondition):
    """`net` with the condition `cond` inside, for as many samples or a multiple of them."""

    def __init__(self, net: nn.Module, cond: Tensor) -> None:
        super().__init__()
        self.net, self.cond = net, cond.clone()

    def forward(self, x: Tensor) -> Tensor:
        cond = repeated(self.net, self.cond, x)
        assert isinstance(cond, Tensor)
        return ask(self.net, x, cond)


class WithShare(nn.Module, HoldsCondition):
    """`net` with what its `first_cond` makes of the condition, likewise."""

    def __init__(self, net: Conditioner, cond: Tensor) -> None:
        super().__init__()
        assert isinstance(net.first_cond, nn.Module)
        self.net = net
        self.share = net.first_cond(cond)
        self.cond_shape = tuple(cond.shape)
        self.unchanged = Unchanged(net.first_cond)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.answer(x, self.share_of(x))

    def share_of(self, x: Tensor) -> Tensor:
        """What `first_cond` makes of the conditions of x (B, C, *S)."""
        name, first_cond = type(self.net).__name__, self.net.first_cond
        assert isinstance(first_cond, nn.Module)
        self.unchanged.require(name, first_cond)
        if self.net.cond_places:
            require_places(name, self.cond_shape, x)
        share = repeated(self.net, self.share, x)
        assert isinstance(share, Tensor)
        return share


def build(who: object, net: Net, c_in: int, c_out: int, cond_channels: int = 0) -> nn.Module:
    """The net that `net` makes: a `Conditioner` class (or a partial of one) is told the channels of
    input and condition apart, any other factory their sum, and its net gets them joined.

    Raises:
        TypeError: `net` isn't a factory, or what it makes isn't a module.
    """
    name = type(who).__name__
    if isinstance(net, nn.Module) or not callable(net):
        raise TypeError(
            f"{name}: expected a factory that makes the net from (c_in, c_out), got "
            f"{type(net).__name__} (pass a class, a functools.partial of one, or a lambda)"
        )
    made = net
    while isinstance(made, partial):
        made = made.func
    try:
        if cond_channels and isinstance(made, type) and issubclass(made, Conditioner):
            module = net(c_in, c_out, cond_channels=cond_channels)
        else:
            module = net(c_in + cond_channels, c_out)
    except TypeError as error:
        raise TypeError(
            f"{name}: expected a factory that makes the net from (c_in, c_out), got one that says: "
            f"{error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name}: expected the factory to make a net, got {type(module).__name__}")
    return module


def ask(net: nn.Module, x: Tensor, cond: Tensor | None = None) -> Tensor:
    """The net's output for x (B, c_in, *S) and a condition, in the precision of its parameters.

    Raises:
        ValueError: x has no place.
    """
    require_not_empty(net, x)
    dtype = _precision(net, x)
    x, cond = x.to(dtype), None if cond is None else cond.to(dtype)
    if isinstance(net, Conditioner) and net.cond_channels:
        return net(x, cond)
    return net(beside(x, cond))


def _precision(net: nn.Module, x: Tensor) -> torch.dtype:
    """Of its first floating-point parameter (weights may be stored as whole numbers), or x's."""
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), x.dtype)


def given(net: nn.Module, cond: Tensor) -> nn.Module:
    """A net of x alone, for this condition."""
    if isinstance(net, Conditioner) and net.cond_channels:
        return net.given(cond.to(_precision(net, cond)))
    return GivenNet(net, cond)


def fold(net: nn.Module) -> nn.Module:
    """The same net as a frozen copy; a `Conditioner` may make itself cheaper."""
    return net.fold() if isinstance(net, Conditioner) else frozen(net)
