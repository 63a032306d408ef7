"""Dequantized: a density of whole numbers, around a flow of real ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowkit.contract import Cond, Shape, require_at_least
from flowkit.density.bound import LowerBound
from flowkit.density.flow import Flow
from flowkit.density.noise import Temperature


class Dequantized(LowerBound):
    """P(x | c) = ∫ p((x + u)/levels | c) du / levels^D  for whole x in 0 … levels - 1, over u in
    (0, 1)^D, D = C·|S|; bounded from below with q(u | x):

        log P(x | c) >= E_q [log p((x + u)/levels | c) - log q(u | x)] - D·log levels

    `log_prob` is the bound with one draw of u: another number each time, on average too low, never
    too high.

    Args:
        flow: the density p of numbers in [0, 1]: a `Flow`, or another density with its methods.
        levels: of x, e.g. 256 for pixels of 8 bits; above 2**16 what goes into the flow is float64.
        noise: q. None: u is uniform. A `Flow` that is conditional: u = sigmoid(w) with w (B, C, *S)
            from this flow, whose condition is x, scaled to (-1, 1) (variational dequantisation).

    Raises:
        TypeError: flow is no density, or noise isn't a Flow; or, on use, x is no tensor of numbers.
        ValueError: levels < 2, or noise reads no condition; or, on use, x isn't of whole numbers in
            range.

    Theis et al., A note on the evaluation of generative models, 2016, arXiv:1511.01844, §3.1; Ho et
    al., Flow++, 2019, arXiv:1902.00275, §3.1.

    >>> from flowkit import Coupling, MLP
    >>> digits = Dequantized(Flow(Coupling(2, MLP)), levels=10)
    >>> digits.log_prob(torch.tensor([[3, 9], [0, 1]])).shape
    torch.Size([2])
    """

    def __init__(self, flow: Flow, levels: int = 256, noise: Flow | None = None) -> None:
        super().__init__(flow, noise)
        require_at_least(self, "levels", levels, 2)
        self.levels = levels

    def log_prob(self, x: Tensor, cond: Cond = None) -> Tensor:
        """A lower bound (B,) of the log-probability of each sample, in nats.

        Args:
            x: (B, C, *S), whole numbers of any dtype.
            cond: the condition of these samples.
        """
        value, log_q = self.dequantize(x)
        return (
            self.flow.log_prob(value, cond) - log_q - math.prod(x.shape[1:]) * math.log(self.levels)
        )

    def bits_per_dimension(self, x: Tensor, cond: Cond = None) -> Tensor:
        """-log₂ P(x | c)/D (B,): an upper bound of what one number of x costs to transmit."""
        return -self.log_prob(x, cond) / (math.prod(x.shape[1:]) * math.log(2))

    def dequantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x + u)/levels (B, C, *S), strictly between 0 and 1, and log q(u | x) (B,) for a draw of
        u."""
        x = self._whole(x)
        if self.noise is None:
            u, log_q = torch.rand_like(x), x.new_zeros(x.shape[0])
        else:
            shape = tuple(x.shape[1:])
            w, log_q = self.noise.rsample_and_log_prob(self._seen(x), shape=shape)
            u, log_q = w.sigmoid(), log_q - _log_slope(w)
        # 255 + u rounds to 256 for one u of 130,000, and u itself may be 0.
        least = torch.finfo(x.dtype).eps / 2
        return ((x + u) / self.levels).clamp(least / self.levels, 1 - least), log_q

    def sample(
        self,
        cond: Cond = None,
        *,
        num_samples: int | None = None,
        shape: Shape | None = None,
        temperature: Temperature = 1.0,
    ) -> Tensor:
        """Whole numbers (int64) in 0 … levels - 1; arguments and shapes are those of `Flow.sample`.
        Where the flow leaves [0, 1], it is the number at the end.

        Raises:
            ValueError: the flow gives NaN; and as `Flow.sample`.
        """
        with torch.no_grad():
            value = self.flow.sample(
                cond, num_samples=num_samples, shape=shape, temperature=temperature
            )
        if value.isnan().any():
            raise ValueError("Dequantized.sample: expected numbers from the flow, got NaN")
        return (value * self.levels).floor().clamp(0, self.levels - 1).long()

    def inputs(self, x: Tensor, cond: Cond) -> Iterator[tuple[nn.Module, Tensor, Cond]]:
        if self.noise is not None:
            whole = self._whole(x)
            u = torch.rand_like(whole).clamp(1e-6, 1 - 1e-6)
            yield self.noise, u.logit(), self._seen(whole)
        yield self.flow, self.dequantize(x)[0].detach(), cond

    def _seen(self, x: Tensor) -> Tensor:
        """x as the noise's flow sees it, in (-1, 1)."""
        return (2 * x + 1) / self.levels - 1

    def _whole(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.is_complex() or x.dtype == torch.bool:
            came = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"Dequantized: expected a tensor of whole numbers, got {came}")
        if x.dim() < 2:
            raise ValueError(f"Dequantized: expected x (B, C, *S), got {tuple(x.shape)}")
        # In float32, x + u with more levels would have little left of u, then of x.
        enough = torch.float32 if self.levels <= 2**16 else torch.float64
        whole = x.to(torch.promote_types(x.dtype, enough))
        if not ((whole >= 0) & (whole < self.levels) & (whole == whole.floor())).all():
            raise ValueError(
                f"Dequantized: expected whole numbers in 0 … {self.levels - 1}, got values from "
                f"{whole.min().item():.6g} to {whole.max().item():.6g}"
                + ("" if (whole == whole.floor()).all() else ", not all of them whole")
            )
        return whole

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


def _log_slope(w: Tensor) -> Tensor:
    """Σ log σ'(w) (B,) of the sigmoid."""
    return (F.logsigmoid(w) + F.logsigmoid(-w)).flatten(1).sum(1)
