"""Compile every kernel for GPUs that aren't here, and print what became of it as JSON.

Runs in a process of its own: what interprets kernels can't compile them.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from flowkit.ops.coupling import triton as coupling
from flowkit.ops.linear import triton as linear
from flowkit.ops.spline import triton as spline
from flowkit.ops.spline.knots import Knots

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
SIGMOID = {"EXPONENTIAL": False, "FIRST": 2.0, "FLOOR": 1e-4}
EXPONENTIAL = {"EXPONENTIAL": True, "FIRST": 2.0, "FLOOR": 0.0}


def couplings():
    """(name, kernel, types of its pointers, constants, warps)"""
    fp32 = "*fp32"
    for dtype, pointer in TYPES.items():  # fp16 is as wide as bf16
        for name, scale in (("sigmoid", SIGMOID), ("exponential", EXPONENTIAL)):
            for inverse in (False, True):
                constants = {
                    "INVERSE": inverse,
                    "BLOCK": coupling.block(10**6, torch.empty(0, dtype=dtype)),
                    **scale,
                }
                case = f"{'inverse' if inverse else 'forward'} {name} {pointer[1:]}"
                pointers = {"params": pointer, "x": fp32, "y": fp32, "partial": fp32}
                yield f"coupling {case}", coupling._couple, pointers, constants, coupling.WARPS
                pointers = {
                    **dict.fromkeys(("grad", "grad_logdet", "y", "grad_x"), fp32),
                    **dict.fromkeys(("params", "grad_params"), pointer),
                }
                yield (
                    f"coupling backward of {case}",
                    coupling._couple_backward,
                    pointers,
                    constants,
                    coupling.WARPS,
                )


def linear_maps():
    for channels in (12, 24, 48, 192):
        size = linear.tiles(channels)
        # One TF32 product for comparison: what is as exact as float32 takes three.
        for precision in ("tf32x3", "tf32"):
            shared = {"PRECISION": precision, "ROWS": size.rows}
            yield (
                f"linear {channels} {precision}",
                linear._multiply,
                dict.fromkeys(("x", "weight", "bias", "y"), "*fp32"),
                {
                    **shared,
                    "BIAS": True,
                    "CHANNELS": channels,
                    "DEPTH": size.depth,
                    "PLACES": size.places,
                },
                size.warps,
            )
            yield (
                f"linear weight gradient {channels} {precision}",
                linear._weight_gradient,
                dict.fromkeys(("grad", "x", "weight_partial", "bias_partial"), "*fp32"),
                {**shared, "PLACES": size.weight_places},
                size.warps,
            )


def splines():
    fp32 = "*fp32"
    for bins, ends, dtype, size, inverse in (
        (8, "identity", torch.float32, 4096, False),  # pictures
        (8, "identity", torch.bfloat16, 4096, True),
        (8, "straight", torch.float32, 16, True),  # vectors, several in a block
        (8, "circular", torch.bfloat16, 16, False),
    ):
        knots = Knots(bins, -5.0, 5.0, 1e-3, ends)
        x, params = torch.empty(2, size), torch.empty(2, knots.count, size)
        constants = spline._shapes(x, params, inverse, knots)[2]
        warps = constants.pop("num_warps")
        constants["BLOCK"] = spline.block(10**6, bins)
        pointer = TYPES[dtype]
        case = f"{'inverse' if inverse else 'forward'} {bins} {ends} {pointer[1:]}"
        pointers = {"params": pointer, "x": fp32, "y": fp32, "log_slope": fp32}
        yield f"spline {case}", spline._transform, pointers, constants, warps
        pointers = {
            **dict.fromkeys(("grad", "grad_log", "x", "grad_x"), fp32),
            **dict.fromkeys(("params", "grad_params"), pointer),
        }
        name = f"spline backward of {case}"
        yield name, spline._transform_backward, pointers, constants, warps


def compiled(kernel, pointers, constants, warps, capability):
    """Sizes are taken to be multiples of 16, as those of pictures of a multiple of 32 are."""
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names
    }
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={
            (i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in constants
        },
    )
    return triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps}
    )


def report(result, capability):
    arch = f"sm_{capability}{'a' if capability >= 90 else ''}"
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder, "kernel.ptx")
        ptx.write_text(result.asm["ptx"])
        told = subprocess.run(
            [get_ptxas(capability).path, "-v", f"--gpu-name={arch}", ptx, "-o", f"{folder}/cubin"],
            check=True,
            capture_output=True,
            text=True,
        ).stderr
    ptx = result.asm["ptx"]
    wide = r"ld\.global\S*\.v4\.b32|cp\.async\S+ \[[^]]*\], \[[^]]*\], (?:0x10|16)\b"
    return {
        "shared": result.metadata.shared,
        "registers": int(re.search(r"Used (\d+) registers", told)[1]),
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", told))),
        "loads": len(re.findall(r"ld\.global|cp\.async\.c", ptx)),
        "wide loads": len(re.findall(wide, ptx)),
        "tf32 products": len(re.findall(r"mma\S*tf32", ptx)),
    }


if __name__ == "__main__":
    capabilities = [int(argument) for argument in sys.argv[1:]] or [80, 90]
    found = {}
    for name, *case in (*couplings(), *linear_maps(), *splines()):
        for capability in capabilities:
            found[f"{name} sm_{capability}"] = report(compiled(*case, capability), capability)
            print(name, capability, found[f"{name} sm_{capability}"], file=sys.stderr, flush=True)
    print(json.dumps(found))
