"""What the combinators ask of the bijections they are made of, and what they say if one fails."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from flowkit.contract import Bijection, Cond, Shape


def require_bijection(who: object, part: object) -> Bijection:
    """Return `part` if it is a bijection that is ready for use.

    Raises:
        TypeError: it is something else, or its class forgot `super().__init__()`.
    """
    name = type(who).__name__
    if isinstance(part, type) and issubclass(part, Bijection):
        raise TypeError(f"{name}: expected a bijection, got the class {part.__name__} (call it)")
    if isinstance(part, list | tuple):
        raise TypeError(
            f"{name}: expected bijections, got {type(part).__name__} (unpack it: *layers)"
        )
    if not isinstance(part, Bijection):
        raise TypeError(f"{name}: expected a bijection, got {type(part).__name__}")
    if "_modules" not in vars(part):
        raise TypeError(
            f"{name}: expected {type(part).__name__}.__init__ to call super().__init__() first"
        )
    return part


def run(
    layer: Bijection, x: Tensor, cond: Cond = None, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """One direction of a layer, which anybody may have written: an error says its name, and its
    result is what the contract says.

    Raises:
        TypeError: it isn't a pair of tensors.
        ValueError: the value or the log-determinant isn't for as many samples as x.
    """
    try:
        result = layer.inverse(x, cond) if inverse else layer(x, cond)
    except Exception as error:
        say_who(error, layer)
        raise
    name = type(layer).__name__ + (".inverse" if inverse else ".forward")
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}: expected (value, logdet) back, got {type(result).__name__}")
    value, logdet = result
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}: expected (value, logdet) back, got a value that is {type(value).__name__}"
        )
    if value.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"{name}: expected a value for each of {x.shape[0]} samples, got one of shape "
            f"{tuple(value.shape)}"
        )
    if not isinstance(logdet, Tensor) or logdet.shape != x.shape[:1]:
        came = tuple(logdet.shape) if isinstance(logdet, Tensor) else type(logdet).__name__
        raise ValueError(
            f"{name}: expected a log-determinant of shape ({x.shape[0]},), one number for each "
            f"sample, got {came}"
        )
    return value, logdet


def say_who(error: Exception, layer: Bijection) -> None:
    """Let the error's words begin with a layer's name, if they don't yet."""
    if _speaks(error) and not re.match(r"(layer [\d.]+, )?[A-Z][\w.]*: ", str(error)):
        error.args = (f"{type(layer).__name__}: {error}",)


def say_where(error: Exception, place: int, came: Shape, whole: Shape) -> None:
    """Let the error's words begin with the layer's place in a chain, and with its place in the
    chain around that: "layer 2.0, ActNorm: …".

    Args:
        place: of the layer that failed.
        came: shape of what the layer got; whole: of what the chain got, which is said if it is
            another, by the outermost chain.
    """
    if not _speaks(error):
        return
    said, places, input_shape = getattr(error, "flowkit", (str(error), (), None))
    places = (place, *places)
    input_shape = input_shape if tuple(came) == tuple(whole) else tuple(whole)
    # Each chain on the way out adds its part.
    error.flowkit = said, places, input_shape  # pyright: ignore[reportAttributeAccessIssue]
    about_shapes = input_shape and "shape" in said
    behind = f"; the chain's input was {input_shape}" if about_shapes else ""
    error.args = (f"layer {'.'.join(map(str, places))}, {said}{behind}",)


def _speaks(error: Exception) -> bool:
    """Whether its words are all that it carries, and nobody is compiling who couldn't read them."""
    if torch.compiler.is_compiling():
        return False
    return [*map(type, error.args)] == [str] and not isinstance(error, KeyError)
