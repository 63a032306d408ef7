"""Shapes and dtypes."""

from __future__ import annotations

import torch

from flowkit.contract import Example, Shape
from flowkit.testing.comparison import require_equal
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, Subject, foretells, subject_of


@over_draws(dtypes=(torch.float64, torch.float32))
def check_shapes(example: Example, draw: Draw) -> None:
    """Value and log-det have the shapes and dtypes of the contract, both ways; `shape` foretells
    the former, and a `shape` of the layer's own refuses what the layer refuses."""
    subject = subject_of(example, draw)
    for side, back in zip(subject.sides, (subject.y, subject.x), strict=True):
        _require_form(side, subject, tuple(back.shape))
    require_equal(subject.who, "elements per sample", subject.y[0].numel(), subject.x[0].numel())
    x_shape, y_shape = tuple(subject.x.shape[1:]), tuple(subject.y.shape[1:])
    for shape, inverse, expected in ((x_shape, False, y_shape), (y_shape, True, x_shape)):
        call = f"{subject.who}.shape({shape}{', inverse=True' if inverse else ''})"
        try:
            foretold = subject.layer.shape(shape, inverse=inverse)
        except Exception as error:
            raise AssertionError(
                f"{call}: expected {expected}, got {type(error).__name__}: {error}"
            ) from error
        require_equal(f"{call}", "the shape", foretold, expected)
    _check_mixed(example, draw)
    if foretells(subject.layer) and draw == Draw(batch=draw.batch):
        _check_refusal(subject, x_shape)


def _require_form(side: Side, subject: Subject, expected: Shape) -> None:
    value, logdet = side(side.value, subject.cond)
    dtype = side.value.dtype
    advice = "flowkit.sum_logdet of log-slopes in the input's dtype, zero_logdet or same_logdet"
    require_equal(side.who, "a value of shape", tuple(value.shape), expected)
    require_equal(side.who, f"for {dtype} input a value in", value.dtype, dtype)
    require_equal(
        side.who, "a log-det for each sample, shape", tuple(logdet.shape), expected[:1], advice
    )
    require_equal(side.who, f"for {dtype} input a log-det in", logdet.dtype, dtype, advice)


def _check_mixed(example: Example, draw: Draw) -> None:
    """float64 input to float32 parameters gives a float64 value, or an error, which isn't silent.
    The log-det may be as precise as the parameters."""
    if draw.dtype != torch.float64:
        return
    subject = subject_of(example, draw, layer_dtype=torch.float32)
    for side, back in zip(subject.sides, (subject.y, subject.x), strict=True):
        try:
            value, logdet = side.map(side.value, subject.cond)
        except RuntimeError:
            continue
        who = f"{side.who}, float64 input, float32 parameters"
        require_equal(who, "a value of shape", tuple(value.shape), tuple(back.shape))
        require_equal(who, "a value in", value.dtype, torch.float64)
        require_equal(who, "a log-det of shape", tuple(logdet.shape), (draw.batch,))
        if logdet.dtype not in (torch.float32, torch.float64):
            raise AssertionError(f"{who}: expected a log-det in float64, got {logdet.dtype}")


def _check_refusal(subject: Subject, shape: Shape) -> None:
    """`shape` refuses another number of channels, or an odd size, where `forward` does."""
    channels, *places = shape
    others = [(channels + 1, *places)]
    if places:
        others.append((*shape[:-1], shape[-1] + 1))
    if subject.cond is not None:
        others = others[:1]  # of another size the condition would be refused
    for other in others:
        value = subject.x.new_zeros(len(subject.x), *other) + 0.5
        try:
            foretold = subject.layer.shape(other)
        except ValueError:
            _require_refused(subject, value)
            continue
        try:
            came = subject.layer(value, subject.cond)[0]
        except Exception as error:
            raise AssertionError(
                f"{subject.who}.shape({other}): expected a ValueError, since forward refuses such "
                f"samples, got {foretold}; forward: {type(error).__name__}: {error}"
            ) from error
        require_equal(f"{subject.who}.shape({other})", "the shape", foretold, tuple(came.shape[1:]))


def _require_refused(subject: Subject, value: torch.Tensor) -> None:
    """What `shape` refuses, `forward` may not map: broadcasting would, and count it wrong."""
    try:
        came = subject.layer(value, subject.cond)[0]
    except Exception:
        return
    raise AssertionError(
        f"{subject.who}.forward: expected samples of shape {tuple(value.shape[1:])} to be refused, "
        f"as by `shape`, got a value of shape {tuple(came.shape)}"
    )
