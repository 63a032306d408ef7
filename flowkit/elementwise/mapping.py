"""Applying an elementwise map to the last channels, which all its families share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from flowkit.contract import require_bool, require_channels, sum_logdet, wide
from flowkit.elementwise.affine import Affine
from flowkit.ops.coupling.api import affine_coupling, affine_coupling_inverse


class Elementwise(Protocol):
    """How one number is mapped, given `count` numbers that come from outside.

        forward: x -> (y, log dy/dx)      inverse: y -> (x, log dx/dy)

    with x, y and the logarithms (B, n, *S) and params (B, count, n, *S). It is increasing, defined
    for all params, and near the identity at params = 0. It has no state; a frozen dataclass.
    """

    @property
    def count(self) -> int: ...

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]: ...


def require_elementwise(who: object, how: object) -> Elementwise:
    """Return `how` if it is an elementwise map.

    Raises:
        TypeError: it is a class of such, a scale, or something else.
    """
    name = who if isinstance(who, str) else type(who).__name__
    wanted = ("count", "forward", "inverse")
    if isinstance(how, type):
        raise TypeError(
            f"{name}: expected an elementwise map, got the class {how.__name__} (call it)"
        )
    if missing := [part for part in wanted if not hasattr(how, part)]:
        came = type(how).__name__
        hint = f"Affine({came}(...))?" if came.endswith("Scale") else f"it has no {missing[0]}"
        raise TypeError(
            f"{name}: expected an elementwise map such as Affine(), got {came} ({hint})"
        )
    return how  # pyright: ignore[reportReturnType]


def apply(
    how: Elementwise, x: Tensor, params: Tensor, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Keep the first channels of x (B, C, *S), map the last n.

    Args:
        how: the map.
        x: read as float32, or as it is where that is wider.
        params: (B, count·n, *S) with n <= C, number k of the map's for all n channels at k·n …, as
            a net gives them; read in x's precision. `Affine` runs on a fused kernel where there is
            one, see `flowkit.ops`.
        inverse: y -> x instead.

    Returns:
        (B, C, *S) and the log-determinant (B,), float32 or wider.

    Raises:
        TypeError, ValueError: the tensors aren't as above.
    """
    require_bool("apply", inverse=inverse)
    if type(how) is Affine:
        op = affine_coupling_inverse if inverse else affine_coupling
        return op(x, params, how.scale)
    require_channels(type(how).__name__, x)
    x = wide(x)
    params = params.to(x.dtype)
    n = params.shape[1] // how.count
    expected = (x.shape[0], how.count * n, *x.shape[2:])
    if params.shape != expected or not 1 <= n <= x.shape[1]:
        raise ValueError(
            f"{type(how).__name__}: expected {how.count} numbers for each element, as "
            f"{(x.shape[0], f'{how.count}n', *x.shape[2:])} with n <= {x.shape[1]}, "
            f"got {tuple(params.shape)}"
        )
    kept, changed = x[:, : x.shape[1] - n], x[:, x.shape[1] - n :]
    direction = how.inverse if inverse else how.forward
    value, log_slope = direction(changed, params.unflatten(1, (how.count, n)))
    joined = torch.cat([kept, value], dim=1) if kept.shape[1] else value
    return joined, sum_logdet(log_slope)
