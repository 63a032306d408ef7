"""Simulation-based inference: -log q of parameters given their data, of simulations to come.

The same trainings as for C2ST, by 10,000 other simulations, in nats: how good a posterior is on
average over what may be observed, where C2ST is about one observation.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from inference import SIMULATIONS, learned
from part import Part
from simulators import SIMULATORS
from splines import SPLINES


def measure(task: str, peer: str, seed: int, quick: bool) -> dict[str, Any]:
    posterior = learned(task, peer, seed, quick)
    torch.manual_seed(1_000_000 + seed)
    parameters = posterior.simulator.prior(200 if quick else SIMULATIONS)
    value = posterior.nll(parameters, posterior.simulator.data(parameters))
    return {"value": value, **asdict(posterior.trained)}


PART = Part(
    "simulations", {task: list(SPLINES) for task in SIMULATORS}, measure, looked_at=frozenset({0})
)
