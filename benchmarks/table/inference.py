"""A flow of a simulator's parameters given its data, trained on 10,000 simulations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from density import Density
from likelihood import Trained, Training, score, train
from simulators import SIMULATORS, Simulator
from splines import SPLINES
from torch import Tensor

SIMULATIONS = 10_000
TRAINING = Training(epochs=40, batch=512, rate=4e-3)


@dataclass(frozen=True)
class Posterior:
    """A density of standardised parameters given standardised data, and what it was trained like.

    Attributes:
        parameters, data: (mean, deviation) of the simulations.
    """

    simulator: Simulator
    density: Density
    parameters: tuple[Tensor, Tensor]
    data: tuple[Tensor, Tensor]
    trained: Trained

    def nll(self, parameters: Tensor, data: Tensor) -> float:
        """The mean of -log q(parameters | data), in nats."""
        x, cond = _standardized(parameters, self.parameters), _standardized(data, self.data)
        return score(self.density, x, cond) + self.parameters[1].log().sum().item()

    def draw(self, data: Tensor, count: int) -> Tensor:
        """(count, P) given the data (1, D)."""
        mean, deviation = self.parameters
        return self.density.sample(_standardized(data, self.data), count) * deviation + mean


def learned(task: str, peer: str, seed: int, quick: bool) -> Posterior:
    simulator = SIMULATORS[task]
    how = Training(epochs=1, batch=64, rate=1e-3) if quick else TRAINING
    torch.manual_seed(seed)
    parameters = simulator.prior(200 if quick else SIMULATIONS)
    data = simulator.data(parameters)
    torch.manual_seed(seed)
    density = SPLINES[peer](parameters.shape[1], data.shape[1])
    of_parameters, of_data = ((x.mean(0), x.std(0)) for x in (parameters, data))
    trained = train(
        density, _standardized(parameters, of_parameters), _standardized(data, of_data), how
    )
    return Posterior(simulator, density, of_parameters, of_data, trained)


def _standardized(x: Tensor, by: tuple[Tensor, Tensor]) -> Tensor:
    return (x - by[0]) / by[1]
