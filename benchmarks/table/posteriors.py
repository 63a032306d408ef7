"""Simulation-based inference: can a classifier tell a flow's posterior from the true one?

C2ST, from 0.5, where it can't, to 1. A seed is a set of 10,000 simulations, a training, and the
published observation of its number, so that ten seeds are the ten observations of the published
figures, which are of neural posterior estimation by a spline flow (`simulators.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from c2st import c2st
from inference import learned
from likelihood import Diverged
from part import Part
from references import OBSERVATIONS, reference
from simulators import SIMULATORS, Simulator
from splines import SPLINES
from torch import Tensor


def measure(task: str, peer: str, seed: int, quick: bool) -> dict[str, Any]:
    observed, truth = reference(task, seed % OBSERVATIONS + 1)
    truth = truth[:20] if quick else truth
    posterior = learned(task, peer, seed, quick)
    draws, accepted = within(
        posterior.simulator, lambda count: posterior.draw(observed, count), len(truth)
    )
    return {"value": c2st(truth, draws), "accepted": accepted, **asdict(posterior.trained)}


@torch.no_grad()
def within(simulator: Simulator, draw: Callable[[int], Tensor], count: int) -> tuple[Tensor, float]:
    """So many draws that the prior supports, and the share of such, as the published figures have
    them.

    Raises:
        Diverged: there are hardly any.
    """
    kept, drawn = [], 0
    while sum(map(len, kept)) < count:
        draws = draw(count)
        kept.append(draws[simulator.supports(draws) & draws.isfinite().all(1)])
        drawn += count
        if sum(map(len, kept)) < drawn / 100:
            raise Diverged(f"{sum(map(len, kept))} of {drawn} draws are within the prior")
    together = torch.cat(kept)
    return together[:count], len(together) / drawn


PART = Part(
    "posteriors", {task: list(SPLINES) for task in SIMULATORS}, measure, looked_at=frozenset({0})
)
