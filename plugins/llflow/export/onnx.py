"""The whole enhancement as an ONNX file."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from llflow.atomic import write_atomically
from llflow.enhancement import enhance
from llflow.errors import LLFlowError
from llflow.export.whole import Whole
from llflow.network.checkpoint import described
from llflow.network.model import LLFlow

PACKAGES = ("onnx", "onnx_ir", "onnxscript", "onnxruntime")
OPSET = 18
SEEN = (61, 90)  # height and width while exporting: neither is a multiple of 8
TRIED = ((45, 70), (70, 45), (16, 24))
TOLERANCE = 1e-4


class NotTheSame(LLFlowError, ArithmeticError):
    """What was exported doesn't compute what the model does."""


def save(model: LLFlow, path: Path) -> float:
    """Write `llflow.enhance` at temperature 0 as an ONNX file, which appears whole or not at all.

    Its input "dark" is (1, 3, H, W) float32, RGB in [0, 1], of any size; its output "bright" is
    like it. The graph is tried under onnxruntime, on pictures of other sizes than it was made with,
    before it is written.

    Args:
        model: on the CPU.

    Returns:
        The largest difference from `llflow.enhance` that was seen, at most 1e-4.

    Raises:
        ModuleNotFoundError: a package isn't there; the message says how to get it.
        NotTheSame: the graph's pictures are others than the model's.
        OSError: folder or disk refuses.
    """
    require_packages()
    folded = model.fold()
    content = graph_of(folded)
    difference = _difference(folded, content)
    if not difference <= TOLERANCE:  # nor where it is NaN
        raise NotTheSame(
            f"{path}: expected pictures within {TOLERANCE:g} of the model's, got {difference:.2g}; "
            "nothing is written"
        )
    write_atomically(path, lambda file: file.write(content))
    return difference


def require_packages() -> None:
    """Raise unless the packages of the extra `flowkit[onnx]` are there."""
    for package in PACKAGES:
        _imported(package)


def graph_of(folded: LLFlow) -> bytes:
    """The bytes of such a file, not tried."""
    passes = _imported("onnx_ir.passes.common")
    like = torch.zeros(1, 3, *SEEN)
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        program = torch.onnx.export(
            Whole(folded),
            (like,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["dark"],
            output_names=["bright"],
            dynamic_shapes=(any_size,),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    # The optimizer names a clipped tensor's bounds after it, twice where it is clipped twice.
    passes.CommonSubexpressionEliminationPass()(program.model)
    program.optimize()
    passes.ClearMetadataAndDocStringPass()(program.model)  # paths of the machine among it
    program.model.metadata_props["llflow"] = json.dumps(_about(folded))
    return program.model_proto.SerializeToString(deterministic=True)


def _about(model: LLFlow) -> dict[str, Any]:
    return {
        "version": version("flowkit"),
        "holds": "everything between decoding and encoding of a picture file, temperature 0",
        "input": "dark: float32 (1, 3, H, W), RGB in [0, 1], any height and width",
        "output": "bright: like the input",
        "network": described(model.config),
    }


def _difference(model: LLFlow, content: bytes) -> float:
    session = _imported("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = []
    for size in TRIED:
        dark = 0.2 * torch.rand(3, *size, generator=generator)
        (bright,) = session.run(None, {"dark": dark[None].numpy()})
        largest.append((torch.from_numpy(bright[0]) - enhance(model, dark)).abs().max())
    return torch.stack(largest).max().item()


def _imported(module: str) -> Any:
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"{package} isn't installed: pip install 'flowkit[onnx]'", name=package
        ) from error
