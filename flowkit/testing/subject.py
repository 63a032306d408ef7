"""A randomised layer with inputs for both its directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowkit.contract import Bijection, Cond, Example, Shape, wide_dtype
from flowkit.testing.comparison import require_equal
from flowkit.testing.draws import Draw
from flowkit.testing.randomize import random_inputs, randomized


class Side(NamedTuple):
    """One direction of a layer, with an input for it; calling it applies that direction."""

    who: str
    name: str
    layer: Bijection
    value: Tensor

    @property
    def map(self) -> Callable[..., Any]:
        return getattr(self.layer, self.name) if self.name != "forward" else self.layer

    def __call__(self, value: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Value and log-det.

        Raises:
            AssertionError: it raised, or returned something else.
        """
        __tracebackhide__ = True
        return outcome(self.who, self.map, value, cond)

    def of(self, layer: Bijection, what: str) -> Side:
        """The same side of another layer, such as what `fold` made, called `what` in messages."""
        return Side(f"{self.who}, {what}", self.name, layer, self.value)


class Subject(NamedTuple):
    """A randomised layer with inputs for both directions."""

    who: str
    layer: Bijection
    x: Tensor
    y: Tensor
    cond: Cond

    @property
    def sides(self) -> tuple[Side, Side]:
        return (
            Side(f"{self.who}.forward", "forward", self.layer, self.x),
            Side(f"{self.who}.inverse", "inverse", self.layer, self.y),
        )


def subject_of(
    example: Example, draw: Draw = Draw(), layer_dtype: torch.dtype | None = None
) -> Subject:
    """The layer of `draw.seed` in `layer_dtype`, by default that of the input, and its inputs.

    Raises:
        AssertionError: `build` makes none, or none of its own.
    """
    __tracebackhide__ = True
    layer = built(example, draw.seed, layer_dtype or draw.dtype)
    who = name_of(layer, example)
    example = (longer(example) if draw.longer else None) or example
    x, cond = random_inputs(example, draw)
    # The shape on the noise side, asked of a layer of its own, so that nothing this call may do to
    # its layer or input is missed later.
    probe = built(example, draw.seed, wide_dtype(x))
    if {*map(id, layer.parameters())} & {*map(id, probe.parameters())}:
        raise AssertionError(
            f"{who}: expected build() to make a fresh layer, got a shared parameter"
        )
    one = replace(draw, batch=1, dtype=wide_dtype(x))
    with torch.no_grad():
        shape = outcome(f"{who}.forward", probe, *random_inputs(example, one))[0].shape[1:]
    turned = replace(example, shape=tuple(shape), domain=example.codomain, codomain=example.domain)
    y, _ = random_inputs(turned, replace(draw, seed=draw.seed + 1))
    return Subject(who, layer, x, y, cond)


def name_of(layer: Bijection, example: Example) -> str:
    """What messages call the layer of an example."""
    name = type(layer).__name__
    return f"{name} ({example.name})" if example.name else name


def built(example: Example, seed: int, dtype: torch.dtype) -> Bijection:
    """`randomized`.

    Raises:
        AssertionError: instead of any other exception.
    """
    __tracebackhide__ = True
    try:
        return randomized(example, seed, dtype)
    except Exception as error:
        example_name = f" of the example {example.name!r}" if example.name else ""
        raise AssertionError(f"build(){example_name}: {said(error)}") from error


def longer(example: Example) -> Example | None:
    """The example with S longer on its last axis, and not square; None where the layer refuses
    such samples, or where there is no S."""
    _, *places = example.shape
    if not places:
        return None
    factor = 3 if len(places) > 1 and 2 * places[-1] == places[-2] else 2

    def stretched(shape: Shape) -> Shape:
        alike = len(shape) == len(example.shape)
        return (*shape[:-1], factor * shape[-1]) if alike else shape

    shape, cond_shape = stretched(example.shape), example.cond_shape
    layer = built(example, 0, torch.float32)
    try:
        layer.shape(shape)
    except ValueError:
        return None
    if isinstance(cond_shape, Mapping):
        cond_shape = {key: stretched(entry) for key, entry in cond_shape.items()}
    elif cond_shape is not None:
        cond_shape = stretched(cond_shape)
    other = replace(example, shape=shape, cond_shape=cond_shape)
    if not foretells(layer):
        try:
            layer(*random_inputs(other, Draw(1, dtype=torch.float32)))
        except Exception:
            return None
    return other


