"""bf16 where it is computed in, float32 elsewhere."""

from types import MappingProxyType

import pytest
import torch

from llflow.training.precision import precision_on

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True, "avx2": True}, "bf16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        ({"architecture": "aarch64", "bf16": True}, "bf16"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_tile": True}, "float32"),
        ({"architecture": "aarch64", "bf16": False, "sve": True}, "float32"),
        ({}, "float32"),
    ],
    ids=str,
)
def test_a_cpu_says_what_it_has(monkeypatch, features, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(features))
    assert precision_on(CPU, "auto", "all") == expected
    assert precision_on(CPU, "auto", "nothing") == "float32"  # steps are inverted
    for precision in ("float32", "bf16"):
        assert precision_on(CPU, precision, "all") == precision


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "float32")])
def test_a_gpu_that_only_emulates_bf16_does_not_count(monkeypatch, native, expected):
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert precision_on(torch.device("cuda"), "auto", "all") == expected


def test_other_devices_compute_in_float32():
    assert precision_on(torch.device("mps"), "auto", "all") == "float32"
