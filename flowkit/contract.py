"""The contract of every invertible layer: a value and its per-sample log-determinant, both ways."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Cond = Tensor | Mapping[str, Any] | None
"""A condition: None, a tensor (B, D) or (B, D, *S), or a mapping of such by name."""

Shape = tuple[int, ...]
"""(C, *S) of one sample, without the batch axis."""


class Bijection(nn.Module):
    """An invertible map between data x and noise y, both (B, C, *S), given a condition.

        forward: x -> (y, log|det dy/dx|)        data -> noise
        inverse: y -> (x, log|det dx/dy|)        noise -> data

    The channels are axis 1; S is what follows them: nothing for a vector, (T,) for a sequence,
    (H, W) for an image. The log-determinant belongs to the map just applied, so the two of a round
    trip sum to 0. Its shape is (B,) and its dtype float32, or float64 for float64 input; `wide`,
    `zero_logdet` and `sum_logdet` see to that. `forward` changes no state: initialisation from data
    is `flowkit.initialize`.

    Every bijection accepts `cond`. One that needs it refuses None with a ValueError, one that
    doesn't ignores it and says so by `conditional = False`.
    """

    conditional: bool = True
    """Whether a condition may change the result; False where that is known not to be."""

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        """y (B, C', *S') and log|det dy/dx| (B,) for x (B, C, *S)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *S) and log|det dx/dy| (B,) for y (B, C', *S')."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Shape (C', *S') of one sample on the noise side for `shape` (C, *S) on the data side, or
        with `inverse` the other way round.

        Raises:
            ValueError: `forward` (or `inverse`) would refuse such a sample.
        """
        return require_shape(self, shape)

    def given(self, cond: Cond) -> Bijection:
        """This map with its condition inside, and the work done that depends on that alone.

        The result serves B samples, or any multiple k·B: sample i has condition i mod B. It shares
        this layer's parameters and takes gradients. It raises a ValueError once parameters have
        changed that its work was done with.
        """
        return Given(self, cond) if self.conditional else self

    def fold(self) -> Bijection:
        """The same map as a frozen copy, cheap for inference: nothing in it needs a gradient, and
        training the original on doesn't move it."""
        return frozen(self)

    @classmethod
    def examples(cls) -> list[Example]:
        """Instances for `flowkit.testing` to check; at least one for every concrete layer."""
        return []


class HoldsCondition:
    """Marks the modules that `given` makes: a condition is inside."""


class Given(Bijection, HoldsCondition):
    """`bijection` with the condition `cond` inside."""

    conditional = False

    def __init__(self, bijection: Bijection, cond: Cond) -> None:
        super().__init__()
        self.bijection = bijection
        self.cond = _copied(cond)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        refuse_second_condition(self.bijection, cond)
        return self.bijection(x, repeated(self.bijection, self.cond, x))

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        refuse_second_condition(self.bijection, cond)
        return self.bijection.inverse(y, repeated(self.bijection, self.cond, y))

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return self.bijection.shape(shape, inverse=inverse)


@dataclass(frozen=True)
class Example:
    """One way to build a layer or a density, and the input it takes: what `flowkit.testing` checks.

    Args:
        build: makes a fresh layer; a density for `flowkit.testing.check_flow`.
        shape: shape of one sample on the data side, without the batch axis, e.g. (C, H, W).
        cond_shape: shape of one sample's condition, a mapping of such shapes, or None.
        name: tells the examples of one layer apart.
        domain: where x lies, a constraint of torch.distributions; None: all of ℝⁿ.
        codomain: where y lies, likewise.
        tolerance: of the inverse, where it is found numerically; 0 if it is exact but for rounding.
    """

    build: Callable[[], Any]
    shape: Shape
    cond_shape: Shape | Mapping[str, Shape] | None = None
    name: str = ""
    domain: Any = None
    codomain: Any = None
    tolerance: float = 0.0


Module = TypeVar("Module", bound=nn.Module)


def frozen(module: Module) -> Module:
    """A copy for inference: in evaluation mode, and nothing in it needs a gradient."""
    # deepcopy refuses what was computed from parameters and is kept, such as a normed weight.
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in (*vars(part).values(), *part._buffers.values())
        if isinstance(value, Tensor) and value.requires_grad
    }
    return copy.deepcopy(module, computed).eval().requires_grad_(False)


