"""Conditions: refused where they don't fit, and put beside what they condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from flowkit.contract import Cond


def require_cond(
    who: object,
    cond: Cond,
    channels: int,
    like: Tensor | None = None,
    *,
    own_places: bool = False,
) -> Tensor:
    """Return `cond` if it is a (B, D) or (B, D, *S) tensor, D = `channels`, that fits `like`
    (B, C, *S), but for the places if it may have its own.

    Raises:
        ValueError: it is missing, or its shape is another.
        TypeError: it isn't a floating-point tensor.
    """
    name = type(who).__name__
    if cond is None:
        raise ValueError(f"{name}: expected a condition of {channels} channels, got None")
    if not isinstance(cond, Tensor):
        raise TypeError(
            f"{name}: expected a condition tensor, got {type(cond).__name__}"
            " (flowkit.At picks one entry of a mapping)"
        )
    if not cond.is_floating_point():
        raise TypeError(
            f"{name}: expected a floating-point condition, got {cond.dtype} "
            "(labels: torch.nn.functional.one_hot(...).float())"
        )
    fits = cond.dim() >= 2 and cond.shape[1] == channels
    if fits and like is not None:
        placed = own_places or cond.dim() == 2 or cond.shape[2:] == like.shape[2:]
        fits = placed and cond.shape[0] == like.shape[0]
    if not fits:
        batch, *places = ("B", "*S") if like is None else (like.shape[0], *like.shape[2:])
        if own_places:
            places = ["*S"]
        vector = f"({batch}, {channels})"
        expected = f"({', '.join(map(str, (batch, channels, *places)))}) or {vector}"
        if not places:
            expected = vector
        raise ValueError(
            f"{name}: expected a condition of shape {expected}, got {tuple(cond.shape)}"
        )
    return cond


def require_places(who: str, shape: tuple[int, ...], x: Tensor) -> None:
    """Raise unless a condition of this shape, (B, D) or (B, D, *S), has the places of x.

    Raises:
        ValueError: it hasn't.
    """
    if len(shape) > 2 and shape[2:] != x.shape[2:]:
        expected = (*shape[:2], *x.shape[2:])
        raise ValueError(
            f"{who}: expected a condition of shape {expected} or {expected[:2]}, got {shape}"
        )


def batch_of(who: str, cond: Cond) -> int:
    """The number of samples B that a condition is for.

    Raises:
        TypeError: it isn't a tensor, nor a mapping of such.
        ValueError: its entries are for different numbers of samples.
    """
    if isinstance(cond, Tensor):
        if cond.dim() == 0:
            raise ValueError(f"{who}: expected a condition (B, ...), got a single number")
        return cond.shape[0]
    if not isinstance(cond, Mapping):
        raise TypeError(
            f"{who}: expected a condition as a tensor, or a mapping of tensors by name, got "
            f"{type(cond).__name__}"
        )
    sizes = {key: batch_of(f"{who}, entry {key!r}", entry) for key, entry in cond.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"{who}: expected entries for one number of samples, got {sizes}")
    return next(iter(sizes.values()))


def tensors_of(cond: Cond, name: str = "condition") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a condition, and what to call it in an error."""
    if isinstance(cond, Mapping):
        for key, entry in cond.items():
            yield from tensors_of(entry, f"{name} {key!r}")
    elif isinstance(cond, Tensor):
        yield name, cond


def mapped(cond: Cond, change: Callable[[Tensor], Tensor]) -> Cond:
    """The condition with each of its tensors changed."""
    if isinstance(cond, Mapping):
        return {key: mapped(entry, change) for key, entry in cond.items()}
    return None if cond is None else change(cond)


def everywhere(cond: Tensor, x: Tensor) -> Tensor:
    """A vector condition (B, D) at every place of x (B, C, *S); one that has places as it is."""
    if cond.dim() > 2 or x.dim() == 2:
        return cond
    return cond.reshape(*cond.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])


def beside(x: Tensor, cond: Tensor | None) -> Tensor:
    """x (B, C, *S), then the channels of cond (B, D) or (B, D, *S), in the wider precision."""
    return x if cond is None else torch.cat([x, everywhere(cond, x)], dim=1)


class Unchanged:
    """The parameters and buffers that `module` had, to tell whether work done with them still
    holds.

    Values are compared, because versions don't tell: fused optimisers and `.data` change a
    parameter and leave its version. Inside `torch.compile` and torch.func, which can't look at
    values, nothing is checked.
    """

    def __init__(self, module: nn.Module) -> None:
        self.values = [tensor.clone() for tensor in _state(module)]

    def require(self, who: str, module: nn.Module) -> None:
        """Raise if `module`, which stands where that one stood, has other ones now.

        Raises:
            ValueError: it has.
        """
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return
        now = _state(module)
        if len(now) != len(self.values) or not all(map(_same, now, self.values)):
            raise ValueError(
                f"{who}: expected the parameters that given(cond) worked with, got changed ones; "
                "call given(cond) again after an optimiser step"
            )


def _state(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and a.equal(b)
