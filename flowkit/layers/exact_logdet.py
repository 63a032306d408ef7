"""The log-determinant of 1 + J, by every entry of the Jacobian J."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def exact_logdet(g: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log|det(1 + J)| (B,) for the Jacobian J of a map g of x (B, C, *S), whose samples g doesn't
    mix: D = C·|S| derivatives and a determinant of D rows for each sample."""
    # Every sample D times, each time with another direction to differentiate in, and not
    # torch.func.jacrev, which can't be exported.
    one = torch.eye(math.prod(x.shape[1:]), dtype=x.dtype, device=x.device)
    along = one.repeat_interleave(x.shape[0], dim=0).unflatten(1, x.shape[1:])
    _, columns = torch.func.jvp(g, (x.repeat(len(one), *[1] * (x.dim() - 1)),), (along,))  # pyright: ignore
    jacobian = columns.reshape(len(one), x.shape[0], len(one)).permute(1, 2, 0)
    return torch.linalg.slogdet(one + jacobian).logabsdet
