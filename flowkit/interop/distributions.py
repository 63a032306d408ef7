"""torch.distributions: a transform as a bijection, and a bijection as a transform."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Size, Tensor, nn
from torch.distributions import Distribution, Transform, constraints
from torch.distributions.transforms import (
    AffineTransform,
    ExpTransform,
    IndependentTransform,
    SigmoidTransform,
    _InverseTransform,
)

from flowkit.combine.parts import require_bijection, run
from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    exactly,
    frozen,
    require_channels,
    require_floating,
    sum_logdet,
    wide,
    zero_logdet,
)


class FromTransform(Bijection):
    """y = transform(x), log|det| = transform.log_abs_det_jacobian(x, y), summed over what the
    transform maps one by one.

    Args:
        transform: a bijective transform of torch.distributions, or of a library that extends it, on
            numbers, vectors (…, C) or samples (…, C, *S). It isn't a module: its tensors are
            neither trained nor moved nor saved with this layer.

    Raises:
        TypeError: it is something else.
        ValueError: it isn't bijective, or is another's `.inv`; or, on use, samples have fewer axes
            than it maps at once, or become more or fewer numbers.
    """

    conditional = False

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        require_transform(self, transform)
        if isinstance(transform, _InverseTransform):
            # A deep copy of it, which `fold` makes, would have forgotten whose inverse it is.
            raise ValueError(
                "FromTransform: expected a transform, got the inverse of one "
                "(Inverse(FromTransform(transform)))"
            )
        self.transform = transform

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return through(self, self.transform, x)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return through(self, self.transform.inv, y)

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        transform = self.transform.inv if inverse else self.transform
        _require_axes(self, transform, len(shape))
        return tuple(transform.forward_shape(Size(shape)))

    def fold(self) -> Bijection:
        if not exactly(self, FromTransform):
            return super().fold()
        # deepcopy refuses tensors that were computed of others.
        constants = {id(tensor): tensor.detach().clone() for tensor in _tensors(self.transform)}
        return frozen(FromTransform(copy.deepcopy(self.transform, constants)))

    def extra_repr(self) -> str:
        return f"{self.transform}"

    @classmethod
    def examples(cls) -> list[Example]:
        def affine() -> FromTransform:
            return cls(IndependentTransform(AffineTransform(0.5, -2.0), 1))

        positive = constraints.positive
        return [
            Example(affine, (3,), name="affine"),
            Example(lambda: cls(ExpTransform()), (2, 3), codomain=positive, name="exp"),
            Example(
                lambda: cls(SigmoidTransform()),
                (2,),
                codomain=constraints.unit_interval,
                name="sigmoid",
            ),
        ]


class AsTransform(Transform):
    """A bijection as a transform of torch.distributions: x -> y is data -> noise, and `.inv` is
    what a `TransformedDistribution` wants, noise -> data.

    Args:
        bijection: one that needs no condition; for one that does, bijection.given(cond).
        shape: (C, *S) of a sample on the data side. It tells the ranks of both sides; samples of
            other sizes S are mapped too where the bijection allows them.
        domain: where x lies; all of ℝⁿ if None, as for most layers.
        codomain: where y lies, likewise.

    Each call is a pass, `log_abs_det_jacobian` too: for samples and densities of a flow in one pass
    each, `Flow.given` is a distribution.

    Raises:
        TypeError: it isn't a bijection.
        ValueError: it may read a condition, or doesn't take such samples; or, on use, samples have
            fewer axes.
    """

    bijective = True

    def __init__(
        self,
        bijection: Bijection,
        shape: Shape,
        *,
        domain: constraints.Constraint | None = None,
        codomain: constraints.Constraint | None = None,
    ) -> None:
        super().__init__()
        self.bijection = require_bijection(self, bijection)
        if bijection.conditional:
            raise ValueError(
                f"AsTransform: expected a bijection without a condition, got "
                f"{type(bijection).__name__}, which may read one (bijection.given(cond))"
            )
        if not isinstance(shape, tuple | list):
            raise TypeError(
                f"AsTransform: expected shape=(C, *S) of one sample, got {type(shape).__name__}"
            )
        self.shape = tuple(shape)
        after = bijection.shape(self.shape)
        self.domain = _on(domain, len(self.shape))
        self.codomain = _on(codomain, len(after))

    def _call(self, x: Tensor) -> Tensor:
        return self._through(x, inverse=False)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self._through(y, inverse=True)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self._through(x, inverse=False)[1]

    def forward_shape(self, shape: Size) -> Size:
        return self._shape_of(shape, inverse=False)

    def inverse_shape(self, shape: Size) -> Size:
        return self._shape_of(shape, inverse=True)

    def _through(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Value and log-det of x (*N, C, *S), any number of axes before its samples."""
        require_floating("AsTransform", x)
        lead, event = self._split(x.shape, inverse)
        y, logdet = run(self.bijection, wide(x).reshape(-1, *event), inverse=inverse)
        return y.reshape(*lead, *y.shape[1:]), logdet.reshape(lead)

    def _shape_of(self, shape: Size, *, inverse: bool) -> Size:
        lead, event = self._split(shape, inverse)
        return Size((*lead, *self.bijection.shape(tuple(event), inverse=inverse)))

    def _split(self, shape: Size, inverse: bool) -> tuple[Size, Size]:
        rank = (self.codomain if inverse else self.domain).event_dim
        if len(shape) < rank:
            raise ValueError(
                f"AsTransform: expected samples of {rank} axes (C, *S) behind any others, got "
                f"{tuple(shape)}"
            )
        return shape[: len(shape) - rank], shape[len(shape) - rank :]

    def __repr__(self) -> str:
        return f"AsTransform({self.bijection}, {self.shape})"


