"""Observations and draws of their true posteriors, as published within sbibm 1.1.0."""

from __future__ import annotations

import bz2
import io
import zipfile

import numpy as np
import torch
from torch import Tensor
from wheels import wheel

OBSERVATIONS = 10


def reference(task: str, observation: int) -> tuple[Tensor, Tensor]:
    """The observation (1, D), numbered from 1, and draws (10000, P) of its posterior."""
    folder = f"sbibm/tasks/{task}/files/num_observation_{observation}"
    with zipfile.ZipFile(wheel("sbibm", "1.1.0")) as file:
        seen = file.read(f"{folder}/observation.csv")
        draws = bz2.decompress(file.read(f"{folder}/reference_posterior_samples.csv.bz2"))
    return _numbers(seen), _numbers(draws)


def _numbers(content: bytes) -> Tensor:
    table = np.loadtxt(io.BytesIO(content), delimiter=",", skiprows=1, ndmin=2, dtype=np.float32)
    return torch.from_numpy(table)
