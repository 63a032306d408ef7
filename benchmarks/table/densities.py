"""Densities of two numbers: how many nats a flow's are above the entropy.

20,000 draws of densities that are known exactly (`toys.py`), and -log q of 50,000 others, less
their own -log p.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from likelihood import Training, score, train
from part import Part
from splines import FLOWS
from toys import TOYS

DRAWS, TEST = 20_000, 50_000
TRAINING = Training(epochs=25, batch=512, rate=3e-3)


def measure(task: str, peer: str, seed: int, quick: bool) -> dict[str, Any]:
    toy = TOYS[task]
    how = Training(epochs=1, batch=64, rate=1e-3) if quick else TRAINING
    torch.manual_seed(seed)
    x, test = toy.draw(200 if quick else DRAWS), toy.draw(200 if quick else TEST)
    torch.manual_seed(seed)
    density = FLOWS[peer](2, 0)
    mean, deviation = x.mean(0), x.std(0)
    trained = train(density, (x - mean) / deviation, None, how)
    # -log q(x) - (-log p(x)), each sample against itself, whose mean errs less than either's.
    nll = score(density, (test - mean) / deviation, None) + deviation.log().sum().item()
    above = nll + toy.log_prob(test).double().mean().item()
    return {"value": above, **asdict(trained)}


PART = Part("densities", {toy: list(FLOWS) for toy in TOYS}, measure, looked_at=frozenset({0}))