def exactly(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether `module` is a `kind` as that class has it: no subclass (which parametrisations make
    as well), no hook, no method replaced. Only then may another map stand in for it."""
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    return (
        type(module) is kind
        and not any(hooks)
        and not any(callable(getattr(kind, name, None)) for name in vars(module))
    )


def wide_dtype(x: Tensor) -> torch.dtype:
    """float32, or `x`'s own dtype where that is wider: the dtype of latents and log-dets."""
    return torch.promote_types(x.dtype, torch.float32)


def wide(x: Tensor) -> Tensor:
    """`x` in float32, or as it is where that is wider."""
    return x if x.dtype in (torch.float32, torch.float64) else x.to(wide_dtype(x))


def zero_logdet(x: Tensor) -> Tensor:
    """Zeros (B,): the log-determinant of a map of `x` that preserves volume."""
    return x.new_zeros(x.shape[0], dtype=wide_dtype(x))


def sum_logdet(log_slope: Tensor) -> Tensor:
    """Σ log_slope (B,) of an elementwise map's log-slopes (B, ...), in float32 or wider."""
    return wide(log_slope).flatten(1).sum(1)


def same_logdet(x: Tensor, logdet: Tensor) -> Tensor:
    """`logdet` (), the same for every sample of `x`, as (B,)."""
    return zero_logdet(x) + logdet


def positions(x: Tensor) -> int:
    """How many places the channels of x (B, C, *S) have: the product of S, 1 for vectors."""
    # Not x.shape[2:].numel(), which torch.export takes for a constant.
    return math.prod(x.shape[2:])


def along_channels(value: Tensor, x: Tensor) -> Tensor:
    """`value` (C,) shaped to meet the channels of x (B, C, *S)."""
    return value.reshape(-1, *[1] * (x.dim() - 2))


def require_channels(
    who: object, x: Tensor, channels: int | None = None, axes: int | None = None
) -> None:
    """Raise unless `x` is a floating-point (B, C, *S) tensor with C = `channels` and `axes` axes in
    S, where these are given.

    Raises:
        TypeError: `x` isn't a floating-point tensor.
        ValueError: its shape is another.
    """
    require_floating(who, x)
    if x.dim() < 2 or not _fits(x.shape[1:], channels, axes):
        raise ValueError(
            f"{_name(who)}: expected input of shape (B, {_expected(channels, axes)}), "
            f"got {tuple(x.shape)}"
        )


def require_floating(who: object, x: Tensor) -> None:
    """Raise unless `x` is a floating-point tensor.

    Raises:
        TypeError: it isn't.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{_name(who)}: expected a tensor (B, C, *S), got {type(x).__name__} "
            "(torch.as_tensor makes one)"
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{_name(who)}: expected a floating-point tensor, got {x.dtype} (x.float()?)"
        )


def require_shape(
    who: object, shape: Shape, channels: int | None = None, axes: int | None = None
) -> Shape:
    """Return `shape` if it is one (C, *S) of a sample that `require_channels` lets through.

    Raises:
        ValueError: it isn't.
    """
    if not shape or not _fits(shape, channels, axes):
        raise ValueError(
            f"{_name(who)}: expected samples of shape ({_expected(channels, axes)}), "
            f"got {tuple(shape)}"
        )
    return shape


def _fits(shape: Shape, channels: int | None, axes: int | None) -> bool:
    # Not by `in`, which a compiler answers wrongly about sizes that it leaves open.
    return (channels is None or channels == shape[0]) and (axes is None or axes == len(shape) - 1)


def _expected(channels: int | None, axes: int | None) -> str:
    places = {None: ", *S", 0: "", 1: ", T", 2: ", H, W"}.get(axes, f" and {axes} more axes")
    return f"{'C' if channels is None else channels}{places}"


def _name(who: object) -> str:
    return who if isinstance(who, str) else type(who).__name__


def require_at_least(who: object, name: str, value: int, least: int) -> None:
    """Raise unless `value` is an integer of at least `least`.

    Raises:
        TypeError: it isn't an integer.
        ValueError: it is less.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"{type(who).__name__}: expected {name} as an integer, got {type(value).__name__}"
        )
    if value < least:
        raise ValueError(f"{type(who).__name__}: expected {name} >= {least}, got {value}")


def require_real(who: object, **values: float) -> None:
    """Raise unless each of `values`, by the names of the arguments, is a real number.

    Raises:
        TypeError: one isn't, such as a text, a tensor or True.
    """
    for name, value in values.items():
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(
                f"{_name(who)}: expected {name} as a real number, got {type(value).__name__}"
            )


def require_range(who: object, name: str, value: Any, fits: bool, wanted: str) -> None:
    """Raise unless an argument fits.

    Raises:
        ValueError: it doesn't.
    """
    if not fits:
        raise ValueError(f"{_name(who)}: expected {name} {wanted}, got {value!r}")


def require_bool(who: object, **values: bool) -> None:
    """Raise unless each of `values`, by the names of the arguments, is True or False.

    Raises:
        TypeError: one isn't, such as "no", which would count as True.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(
                f"{_name(who)}: expected {name} as True or False, got {type(value).__name__}"
            )


def require_not_empty(who: object, x: Tensor) -> None:
    """Raise unless x (B, C, *S) has places at all.

    Raises:
        ValueError: one of S is 0.
    """
    if any(size == 0 for size in x.shape[2:]):
        raise ValueError(
            f"{_name(who)}: expected samples with at least one place, got {tuple(x.shape)}"
        )


def refuse_second_condition(who: object, cond: Cond) -> None:
    """Raise if a condition comes to a layer that has its own inside."""
    if cond is not None:
        raise ValueError(
            f"{type(who).__name__}: expected no condition after given(cond), got another one"
        )


def _copied(cond: Any) -> Any:
    """`cond` as it is now, whatever is written into its tensors later."""
    if isinstance(cond, Mapping):
        return {key: _copied(entry) for key, entry in cond.items()}
    return cond.clone() if isinstance(cond, Tensor) else cond


def repeated(who: object, cond: Cond, x: Tensor) -> Cond:
    """`cond` of B samples for the k·B samples of `x`: sample i gets condition i mod B.

    Raises:
        ValueError: the number of samples is no multiple of that of conditions.
    """
    if isinstance(cond, Mapping):
        return {key: repeated(who, entry, x) for key, entry in cond.items()}
    if not isinstance(cond, Tensor):
        return cond
    # Not len(), which fixes a batch's size where a graph is traced.
    samples, conditions = x.shape[0], cond.shape[0]
    if conditions == samples:
        return cond
    if conditions == 0 or samples % conditions:
        raise ValueError(
            f"{type(who).__name__}: expected a multiple of {conditions} samples, as many as the "
            f"conditions that were given, got {samples}"
        )
    if conditions == 1:
        return cond.expand(samples, *cond.shape[1:])
    return cond.repeat(samples // conditions, *[1] * (cond.dim() - 1))
