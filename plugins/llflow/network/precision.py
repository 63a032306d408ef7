"""In which precision encoder and conditioner nets compute; latents and log-dets stay float32."""

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


def precision_on(device: torch.device, precision: str) -> str:
    """What "auto" means there: "bf16" where the device computes in it, else "float32"; any other
    precision is itself."""
    if precision != "auto":
        return precision
    return "bf16" if computes_in_bf16(device) else "float32"


def networks_in(precision: str, device: torch.device) -> torch.autocast:
    """A context in which networks compute in `precision` on the device; "auto" is bf16 where it
    computes in that.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"expected precision among {', '.join(PRECISIONS)}, got {precision!r}")
    enabled = precision_on(device, precision) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