def foretells(layer: Bijection) -> bool:
    """Whether the layer says by a `shape` of its own which sizes it takes."""
    return type(layer).shape is not Bijection.shape


def outcome(who: str, function: Callable[..., Any], *arguments: Any) -> tuple[Tensor, Tensor]:
    """function(*arguments), which has to be a value and a log-det.

    Raises:
        AssertionError: it raised, or returned something else.
    """
    __tracebackhide__ = True
    try:
        result = function(*arguments)
    except Exception as error:
        raise AssertionError(f"{who}: expected (value, logdet), got {said(error)}") from error
    pair = isinstance(result, tuple) and len(result) == 2
    if not pair or not all(isinstance(part, Tensor) for part in result):
        raise AssertionError(f"{who}: expected (value, logdet), got {_kind(result)}")
    return result


def said(error: Exception) -> str:
    """An exception in one line, and what helps against it."""
    lines = str(error).strip().splitlines() or [""]
    causes = [line for line in lines[1:] if line.startswith("Caused by:")]
    text = f"{type(error).__name__}: {' '.join([lines[0], *causes])[:500]}"
    if isinstance(error, TypeError) and "positional argument" in text:
        return f"{text} (every bijection accepts a condition: forward(self, x, cond=None))"
    if isinstance(error, RuntimeError) and "same dtype" in text:
        return f"{text} (flowkit.ask(net, x) asks a net in its own precision)"
    return text


def entries(cond: Cond) -> Mapping[str, Tensor]:
    """The tensors of a condition by name; that of one without a name is ""."""
    if cond is None:
        return {}
    return cond if isinstance(cond, Mapping) else {"": cond}


def each(cond: Cond, change: Callable[[Tensor], Tensor], only: str | None = None) -> Cond:
    """The condition with every tensor changed, or the one called `only`."""
    if isinstance(cond, Mapping):
        return {k: change(v) if only in (None, k) else v for k, v in cond.items()}
    return None if cond is None else change(cond)


def rows(cond: Cond, index: Any) -> Cond:
    """The condition of some samples."""
    return each(cond, lambda entry: entry[index])


def entry_called(key: str) -> str:
    return f"'s entry {key!r}" if key else ""


def state_of(layer: Bijection) -> dict[str, Tensor]:
    """Copies of the parameters and buffers by name."""
    tensors = (*layer.named_parameters(), *layer.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors}


def require_same_state(who: str, layer: Bijection, before: dict[str, Tensor]) -> None:
    """Raise unless the layer's parameters and buffers are bit for bit as `before`."""
    __tracebackhide__ = True
    after = state_of(layer)
    require_equal(who, "unchanged names of parameters and buffers", list(after), list(before))
    changed = [name for name, tensor in after.items() if not tensor.equal(before[name])]
    if changed:
        raise AssertionError(f"{who}: expected the layer's state unchanged, got another {changed}")


def loss_of(value: Tensor, logdet: Tensor) -> Tensor:
    """A number that depends on every element of both, and on each in another way."""
    weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype)
    return (value.flatten() * weights).sum() + logdet.square().sum()


def _kind(result: object) -> str:
    if isinstance(result, Tensor):
        return f"one tensor of shape {tuple(result.shape)}"
    if isinstance(result, tuple | list):
        return f"a {type(result).__name__} of {', '.join(type(r).__name__ for r in result) or 0}"
    return type(result).__name__
