"""Steps of Adam that leave out what isn't finite, which every training shares."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

RECENT, TOO_MANY = 100, 10
"""More than TOO_MANY of the RECENT steps that aren't finite are an error."""


class Record(Protocol):
    """What a training did: how many steps, and how many of them changed nothing."""

    steps: int
    skipped: int


class Descent:
    """Adam on what `module` learns, its gradients shortened to the norm `clip`.

    A step whose loss or gradient isn't finite changes nothing and is counted.

    Args:
        who: trains, for what is said.
        record: where steps are counted.
        annealed: the learning rate falls to 0 along half a cosine over so many steps; None: never.
    """

    def __init__(
        self,
        who: str,
        module: nn.Module,
        record: Record,
        learning_rate: float,
        clip: float,
        annealed: int | None,
    ) -> None:
        self.learned = [p for p in module.parameters() if p.requires_grad]
        if not self.learned:
            raise ValueError(f"{who}: expected a density with parameters to learn, got none")
        self.who, self.record = who, record
        self.learning_rate, self.clip, self.annealed = learning_rate, clip, annealed
        self.device = self.learned[0].device
        self.adam = torch.optim.Adam(self.learned, lr=learning_rate)
        self.recent: deque[bool] = deque(maxlen=RECENT)

    def step(self, loss: Tensor) -> bool:
        """Whether there was a step down the gradient of a loss ().

        Raises:
            FloatingPointError: there were too many without.
        """
        self.adam.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.learned, self.clip)
        finite = bool(loss.isfinite() & norm.isfinite())
        if finite:
            self.adam.param_groups[0]["lr"] = self.rate()
            self.adam.step()
        self.count(finite)
        return finite

    def rate(self) -> float:
        """The learning rate of this step."""
        if self.annealed is None:
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * self.record.steps / self.annealed)) / 2

    def count(self, finite: bool) -> None:
        self.record.steps += 1
        self.record.skipped += not finite
        self.recent.append(not finite)
        if sum(self.recent) > TOO_MANY:
            raise FloatingPointError(
                f"{self.who}: expected finite losses and gradients, got {sum(self.recent)} of the "
                f"last {len(self.recent)} steps without (step {self.record.steps}); lower "
                "learning_rate, bring the data to mean 0 and deviation 1 (Standardize, ActNorm), "
                "or look which samples have log_prob -inf"
            )

    def state(self) -> dict[str, Any]:
        """What `load` goes on from."""
        return {"adam": self.adam.state_dict(), "recent": list(self.recent)}

    def load(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.recent.extend(state["recent"])


@contextmanager
def seeded(device: torch.device, seed: int, part: int) -> Iterator[None]:
    """Random numbers that depend on seed and part alone; afterwards they go on as before."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((1_000_003 * seed + part) % 2**63)
        yield
