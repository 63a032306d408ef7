"""Maximum likelihood, the same for every library's flow."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import torch
from density import Density
from torch import Tensor, nn


class Diverged(ArithmeticError):
    """Too many steps weren't finite."""


@dataclass(frozen=True)
class Training:
    """How every flow of a part is trained.

    Attributes:
        epochs: passes over the data; the learning rate falls over them along half a cosine.
        batch: samples in a step.
        rate: the first learning rate of Adam.
        patience: epochs without a better one after which to stop.
        validation: share of the samples that is held out.
        clip: largest norm of a gradient.
    """

    epochs: int
    batch: int
    rate: float
    patience: int = 20
    validation: float = 0.1
    clip: float = 5.0


@dataclass(frozen=True)
class Trained:
    """What a training took."""

    steps: int
    seconds: float
    validation: float
    parameters: int


def train(density: Density, x: Tensor, cond: Tensor | None, how: Training) -> Trained:
    """Train in place; the weights are those of the epoch of the best validation. Processor time
    is counted of the first batch's initialisation and of the steps, not of validation.

    A step whose loss or gradient isn't finite is skipped.

    Raises:
        Diverged: a tenth of the steps weren't finite.
    """
    order, count = torch.randperm(len(x)), math.ceil(how.validation * len(x))
    held, rows = order[:count], order[count:]

    def some(rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return x[rows], None if cond is None else cond[rows]

    began = time.process_time()
    density.first(*some(rows[: how.batch]))
    taken = time.process_time() - began
    learned = [p for p in density.module.parameters() if p.requires_grad]
    adam = torch.optim.Adam(learned, how.rate)
    per_epoch = math.ceil(len(rows) / how.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, how.epochs * per_epoch)
    best, since, steps, skipped = math.inf, 0, 0, 0
    weights = copy.deepcopy(density.module.state_dict())
    for _ in range(how.epochs):
        density.module.train()
        for batch in rows[torch.randperm(len(rows))].split(how.batch):
            began = time.process_time()
            adam.zero_grad()
            loss = -density.log_prob(*some(batch)).mean()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(learned, how.clip)
            if loss.isfinite() and norm.isfinite():
                adam.step()
            else:
                skipped += 1
            schedule.step()
            taken += time.process_time() - began
            steps += 1
        if 10 * skipped > max(steps, 100):
            raise Diverged(f"{skipped} of {steps} steps weren't finite")
        value = score(density, *some(held))
        since += 1
        if value < best:
            best, since = value, 0
            weights = copy.deepcopy(density.module.state_dict())
        if since >= how.patience:
            break
    density.module.load_state_dict(weights)
    density.module.eval()
    return Trained(steps, taken, best, sum(p.numel() for p in learned))


@torch.no_grad()
def score(density: Density, x: Tensor, cond: Tensor | None) -> float:
    """The mean of -log p, in nats; infinite where it isn't finite."""
    density.module.eval()
    pieces = [x.split(4096), [None] * len(x) if cond is None else cond.split(4096)]
    parts = [density.log_prob(*piece).double().sum() for piece in zip(*pieces, strict=False)]
    value = -(torch.stack(parts).sum() / len(x)).item()
    return value if math.isfinite(value) else math.inf
