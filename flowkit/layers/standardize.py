"""Standardize: the data's own mean and standard deviation, as fixed numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    Shape,
    along_channels,
    positions,
    require_at_least,
    require_channels,
    require_shape,
    same_logdet,
    wide,
    wide_dtype,
)
from flowkit.statistics import normalizing


class Standardize(Bijection):
    """y = (x - mean)/std per channel,  log|det| = -|S|·Σ log std, |S| the number of places.

    Mean and deviation are buffers: saved with the flow and not trained. They come from all data
    (`Standardize.from_data(x)`), from the caller, or, where neither is said, from the batch that
    `flowkit.initialize` sees; before that the layer is the identity. What was said stays.

    Args:
        channels: C of the input (B, C, *S).
        mean, std: (C,), finite, std > 0; both or neither.

    Raises:
        TypeError: mean or std aren't tensors.
        ValueError: they aren't as above.

    >>> x = 50 + 10 * torch.rand(64, 2)
    >>> Standardize.from_data(x)(x)[0].mean().abs() < 1e-4
    tensor(True)
    """

    conditional = False
    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, *, mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:
        super().__init__()
        require_at_least(self, "channels", channels, 1)
        self.channels = channels
        self.said = mean is not None or std is not None
        if not self.said:
            mean, std = torch.zeros(channels), torch.ones(channels)
        for value in (mean, std):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    "Standardize: expected mean and std as tensors, got "
                    f"{type(value).__name__} (torch.as_tensor makes one)"
                )
        if mean is None or std is None or not mean.shape == std.shape == (channels,):
            came = [None if value is None else tuple(value.shape) for value in (mean, std)]
            raise ValueError(
                f"Standardize: expected mean and std of shape ({channels},), got {came}"
            )
        if not (mean.isfinite() & std.isfinite() & (std > 0)).all():
            raise ValueError(
                f"Standardize: expected finite numbers and std > 0, got {mean.tolist()} and "
                f"{std.tolist()}"
            )
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", std.detach().clone())

    @classmethod
    def from_data(cls, x: Tensor) -> Standardize:
        """The layer for data x (B, C, *S). A channel that is constant keeps its scale."""
        require_channels(cls.__name__, x)
        bias, log_scale = normalizing(x)
        return cls(x.shape[1], mean=(-bias).to(x), std=(-log_scale).exp().to(x))

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        mean, std = self._numbers_like(x)
        x = wide(x)
        return (x - along_channels(mean, x)) / along_channels(std, x), -self._logdet(x, std)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        mean, std = self._numbers_like(y)
        y = wide(y)
        return y * along_channels(std, y) + along_channels(mean, y), self._logdet(y, std)

    def _numbers_like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        require_channels(self, x, self.channels)
        dtype = wide_dtype(x)
        return self.mean.to(dtype), self.std.to(dtype)

    def _logdet(self, x: Tensor, std: Tensor) -> Tensor:
        return same_logdet(x, positions(x) * std.log().sum())

    @torch.no_grad()
    def initialize_from(self, x: Tensor) -> None:
        require_channels(self, x, self.channels)
        if not self.said:
            bias, log_scale = normalizing(x)
            self.mean.copy_(-bias)
            self.std.copy_((-log_scale).exp())

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return require_shape(self, shape, self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}"

    @classmethod
    def examples(cls) -> list[Example]:
        mean, std = torch.tensor([0.5, -1.0, 3.0]), torch.tensor([2.0, 0.1, 1.5])
        return [
            Example(lambda: cls(3, mean=mean, std=std), (3, 2, 3), name="images"),
            Example(lambda: cls(3, mean=mean, std=std), (3,), name="vectors"),
            Example(lambda: cls(3), (3,), name="not set"),
        ]
