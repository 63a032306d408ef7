"""`llflow doctor`: what is here, what runs on it, and what to set."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import shown

if TYPE_CHECKING:
    import torch

EPILOG = """\b
examples:
  llflow doctor
  llflow doctor --json > here.json
"""

PACKAGES = ("flowkit", "torch", "triton", "numpy", "pillow", "pyvips", "pyvips-binary")
EXTRAS = {  # beside those for formats: what is imported of each
    "film": ("av",),
    "serve": ("fastapi", "uvicorn", "multipart"),
    "batch": ("fsspec", "pyarrow"),
    "ray": ("ray",),
    "onnx": ("onnx", "onnx_ir", "onnxscript", "onnxruntime"),
    "hub": ("huggingface_hub",),
    "metrics": ("lpips", "kornia", "scipy", "pooch"),
    "tensorboard": ("tensorboard",),
}
FEATURES = ("avx2", "avx512_f", "avx512_bf16", "amx_tile", "amx_bf16", "neon", "bf16", "sve_bf16")


@click.command("doctor", epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool) -> int:
    """Say what is here, what runs on it, and what to set.

    Ends with 1 if a format that needs no further package can't be written and read.
    """
    found = examined()
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))
    return 1 if any(said["problem"] for said in found["formats"].values()) else 0


def examined() -> dict[str, Any]:
    """What there is, as JSON can hold it."""
    import torch

    from llflow.commands.options import device_of

    device = device_of("auto")
    return {
        "versions": {"python": platform.python_version()} | _versions(),
        "processor": _processor(),
        "memory": _memory(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "kernels": _kernels(device),
        "formats": _formats(),
        "missing": _missing(),
        "extras": _extras(),
        "weights": _weights(),
        "suggested": _suggested(device),
    }


def _versions() -> dict[str, str | None]:
    import pyvips

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found | {"libvips": ".".join(str(pyvips.version(part)) for part in range(3))}


def _processor() -> dict[str, Any]:
    import torch

    told = torch.cpu.get_capabilities()
    return {
        "name": told.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": told.get("num_physical_cores"),
        "threads": torch.get_num_threads(),
        "features": [name for name in FEATURES if told.get(name)],
    }


def _memory() -> dict[str, int | None]:
    from llflow import memory

    return {"available": memory.available()}


def _gpu(index: int) -> dict[str, Any]:
    import torch

    told = torch.cuda.get_device_properties(index)
    capability = f"{told.major}.{told.minor}"
    return {"name": told.name, "memory": told.total_memory, "capability": capability}


def _kernels(device: torch.device) -> dict[str, dict[str, str]]:
    """Which implementation of each op of the network runs there, and why."""
    import torch

    from flowkit.ops import affine_coupling_choice, linear_map_choice

    x = torch.zeros(1, 12, 8, 8, device=device)
    chosen = {
        "affine_coupling": affine_coupling_choice(x, x),
        "linear_map": linear_map_choice(x, torch.eye(12, device=device)),
    }
    return {name: {"runs": one.name, "because": one.reason} for name, one in chosen.items()}


def _formats() -> dict[str, dict[str, str | None]]:
    """Whether a pixel can be written in each format and read again."""
    import torch

    from llflow.picture import files

    found = {}
    with TemporaryDirectory(prefix="llflow_") as folder:
        for name in files.FORMATS:
            path = Path(folder) / f"pixel{files.SUFFIXES[name][0]}"
            problem = None
            try:
                files.write(path, files.Picture(torch.full((3, 1, 1), 0.5)))
                files.read(path)
            except (files.PictureError, OSError) as error:
                problem = str(error)
            found[name] = {"problem": problem}
    return found


def _missing() -> dict[str, str | None]:
    """What has to be installed for each format that is only read, or None where it is."""
    from llflow.picture.optional import EXTRAS

    return {
        kind: None if extra.installed else f"pip install 'flowkit[{extra.name}]'"
        for kind, extra in EXTRAS.items()
    }


def _extras() -> dict[str, str | None]:
    """What has to be installed for each extra, or None where it is."""
    return {
        name: None if all(map(find_spec, modules)) else f"pip install 'flowkit[{name}]'"
        for name, modules in EXTRAS.items()
    }


def _weights() -> dict[str, str]:
    from llflow.network import checkpoint

    return {
        path.stem: checkpoint.digest(path) for path in checkpoint.DEFAULTS.glob("*.safetensors")
    }


def _suggested(device: torch.device) -> dict[str, str]:
    import torch

    from llflow.network.precision import precision_on

    # Of those that the machine has, this process may be held to few.
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    cores = min(torch.cpu.get_capabilities().get("num_physical_cores") or 0, len(allowed(0)))
    suggested = {
        "--device": device.type,
        "--precision": precision_on(device, "auto"),
    }
    if device.type == "cpu" and torch.get_num_threads() < cores:
        suggested["OMP_NUM_THREADS"] = str(cores)
    return suggested


def _lines(found: Mapping[str, Any]) -> list[str]:
    processor, memory = found["processor"], found["memory"]
    versions = ", ".join(f"{name} {known}" for name, known in found["versions"].items() if known)
    features = ", ".join(processor["features"]) or "none of those that matter"
    lines = [
        f"versions    {versions}",
        f"processor   {processor['name']}, {processor['cores']} cores, "
        f"{processor['threads']} threads; {features}",
        f"memory      {_gigabytes(memory['available'])} to be had",
    ]
    lines += [
        f"gpu         {gpu['name']}, {_gigabytes(gpu['memory'])}, capability {gpu['capability']}"
        for gpu in found["gpus"]
    ] or ["gpu         none that PyTorch sees"]
    lines += [
        f"kernels     {name}: {one['runs']} ({one['because']})"
        for name, one in found["kernels"].items()
    ]
    fine = [name for name, said in found["formats"].items() if not said["problem"]]
    lines.append(f"formats     {', '.join(fine)} are read and written")
    lines += [
        f"            {name}: {said['problem']}"
        for name, said in found["formats"].items()
        if said["problem"]
    ]
    lines += [
        f"            {kind}: {how or 'is read'}" for kind, how in sorted(found["missing"].items())
    ]
    there = [name for name, how in found["extras"].items() if how is None]
    lines.append(f"extras      {', '.join(there) or 'none of the others'} installed")
    lines += [f"            {name}: {how}" for name, how in found["extras"].items() if how]
    lines += [f"weights     {name} {digest}" for name, digest in sorted(found["weights"].items())]
    lines.append(
        "suggested   "
        + " ".join(
            f"{name}{' ' if name[0] == '-' else '='}{value}"
            for name, value in found["suggested"].items()
        )
    )
    return [shown(line) for line in lines]


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"
