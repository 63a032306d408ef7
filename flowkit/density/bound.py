"""What densities share that are bounded from below, with numbers drawn beside the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor, nn

from flowkit.contract import Cond
from flowkit.density.flow import Flow


class LowerBound(nn.Module, ABC):
    """log p(x | c) is at least what `log_prob` says, by a draw from q, the noise, and the density
    `flow` of what x and that draw make.

    Args:
        flow: a `Flow`, or another density with its methods.
        noise: q. None: one without a net.

    Raises:
        TypeError: flow is no density, or noise isn't a Flow.
        ValueError: noise reads no condition.
    """

    flow: Flow

    def __init__(self, flow: Flow, noise: Flow | None) -> None:
        super().__init__()
        name = type(self).__name__
        if not isinstance(flow, nn.Module) or not callable(getattr(flow, "log_prob", None)):
            raise TypeError(
                f"{name}: expected a density, got {type(flow).__name__} (Flow(bijection) is one)"
            )
        if noise is not None and not isinstance(noise, Flow):
            raise TypeError(f"{name}: expected noise as a Flow, got {type(noise).__name__}")
        if noise is not None and not noise.conditional:
            raise ValueError(
                f"{name}: expected noise as a conditional Flow, whose condition is x, got one that "
                "reads none (cond_channels= makes a layer conditional)"
            )
        self.flow, self.noise = flow, noise

    @property
    def conditional(self) -> bool:
        """Whether anything in the flow may read a condition."""
        return self.flow.conditional

    def forward(self, x: Tensor, cond: Cond = None) -> Tensor:
        """`log_prob`, as the call that DistributedDataParallel wraps."""
        return self.log_prob(x, cond)

    @abstractmethod
    def log_prob(self, x: Tensor, cond: Cond = None) -> Tensor:
        """A lower bound (B,) of the log-density of each sample, in nats."""

    @abstractmethod
    def inputs(self, x: Tensor, cond: Cond) -> Iterator[tuple[nn.Module, Tensor, Cond]]:
        """Each density inside, with a batch of what it is a density of, and its condition: what
        `flowkit.initialize` passes through them."""
