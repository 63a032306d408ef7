"""Reshape: the same numbers as a sample of another shape."""

from __future__ import annotations

import math

from torch import Tensor

from flowkit.contract import Bijection, Cond, Example, Shape, require_floating, zero_logdet


class Reshape(Bijection):
    """(B, *shape_in) -> (B, *shape_out), the numbers in row-major order as they were; log|det| = 0.

    Args:
        shape_in: (C, *S) on the data side.
        shape_out: (C', *S') on the noise side, of as many numbers.

    Raises:
        TypeError: a shape is no tuple.
        ValueError: the shapes hold different numbers; or, on use, the samples are of another shape.
    """

    conditional = False

    def __init__(self, shape_in: Shape, shape_out: Shape) -> None:
        super().__init__()
        for shape in (shape_in, shape_out):
            if not isinstance(shape, tuple | list):
                raise TypeError(
                    f"{type(self).__name__}: expected a shape (C, *S), got {type(shape).__name__}"
                )
            if not len(shape) or any(type(size) is not int or size < 1 for size in shape):
                raise ValueError(
                    f"{type(self).__name__}: expected a shape (C, *S), got {tuple(shape)}"
                )
        if math.prod(shape_in) != math.prod(shape_out):
            raise ValueError(
                f"{type(self).__name__}: expected shapes of as many numbers, got "
                f"{tuple(shape_in)} and {tuple(shape_out)}"
            )
        self.shape_in, self.shape_out = tuple(shape_in), tuple(shape_out)

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_floating(self, x)
        return x.reshape(x.shape[0], *self.shape(tuple(x.shape[1:]))), zero_logdet(x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        require_floating(self, y)
        shape = self.shape(tuple(y.shape[1:]), inverse=True)
        return y.reshape(y.shape[0], *shape), zero_logdet(y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        expected = self.shape_out if inverse else self.shape_in
        if tuple(shape) != expected:
            raise ValueError(
                f"{type(self).__name__}: expected samples of shape {expected}, got {tuple(shape)}"
            )
        return self.shape_in if inverse else self.shape_out

    def extra_repr(self) -> str:
        return f"{self.shape_in}, {self.shape_out}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(lambda: cls((2, 2, 3), (4, 3)), (2, 2, 3)),
            Example(lambda: cls((6,), (1, 2, 3)), (6,)),
        ]


class Flatten(Reshape):
    """(B, C, *S) -> (B, C·|S|), a vector of all numbers of a sample; log|det| = 0.

    Args:
        shape: (C, *S) on the data side.
    """

    def __init__(self, shape: Shape) -> None:
        numbers = math.prod(shape) if isinstance(shape, tuple | list) else 0
        super().__init__(shape, (numbers,))

    def extra_repr(self) -> str:
        return f"{self.shape_in}"

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(lambda: cls((2, 2, 3)), (2, 2, 3))]
