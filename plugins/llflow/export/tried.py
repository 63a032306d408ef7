"""What was exported is tried before it is written: whether it computes what the model does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from llflow.atomic import write_atomically
from llflow.distribution.given import prepared
from llflow.enhancement import enhance
from llflow.errors import LLFlowError
from llflow.network.model import LLFlow
from llflow.picture import preprocess

SIZES = ((45, 70), (70, 45), (16, 24))  # others than the one that it was exported with
TOLERANCE = 1e-4


class NotTheSame(LLFlowError, ArithmeticError):
    """What was exported doesn't compute what the model does."""


def pictures(model: LLFlow, run: Callable[[Tensor], Tensor]) -> float:
    """The largest difference of `run`, dark (1, 3, H, W) to bright, from `llflow.enhance`."""
    differences = [
        (run(dark[None])[0] - enhance(model, dark)).abs().max() for dark in _dark_pictures()
    ]
    return torch.stack(differences).max().item()


def encodings(model: LLFlow, run: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> float:
    """The largest difference of `run`, dark and bright to z, log-determinant and bits, from the
    flow's own; of z in units of its largest value if that is above 1, and of the log-determinant
    per dimension."""
    largest = []
    for dark in _dark_pictures():
        bright = enhance(model, dark)
        (z, logdet, bits), (own, own_logdet, own_bits) = (
            run(dark[None], bright[None]),
            encoded(model, dark, bright),
        )
        largest += [
            (z - own).abs().max() / own.abs().max().clamp(min=1),
            (logdet - own_logdet).abs().max() / own.numel(),
            (bits - own_bits).abs().max(),
        ]
    return torch.stack(largest).max().item()


@torch.no_grad()
def encoded(model: LLFlow, dark: Tensor, bright: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latent, log-determinant and bits per dimension of pictures (3, H, W), by the flow itself."""
    given = prepared(model, dark)
    cond = given.condition(model, (slice(None), slice(None)))
    z, logdet = model.flow.encode(preprocess.pad(bright)[None], cond)
    log_prob = model.flow.base(cond).log_prob(z) + logdet
    return z, logdet, -log_prob / (z.numel() * math.log(2))


def written(path: Path, content: bytes, difference: float, *, overwrite: bool) -> float:
    """Write what was tried, and say how far it is from the model.

    Raises:
        NotTheSame: that is more than 1e-4, or NaN; nothing is written.
        FileExistsError: a file is there that may not be overwritten.
        OSError: folder or disk refuses.
    """
    if not difference <= TOLERANCE:
        raise NotTheSame(
            f"{path}: expected results within {TOLERANCE:g} of the model's, got {difference:.2g}; "
            "nothing is written"
        )
    write_atomically(path, lambda file: file.write(content), overwrite=overwrite)
    return difference


def _dark_pictures() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        yield 0.2 * torch.rand(3, *size, generator=generator)
