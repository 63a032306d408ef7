"""In which precision a training computes encoder and nets."""

from __future__ import annotations

import torch

from llflow.network import precision as networks


def precision_on(device: torch.device, precision: str, keep: str) -> str:
    """What "auto" means there, "float32" or "bf16"; any other precision is itself.

    Steps that the backward pass inverts (`keep` is "nothing") need float32.
    """
    if precision == "auto" and keep == "nothing":
        return "float32"
    return networks.precision_on(device, precision)
