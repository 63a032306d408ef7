"""Augmented flows: a density of x from a flow of x and of further channels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from flowkit.contract import Cond, Shape, require_at_least, require_channels, sum_logdet, wide
from flowkit.density.bound import LowerBound
from flowkit.density.flow import Flow
from flowkit.density.noise import Temperature


class Augmented(LowerBound):
    """p(x | c) = ∫ p(x, e | c) de  for x (B, C, *S) and e (B, extra, *S) behind its channels;
    bounded from below with q(e | x):

        log p(x | c) >= E_q [log p(x, e | c) - log q(e | x)]

    The flow gets room to move in, which one of C channels alone lacks: couplings of one channel,
    or what a bijection of x can't disentangle. `log_prob` is the bound with one draw of e: another
    number each time, on average too low.

    Args:
        flow: the density of (B, C + extra, *S).
        extra: channels of e.
        noise: q. None: e is standard normal, whatever x is. A `Flow` of e whose condition is x:
            learned.

    Raises:
        TypeError: flow is no density, or noise isn't a Flow.
        ValueError: extra < 1, or noise reads no condition.

    Huang, Dinh & Courville, Augmented normalizing flows, 2020, arXiv:2002.07101, eq. 2-4.

    >>> from flowkit import Coupling, MLP
    >>> Augmented(Flow(Coupling(3, MLP)), extra=2).log_prob(torch.rand(4, 1)).shape
    torch.Size([4])
    """

    def __init__(self, flow: Flow, extra: int, noise: Flow | None = None) -> None:
        super().__init__(flow, noise)
        require_at_least(self, "extra", extra, 1)
        self.extra = extra

    def log_prob(self, x: Tensor, cond: Cond = None) -> Tensor:
        """A lower bound (B,) of the log-density of each sample x (B, C, *S), in nats."""
        joined, log_q = self.augment(x)
        return self.flow.log_prob(joined, cond) - log_q

    def augment(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[x, e] (B, C + extra, *S) and log q(e | x) (B,) for a draw of e."""
        require_channels(self, x)
        x = wide(x)
        shape = self.extra, *x.shape[2:]
        if self.noise is None:
            e = x.new_empty(x.shape[0], *shape).normal_()
            log_q = sum_logdet(torch.distributions.Normal(0, 1).log_prob(e))
        else:
            e, log_q = self.noise.rsample_and_log_prob(x, shape=shape)
        return torch.cat([x, e], dim=1), log_q

    def sample(
        self,
        cond: Cond = None,
        *,
        num_samples: int | None = None,
        shape: Shape | None = None,
        temperature: Temperature = 1.0,
    ) -> Tensor:
        """x as `Flow.sample` gives it; `shape` is (C, *S) of x."""
        if shape is not None:
            shape = shape[0] + self.extra, *shape[1:]
        joined = self.flow.sample(
            cond, num_samples=num_samples, shape=shape, temperature=temperature
        )
        channel_axis = (num_samples is not None and cond is not None) + 1
        return joined.narrow(channel_axis, 0, joined.shape[channel_axis] - self.extra)

    def inputs(self, x: Tensor, cond: Cond) -> Iterator[tuple[nn.Module, Tensor, Cond]]:
        if self.noise is not None:
            e = wide(x).new_empty(x.shape[0], self.extra, *x.shape[2:]).normal_()
            yield self.noise, e, x
        yield self.flow, self.augment(x)[0].detach(), cond

    def extra_repr(self) -> str:
        return f"extra={self.extra}"
