"""Simulation-based inference: can a classifier tell a flow's posterior from the true one?

A seed is a set of 10,000 simulations, a training, and the published observation of its number, so
that ten seeds are the ten observations of the published figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import of_flowkit
import of_nflows
import of_normflows
import of_zuko
import torch
from c2st import c2st
from likelihood import Diverged, Training, train
from part import Build, Part
from references import OBSERVATIONS, reference
from simulators import SIMULATORS, Simulator
from torch import Tensor

SIMULATIONS = 10_000
TRAINING = Training(epochs=40, batch=512, rate=4e-3)
PEERS: dict[str, Build] = {
    "flowkit": of_flowkit.spline,
    "flowkit, autoregressive": of_flowkit.autoregressive,
    "zuko": of_zuko.spline,
    "nflows": of_nflows.spline,
    "normflows": of_normflows.spline,
}


def measure(task: str, peer: str, seed: int, quick: bool) -> dict[str, Any]:
    simulator = SIMULATORS[task]
    observed, truth = reference(task, seed % OBSERVATIONS + 1)
    how = Training(epochs=1, batch=64, rate=1e-3) if quick else TRAINING
    if quick:
        truth = truth[:20]
    torch.manual_seed(seed)
    parameters = simulator.prior(200 if quick else SIMULATIONS)
    data = simulator.data(parameters)
    torch.manual_seed(seed)
    density = PEERS[peer](parameters.shape[1], data.shape[1])
    mean, deviation = parameters.mean(0), parameters.std(0)
    seen = (data.mean(0), data.std(0))
    trained = train(density, (parameters - mean) / deviation, (data - seen[0]) / seen[1], how)

    def draw(count: int) -> Tensor:
        return density.sample((observed - seen[0]) / seen[1], count) * deviation + mean

    draws, accepted = within(simulator, draw, len(truth))
    return {"value": c2st(truth, draws), "accepted": accepted, **asdict(trained)}


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


PART = Part("posteriors", {task: list(PEERS) for task in SIMULATORS}, measure)
