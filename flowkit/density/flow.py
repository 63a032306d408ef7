"""A bijection and a base distribution: a density, given a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from flowkit.combine.parts import require_bijection, run
from flowkit.conditions import batch_of
from flowkit.contract import (
    Bijection,
    Cond,
    Given,
    Shape,
    exactly,
    frozen,
    require_channels,
    require_not_empty,
    wide,
)
from flowkit.density.base import StandardNormal
from flowkit.density.distributions import GivenFlow
from flowkit.density.noise import Temperature, log_prob
from flowkit.density.summary import Summary, summarized

_SHARED = (1,), ()
"""Batch shapes of a base that is the same for all samples, as it may be without a condition."""


class Flow(nn.Module):
    """log p(x | c) = log p_base(z | c) + log|det dz/dx|  with z = bijection(x, c).

    Args:
        bijection: data -> noise.
        base: distribution of the noise: a `StandardNormal`, or a module that makes a
            torch distribution from the condition, of batch shape (B,) and event shape (C, *S);
            without a condition the batch shape may be (1,) or (). `diagonal_normal` makes the
            usual one. A standard normal if None.

    Raises:
        TypeError: the bijection isn't one, or the base isn't a module. (A function may close over
            parameters, which the flow could neither train nor copy.)

    Rezende & Mohamed, Variational inference with normalizing flows, 2015, arXiv:1505.05770, eq. 5.

    >>> import torch
    >>> from flowkit import Coupling, MLP
    >>> flow = Flow(Coupling(2, MLP, cond_channels=3))
    >>> cond = torch.zeros(4, 3)
    >>> flow.log_prob(torch.rand(4, 2), cond).shape
    torch.Size([4])
    >>> flow.sample(cond, num_samples=5, shape=(2,)).shape
    torch.Size([5, 4, 2])
    """

    def __init__(self, bijection: Bijection, base: nn.Module | None = None) -> None:
        super().__init__()
        self.bijection = require_bijection(self, bijection)
        if base is None:
            base = StandardNormal()
        if not isinstance(base, nn.Module):
            raise TypeError(
                f"Flow: expected the base as a module, got {type(base).__name__} (StandardNormal, "
                "or a torch.nn.Module whose forward(cond) makes a distribution)"
            )
        self.base = base

    @property
    def conditional(self) -> bool:
        """Whether anything in this flow may read a condition."""
        return self.bijection.conditional or bool(getattr(self.base, "conditional", True))

    def forward(self, x: Tensor, cond: Cond = None) -> Tensor:
        """`log_prob`, as the call that DistributedDataParallel wraps."""
        return self.log_prob(x, cond)

    def encode(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        """z and log|det dz/dx| (B,) for data x (B, C, *S)."""
        return run(self.bijection, self._data(x, cond), cond)

    def decode(self, z: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        """x and log|det dx/dz| (B,) for noise z (B, C', *S')."""
        return run(self.bijection, self._data(z, cond), cond, inverse=True)

    def log_prob(self, x: Tensor, cond: Cond = None) -> Tensor:
        """Log-density (B,) of each sample, in nats.

        Args:
            x: (B, C, *S).
            cond: the condition of these samples.

        Raises:
            TypeError: x isn't a floating-point tensor, or cond is no condition.
            ValueError: shapes don't belong together, or nothing here reads a condition.
        """
        z, logdet = self.encode(x, cond)
        return log_prob(self.base_of(cond, z), z) + logdet

    def base_of(self, cond: Cond, z: Tensor) -> Distribution:
        """The base distribution under `cond`, for noise shaped like z (B, C', *S').

        Raises:
            ValueError: the base has another shape.
        """
        shape = tuple(z.shape[1:])
        if isinstance(self.base, StandardNormal):
            expected = self.base.shape(cond)
            if expected is not None and expected != shape:
                raise ValueError(
                    f"Flow: expected noise of the base's shape {expected}, got {shape} from the "
                    "bijection"
                )
            return self.base(z.shape[0], shape)
        base = self._made(cond)
        fits = base.batch_shape == z.shape[:1] or (cond is None and base.batch_shape in _SHARED)
        if base.event_shape != z.shape[1:] or not fits:
            raise ValueError(
                f"Flow: expected a base of batch shape ({z.shape[0]},) and event shape {shape}, "
                f"got {tuple(base.batch_shape)} and {tuple(base.event_shape)}"
            )
        return base

    def sample(
        self,
        cond: Cond = None,
        *,
        num_samples: int | None = None,
        shape: Shape | None = None,
        temperature: Temperature = 1.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Samples given the condition; gradients flow through where the base allows it.

        Args:
            cond: the condition of a batch of B; None for a flow without.
            num_samples: how many for each condition, which share what depends on that alone (but
                not inside `torch.compile`; `given(cond)` ahead of it does); None: one.
            shape: (C, *S) of a sample, where neither base nor condition tells it.
            temperature: τ >= 0 in z = mean + τ·(draw - mean): a number; one for each level of a
                multi-scale flow, those that leave first first; or a tensor that broadcasts to z. 1
                draws from the model, 0 gives the image of the base's mean.
            noise: ε in z = mean + τ·std·ε of a normal base, in place of drawing it: (B, C', *S') or
                (num_samples, B, C', *S'); without a condition (N, C', *S') for N samples.

        Returns:
            (B, C, *S), or (num_samples, B, C, *S) if a number is given; without a condition
            (1, C, *S) or (num_samples, C, *S).

        Raises:
            TypeError: cond is no condition, e.g. a number.
            ValueError: an argument is out of range, nothing tells the shape, the shapes don't
                belong together, or there is noise for a mixture or a uniform base.
            NotImplementedError: the base has no mean, and the temperature isn't 1.
        """
        if noise is not None:
            require_channels("Flow.sample (noise)", noise)
        lead = self._lead(cond, num_samples, noise)
        before = len(lead) + (cond is not None)
        noise_shape = None if noise is None else tuple(noise.shape[before:])
        given = self._given(cond, shape, noise_shape, once=_once(lead))
        return given.sample_with(lead, temperature=temperature, noise=noise)

    def rsample_and_log_prob(
        self,
        cond: Cond = None,
        *,
        num_samples: int | None = None,
        shape: Shape | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Samples and their log-densities, in one pass, with gradients through both: what an ELBO
        needs. Arguments and errors are those of `sample`; the densities are (B,) or
        (num_samples, B), without a condition (1,) or (num_samples,).

        Raises:
            NotImplementedError: the base's draws carry no gradients, as those of a mixture, and
                gradients are on.
        """
        lead = self._lead(cond, num_samples)
        given = self._given(cond, shape, once=_once(lead))
        return given.rsample_and_log_prob(lead)

    def given(self, cond: Cond = None, *, shape: Shape | None = None) -> GivenFlow:
        """p(x | cond) as a torch distribution; the work that depends on the condition alone is done
        here, once, and reused by every `sample` and `log_prob` of the result.

        Args:
            cond: the condition of a batch of B.
            shape: (C, *S) of a sample, where neither base nor condition tells it; only sampling
                needs it.

        Raises:
            TypeError: cond is no condition, e.g. a number.
            ValueError: the shapes of condition, base and `shape` don't belong together, or nothing
                here reads a condition.
        """
        return self._given(cond, shape)

    def _given(
        self,
        cond: Cond,
        shape: Shape | None,
        noise_shape: Shape | None = None,
        *,
        once: bool = False,
    ) -> GivenFlow:
        """Where base, `shape` and `noise_shape` say how large a sample is, they have to agree.
        `once`: for one sample of each condition, where work done ahead would only cost."""
        batch = self._require_condition(cond)
        if shape is not None and not isinstance(shape, tuple | list):
            raise TypeError(
                f"Flow: expected shape=(C, *S) of one sample, got {type(shape).__name__}"
            )
        if shape is not None and any(size < 1 for size in shape):
            raise ValueError(f"Flow: expected shape=(C, *S) of sizes >= 1, got {tuple(shape)}")
        noise = None
        if isinstance(self.base, StandardNormal):
            by_base = self.base.shape(cond)
        else:
            noise = self._made(cond)
            by_base = tuple(noise.event_shape)
            wanted = _SHARED if batch is None else ((batch,),)
            if tuple(noise.batch_shape) not in wanted:
                raise ValueError(
                    f"Flow: expected a base of batch shape {wanted[0]}, got "
                    f"{tuple(noise.batch_shape)} with event shape {by_base}"
                )
        said = {"the base": by_base, "the noise": noise_shape}
        if shape is not None:
            said[f"shape={tuple(shape)}"] = self.bijection.shape(tuple(shape))
        said = {who: size for who, size in said.items() if size is not None}
        if len({*said.values()}) > 1:
            raise ValueError(f"Flow: expected one shape (C, *S) of the noise, got {said}")
        told_by, known = next(iter(said.items()), ("", None))
        bijection = self.bijection
        if cond is not None:
            bijection = Given(bijection, cond) if once else bijection.given(cond)
        return GivenFlow(
            bijection, self.base, noise, batch=batch, noise_shape=known, told_by=told_by
        )

    def _made(self, cond: Cond) -> Distribution:
        """What the base makes of the condition."""
        try:
            made = self.base(cond)
        except Exception as error:
            if cond is None:
                error.add_note("Flow: the base was called without a condition; it may want one.")
            raise
        if not isinstance(made, Distribution):
            raise TypeError(
                f"Flow: expected the base to make a torch distribution, got {type(made).__name__} "
                "(diagonal_normal(mean)?)"
            )
        return made

    def _lead(
        self, cond: Cond, num_samples: int | None, noise: Tensor | None = None
    ) -> tuple[int, ...]:
        """The axes that samples have before those of the condition's batch."""
        if num_samples is None:
            if cond is not None:
                return ()
            return (1,) if noise is None else tuple(noise.shape[:1])
        if not isinstance(num_samples, int) or isinstance(num_samples, bool):
            raise TypeError(
                f"Flow.sample: expected num_samples as an integer, got {type(num_samples).__name__}"
            )
        if num_samples < 1:
            raise ValueError(f"Flow.sample: expected num_samples >= 1, got {num_samples}")
        return (num_samples,)

    def summary(self, x: Tensor, cond: Cond = None) -> Summary:
        """What each layer does to a batch: its shape, parameters, share of the log-det, the
        conditioning of its Jacobian (exact for small samples, else a lower bound), and the error of
        its inverse. `print` shows a table, `.picture(path)` draws it with matplotlib.

        Args:
            x: (B, C, *S), B >= 1.
            cond: the condition of these samples.
        """
        x = self._data(x, cond)
        if not x.numel():
            raise ValueError(f"Flow.summary: expected samples, got a batch of {tuple(x.shape)}")
        return summarized(self.bijection, x, cond)

    def fold(self) -> Flow:
        """The same density as a frozen copy, cheap for inference, see `Bijection.fold`."""
        if not exactly(self, Flow):
            return frozen(self)
        return Flow(self.bijection.fold(), frozen(self.base))

    def _require_condition(self, cond: Cond) -> int | None:
        """The number of samples that `cond` is for; None without one."""
        if cond is None:
            return None
        if isinstance(cond, int) and not isinstance(cond, bool):
            raise TypeError(
                "Flow: expected a condition (a tensor, or a mapping of tensors), got the number "
                f"{cond} (num_samples={cond}?)"
            )
        batch = batch_of("Flow", cond)
        if not self.conditional:
            raise ValueError(
                "Flow: expected no condition, since nothing in this flow reads one; got one "
                "(cond_channels= makes a layer conditional)"
            )
        return batch

    def _data(self, x: Tensor, cond: Cond) -> Tensor:
        """x in float32 or wider, if it is for as many samples as its condition."""
        require_channels("Flow", x)
        require_not_empty("Flow", x)
        batch = self._require_condition(cond)
        if batch is not None and batch != x.shape[0]:
            raise ValueError(
                f"Flow: expected a condition for each of {x.shape[0]} samples, got one for {batch} "
                "(cond.expand(B, ...) repeats one; many samples: given(cond).log_prob)"
            )
        return wide(x)


def _once(lead: tuple[int, ...]) -> bool:
    """Whether work done ahead for a condition would be used once only; or can't be done, since
    `torch.compile` doesn't look into modules that are made while it traces."""
    return lead in ((), (1,)) or torch.compiler.is_compiling()