def require_transform(who: object, transform: Any) -> Transform:
    """Return `transform` if it is a bijective one of torch.distributions.

    Raises:
        TypeError: it is something else.
        ValueError: it isn't bijective.
    """
    name = type(who).__name__
    if not isinstance(transform, Transform):
        if isinstance(transform, type):
            came, hint = f"the class {transform.__name__}", " (call it)"
        else:
            came = type(transform).__name__
            hint = " (a layer already?)" if isinstance(transform, nn.Module) else ""
        raise TypeError(f"{name}: expected a transform of torch.distributions, got {came}{hint}")
    if not transform.bijective:
        raise ValueError(
            f"{name}: expected a bijective transform, got {type(transform).__name__}, which has no "
            "inverse"
        )
    return transform


def through(who: object, transform: Transform, x: Tensor) -> tuple[Tensor, Tensor]:
    """transform(x) of samples x (B, C, *S), and its log-det (B,).

    Raises:
        ValueError: samples have fewer axes than it maps at once, or become more or fewer numbers.
    """
    require_channels(who, x)
    _require_axes(who, transform, x.dim() - 1)
    if x.shape[0] == 0:
        # torch.distributions can't sum over the elements of no samples.
        return x.reshape(transform.forward_shape(x.shape)), zero_logdet(x)
    y: Tensor = transform(x)  # pyright: ignore[reportAssignmentType]
    if y.shape[:1] != x.shape[:1] or y.numel() != x.numel():
        raise ValueError(
            f"{type(who).__name__}: expected as many numbers as there were, got {tuple(y.shape)} "
            f"from {tuple(x.shape)}: {type(transform).__name__} has no Jacobian determinant"
        )
    slope = transform.log_abs_det_jacobian(x, y)
    rest = x.shape[: x.dim() - transform.domain.event_dim]
    return y, sum_logdet(slope.expand(rest)[:, None])


def _tensors(part: Any) -> Iterator[Tensor]:
    """The tensors of a transform, and of what it is made of; a transform knows its inverse, which
    knows it."""
    seen: set[int] = set()
    left = [part]
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, list | tuple):
            left.extend(part)
        elif isinstance(part, Transform | Distribution):
            left.extend(vars(part).values())


def _require_axes(who: object, transform: Transform, axes: int) -> None:
    rank = transform.domain.event_dim
    if axes < rank:
        raise ValueError(
            f"{type(who).__name__}: expected samples of at least {rank} axes, which "
            f"{type(transform).__name__} maps at once, got samples of {axes}"
        )


def _on(constraint: constraints.Constraint | None, rank: int) -> constraints.Constraint:
    """`constraint`, by default the real numbers, on events of `rank` axes."""
    constraint = constraints.real if constraint is None else constraint
    more = rank - constraint.event_dim
    return constraints.independent(constraint, more) if more else constraint
