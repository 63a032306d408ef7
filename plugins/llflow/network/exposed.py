"""The picture at exposure 1: what makes brightness a factor, exactly."""

from __future__ import annotations

from torch import Tensor

from flowkit import Bijection, Cond, Example, positions, require_channels, wide


class Exposed(Bijection):
    """y = x·exp(-cond),  log|det| = -C·|S|·cond, the condition (B, 1) being the log exposure.

    What follows sees the picture as if its mean were 1, whatever the exposure is.

    Raises (on use):
        ValueError: the condition has another shape, or is None.
    """

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._times(x, -self._log_exposure(x, cond))

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        return self._times(y, self._log_exposure(y, cond))

    def _log_exposure(self, x: Tensor, cond: Cond) -> Tensor:
        require_channels(self, x)
        if not isinstance(cond, Tensor) or cond.shape != (len(x), 1):
            came = tuple(cond.shape) if isinstance(cond, Tensor) else type(cond).__name__
            raise ValueError(
                f"Exposed: expected the log exposure as a condition ({len(x)}, 1), got {came}"
            )
        return cond.to(wide(x).dtype)

    def _times(self, x: Tensor, log_factor: Tensor) -> tuple[Tensor, Tensor]:
        factor = log_factor.exp().reshape(-1, *[1] * (x.dim() - 1))
        return wide(x) * factor, x.shape[1] * positions(x) * log_factor[:, 0]

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls, (3, 2, 4), (1,))]
