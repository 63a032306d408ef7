"""The definition of the rational-quadratic spline, in plain PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from flowkit.ops.spline.knots import Knots
from flowkit.ops.spline.straight import straight_on


def rational_quadratic(x: Tensor, params: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    return _map(x, params, knots, inverse=False)


def rational_quadratic_inverse(y: Tensor, params: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    return _map(y, params, knots, inverse=True)


def _map(x: Tensor, params: Tensor, knots: Knots, *, inverse: bool) -> tuple[Tensor, Tensor]:
    bins = Bins.of(params, knots)
    function = bins.inverse if inverse else bins.forward
    low, high = knots.low, knots.high
    if knots.ends == "circular":
        turned = (high - low) * ((x - low) / (high - low)).floor()
        y, log_slope = function(x - turned)
        return y + turned, log_slope
    if knots.ends == "identity":
        inside = (x > low) & (x < high)
        y, log_slope = function(x.where(inside, (low + high) / 2))
        return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)
    first, last = ((-1 if inverse else 1) * bins.slope[:, end].log() for end in (0, -1))
    return straight_on(function, x, low, high, (low, first), (high, last))


class Bins(NamedTuple):
    """A monotone map of an interval onto itself, by K rational-quadratic pieces for each element.

    left, width, bottom and height are (B, K, n, *S), slope (B, K + 1, n, *S); no result is outside
    of [low, high].
    """

    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    slope: Tensor
    low: float
    high: float

    @staticmethod
    def of(params: Tensor, knots: Knots) -> Bins:
        count, low, high, least = knots.bins, knots.low, knots.high, knots.least
        widths, heights, slopes = params.split([count, count, knots.count - 2 * count], dim=1)
        if knots.ends == "circular":
            slopes = torch.cat([slopes, slopes[:, :1]], dim=1)
        slope = least + F.softplus(slopes + knots.offset)
        if knots.ends == "identity":
            end = torch.ones_like(slopes[:, :1])
            slope = torch.cat([end, slope, end], dim=1)
        width, height = (
            (high - low) * (least + (1 - least * count) * raw.softmax(1))
            for raw in (widths, heights)
        )
        left, bottom = (low + (size.cumsum(1) - size) for size in (width, height))
        return Bins(left, width, bottom, height, slope, low, high)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx for x (B, n, *S) in the interval."""
        x0, w, y0, h, d0, d1 = self._at(x, self.left)
        s, xi = h / w, _within((x - x0) / w, 0, 1)
        top = s * xi**2 + d0 * xi * (1 - xi)
        y = y0 + h * top / (s + (d0 + d1 - 2 * s) * xi * (1 - xi))
        return _within(y, self.low, self.high), _log_slope(xi, s, d0, d1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dy for y (B, n, *S) in the interval."""
        x0, w, y0, h, d0, d1 = self._at(y, self.bottom)
        s, up = h / w, y - y0
        curve = up * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + curve, h * d0 - curve, -s * up
        # The larger root in the form that never cancels, eq. 29 f.; negative only by rounding. At
        # 0 itself the root's derivative would be infinite.
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        xi = _within(2 * c / (-b - root), 0, 1)
        return _within(x0 + xi * w, self.low, self.high), -_log_slope(xi, s, d0, d1)

    def _at(self, value: Tensor, starts: Tensor) -> list[Tensor]:
        """Left, width, bottom, height and the slopes at both ends of the bin of each element."""
        index = (value[:, None] >= starts[:, 1:]).sum(1, keepdim=True)
        parts = [*self[:4], self.slope[:, :-1], self.slope[:, 1:]]
        return [part.gather(1, index)[:, 0] for part in parts]


def _within(value: Tensor, low: float, high: float) -> Tensor:
    """value in [low, high], beyond which it may be by rounding; its derivative stays at the ends
    too."""
    return value.clamp(low, high).detach() + (value - value.detach())


def _log_slope(xi: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    top = d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2
    return 2 * s.log() + top.log() - 2 * (s + (d0 + d1 - 2 * s) * xi * (1 - xi)).log()
