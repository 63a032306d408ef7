"""The contract of every invertible layer: a value and its per-sample log-determinant, both ways."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Cond = Any
"""A condition: None, a tensor, a mapping of tensors, or the `Prepared` that came of one."""

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What `owner.prepare(cond)` worked out in advance; `owner` alone can use it."""

    owner: Bijection
    value: Any


@dataclass(frozen=True)
class Example:
    """One way to build a layer, and the input it takes: what `flowkit.testing` checks.

    Args:
        build: makes a fresh layer.
        shape: shape of one sample on the data side, without the batch axis, e.g. (C, H, W).
        cond_shape: shape of one sample's condition, a mapping of such shapes, or None.
        name: tells the examples of one layer apart.
    """

    build: Callable[[], Bijection]
    shape: Shape
    cond_shape: Shape | Mapping[str, Shape] | None = None
    name: str = ""


class Bijection(nn.Module):
    """An invertible map between data x and noise y, each of shape (B, ...), given a condition.

        forward: x -> (y, log|det dy/dx|)        data -> noise
        inverse: y -> (x, log|det dx/dy|)        noise -> data

    The log-determinant belongs to the map just applied, so the two of a round trip sum to 0. Its
    shape is (B,) and its dtype float32, or float64 for float64 input. `forward` changes no state:
    initialisation from data is `flowkit.initialize`.

    Every bijection accepts `cond`. One that needs it refuses None with a ValueError, one that
    doesn't ignores it.
    """

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def forward_shape(self, shape: Shape) -> Shape:
        """Shape of one sample on the noise side, for `shape` on the data side, e.g. (C, H, W)."""
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        """Shape of one sample on the data side, for `shape` on the noise side."""
        return shape

    def prepare(self, cond: Cond) -> Cond:
        """Do the work that depends on the condition alone.

        `forward` and `inverse` take the result in place of `cond`, any number of times. The
        result is stale once a parameter of this layer changes.
        """
        return cond

    def steps(self, cond: Cond) -> list[tuple[Bijection, Cond]]:
        """The maps that `forward` applies one after the other, each with its condition."""
        return [(self, cond)]

    def retrace(
        self, y: Tensor, cond: Cond = None, *, inverse: bool = False
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """From y back to x, and on to y again with a gradient: what `Reversible` does for a step.

        Args:
            y: what `forward` gave, or `inverse` if `inverse` is true.
            cond: the condition then.

        Returns:
            x as leaves of the gradient, which joined along the channels are x; y and logdet again,
            computed from them. A layer that can share work between the two ways overrides this.
        """
        undo, apply = (self.forward, self.inverse) if inverse else (self.inverse, self.forward)
        with torch.no_grad():
            x = undo(y, cond)[0].detach()
        x.requires_grad_()
        return (x,), *apply(x, cond)

    def fold(self) -> Bijection:
        """The same map as a frozen copy, cheap for inference: nothing in it needs a gradient, and
        training the original on doesn't move it."""
        return frozen(self)

    @classmethod
    def examples(cls) -> list[Example]:
        """Instances for `flowkit.testing` to check; at least one for every concrete layer."""
        return []

    def prepared(self, cond: Cond) -> Any:
        """The value inside `cond` if this layer has prepared it, else None.

        Raises:
            ValueError: another layer has prepared it.
        """
        if not isinstance(cond, Prepared):
            return None
        if cond.owner is not self:
            raise ValueError(
                f"{type(self).__name__}: expected a condition prepared by this very layer, "
                f"got one prepared by another ({type(cond.owner).__name__})"
            )
        return cond.value


Module = TypeVar("Module", bound=nn.Module)


def frozen(module: Module) -> Module:
    """A copy for inference: in evaluation mode, and nothing in it needs a gradient."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def hooked(*modules: nn.Module) -> bool:
    """Whether something else wants to be called when one of these is: a hook, a wrapper."""
    return any(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        for module in modules
    )


def logdet_dtype(x: Tensor) -> torch.dtype:
    """float32, or `x`'s own dtype where that is wider."""
    return torch.promote_types(x.dtype, torch.float32)


def zero_logdet(x: Tensor) -> Tensor:
    """Zeros of shape (B,): the log-determinant of a map that preserves volume."""
    return x.new_zeros(x.shape[0], dtype=logdet_dtype(x))


def require_image(who: object, x: Tensor, channels: int | None = None) -> None:
    """Raise unless `x` is a floating-point (B, C, H, W) tensor, with C = `channels` if given.

    Raises:
        TypeError: `x` isn't a floating-point tensor.
        ValueError: its shape is another.
    """
    name = who if isinstance(who, str) else type(who).__name__
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: expected a floating-point tensor, got {came}")
    if x.dim() != 4 or (channels is not None and x.shape[1] != channels):
        expected = f"(B, {'C' if channels is None else channels}, H, W)"
        raise ValueError(f"{name}: expected input of shape {expected}, got {tuple(x.shape)}")
