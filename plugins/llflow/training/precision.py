"""In which precision encoder and nets compute."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "float32", "bf16")


def computes_in_bf16(device: torch.device) -> bool:
    """Whether convolutions in bf16 run on units of the device that are made for it.

    Of a CPU its features say so: AVX512-bf16, AMX, or Arm's bf16. Without them oneDNN still takes
    bf16, converts it, and is slower than in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    return False


def precision_on(device: torch.device, precision: str, keep: str) -> str:
    """What "auto" means there, "float32" or "bf16"; any other precision is itself.

    Steps that the backward pass inverts (`keep` is "nothing") need float32.
    """
    if precision != "auto":
        return precision
    return "bf16" if keep != "nothing" and computes_in_bf16(device) else "float32"
