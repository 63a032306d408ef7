"""What an autoregressive map of tokens does back: one token after the other, or many in rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit.contract import zero_logdet
from flowkit.elementwise import Elementwise, apply
from flowkit.nets.causal_transformer import Decoding


def by_places(how: Elementwise, decoding: Decoding, y: Tensor) -> tuple[Tensor, Tensor]:
    """x and log|det dx/dy| (B,) for tokens y (B, T, C) in order, one after the other."""
    found, logdet = [], zero_logdet(y)
    before = y[:, :0]
    for value in y.unbind(1):
        params = decoding.ahead(before)[:, 0]
        decoding.keep(1)
        x, slope = apply(how, value, params, inverse=True)
        found.append(x)
        logdet, before = logdet + slope, x[:, None]
    return torch.stack(found, dim=1), logdet


def by_rounds(
    how: Elementwise, decoding: Decoding, y: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Likewise, but all tokens at once from a guess, again and again: Jacobi's iteration.

    In each round the first token that isn't settled yet gets its value, whatever was guessed for
    those behind it. It settles, and so do those next to it that move by no more than `tolerance`,
    relative to the largest value of their sample; later rounds are about the others alone.
    """
    x, logdet, done = y, zero_logdet(y), 0
    while done < y.shape[1]:
        params = decoding.ahead(x[:, max(done - 1, 0) : -1])
        found, slope = apply(how, y[:, done:].flatten(0, 1), params.flatten(0, 1), inverse=True)
        found, slope = found.view_as(y[:, done:]), slope.reshape(y.shape[0], -1)
        moved = (found - x[:, done:]).abs().amax(2)
        x = torch.cat([x[:, :done], found], dim=1)
        least = tolerance * x.abs().flatten(1).amax(1, keepdim=True)
        still = (moved <= least).all(0)
        settled = max(int(still.cumprod(0).sum()), 1)
        logdet = logdet + slope[:, :settled].sum(1)
        decoding.keep(settled)
        done += settled
    return x, logdet
