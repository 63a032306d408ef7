"""In which precision a training computes encoder and nets."""

from __future__ import annotations

import torch

from llflow.network.precision import computes_in_bf16


def precision_on(device: torch.device, precision: str, keep: str) -> str:
    """What "auto" means there, "float32" or "bf16"; any other precision is itself.

    Steps that the backward pass inverts (`keep` is "nothing") need float32.
    """
    if precision != "auto":
        return precision
    return "bf16" if keep != "nothing" and computes_in_bf16(device) else "float32"
