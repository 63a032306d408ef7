"""The enhancement, or its way back, as an ONNX file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llflow.export import tried
from llflow.export.encoding import Encoding
from llflow.export.whole import Whole
from llflow.network.checkpoint import described
from llflow.network.model import LLFlow

PACKAGES = ("onnx", "onnx_ir", "onnxscript", "onnxruntime")
OPSET = 18
SEEN = (61, 90)  # height and width while exporting: neither is a multiple of 8
PICTURE = "float32 (1, 3, H, W), RGB in [0, 1], any height and width"


def save(model: LLFlow, path: Path, *, overwrite: bool = False) -> float:
    """Write `llflow.enhance` at temperature 0 as an ONNX file, which appears whole or not at all.

    Its input "dark" is (1, 3, H, W) float32, RGB in [0, 1], of any size; its output "bright" is
    like it. The graph is tried under onnxruntime, on pictures of other sizes than it was made with,
    before it is written.

    Args:
        model: on the CPU.
        path: where to.
        overwrite: replace a file that is there.

    Returns:
        The largest difference from `llflow.enhance` that was seen, at most 1e-4.

    Raises:
        ModuleNotFoundError: a package isn't there; the message says how to get it.
        NotTheSame: the graph's pictures are others than the model's.
        FileExistsError: a file is there that may not be overwritten.
        OSError: folder or disk refuses.
    """
    require_packages()
    folded = model.fold()
    content = graph_of(folded)
    return tried.written(
        path, content, tried.pictures(folded, running(content)), overwrite=overwrite
    )


def save_encoding(model: LLFlow, path: Path, *, overwrite: bool = False) -> float:
    """Write the flow's other direction likewise: "dark" and "bright", of one size, to "z",
    "logdet" and "bits", see `Encoding`. Arguments, errors and result are those of `save`."""
    require_packages()
    folded = model.fold()
    content = encoding_graph_of(folded)
    return tried.written(
        path, content, tried.encodings(folded, running(content)), overwrite=overwrite
    )


def require_packages() -> None:
    """Raise unless the packages of the extra `flowkit[onnx]` are there."""
    for package in PACKAGES:
        _imported(package)


def graph_of(folded: LLFlow, names: tuple[str, str] = ("dark", "bright")) -> bytes:
    """The bytes of a file that makes pictures bright, not tried.

    Args:
        names: of input and output.
    """
    dark, bright = names
    about = {
        "holds": "everything between decoding and encoding of a picture file, temperature 0",
        dark: PICTURE,
        bright: f"like {dark}",
    }
    return _graph(Whole(folded), [dark], [bright], about | _network(folded))


def encoding_graph_of(folded: LLFlow) -> bytes:
    """The bytes of a file that encodes pairs of pictures, not tried."""
    about = {
        "holds": "the flow from a bright picture to its latent, given the dark one",
        "dark": PICTURE,
        "bright": "like dark",
        "z": "the latent: float32 (1, 192, H/8, W/8), rounded up; N(color map, 1) by the model",
        "logdet": "(1,), log|det dz/dx| of the padded picture",
        "bits": "(1,), -log2 p(bright | dark) per dimension of z",
    }
    outputs = ["z", "logdet", "bits"]
    return _graph(Encoding(folded), ["dark", "bright"], outputs, about | _network(folded))


def _network(model: LLFlow) -> dict[str, Any]:
    return {"version": version("flowkit"), "network": described(model.config)}


def _graph(
    module: nn.Module, inputs: Sequence[str], outputs: Sequence[str], about: dict[str, Any]
) -> bytes:
    passes = _imported("onnx_ir.passes.common")
    any_size = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        program = torch.onnx.export(
            module,
            tuple(torch.zeros(1, 3, *SEEN) for _ in inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(any_size,) * len(inputs),
            custom_translation_table={torch.ops.aten.sum.dim_IntList: _sum},
            optimize=False,
            verbose=False,
        )
    assert program is not None
    # The optimizer names a clipped tensor's bounds after it, twice where it is clipped twice.
    passes.CommonSubexpressionEliminationPass()(program.model)
    program.optimize()
    passes.ClearMetadataAndDocStringPass()(program.model)  # paths of the machine among it
    program.model.metadata_props["llflow"] = json.dumps(about)
    return program.model_proto.SerializeToString(deterministic=True)


def _sum(x: Any, axes: Sequence[int], keepdim: bool = False, dtype: int | None = None) -> Any:
    """`Tensor.sum` in float64: onnxruntime adds up millions of float32 numbers one after the other,
    which rounds the last ones away."""
    assert dtype is None
    op, types = _imported("onnxscript").opset18, _imported("onnx_ir").DataType
    rounded = x.dtype is types.FLOAT
    if rounded:
        x = op.Cast(x, to=types.DOUBLE)
    x = op.ReduceSum(x, op.Constant(value_ints=[*axes]), keepdims=int(keepdim))
    return op.Cast(x, to=types.FLOAT) if rounded else x


def running(content: bytes) -> Callable[..., Any]:
    """A graph as a function of tensors, under onnxruntime on the CPU; a tensor or several."""
    session = _imported("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> Any:
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        results = tuple(map(torch.from_numpy, session.run(None, given)))
        return results[0] if len(results) == 1 else results

    return run


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
