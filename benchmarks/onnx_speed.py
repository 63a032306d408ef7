"""How long does the exported graph take under onnxruntime, against `llflow.enhance`?

python benchmarks/onnx_speed.py [--threads 2]

Whole pictures of 400×600 and of a megapixel, from tensor to tensor, with the default weights; both
in float32 on the CPU with as many threads. Takes flowkit[onnx].
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import measure
import torch
from measure import Target
from torch import Tensor

import llflow
from llflow.export import onnx

SIZES, QUICK = ((400, 600), (819, 1228)), ((33, 57),)
TARGET = Target("enhancing under onnxruntime, time of PyTorch's", 1.0)


def session_of(content: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    args = measure.begin(parser, argv)
    if args.device != "cpu":
        parser.error("expected --device cpu, where the graph is held to PyTorch")
    onnx.require_packages()
    model = llflow.load().fold()
    session = session_of(onnx.graph_of(model), args.threads)
    rows, ratios = [], []
    for height, width in QUICK if args.quick else SIZES:
        dark = 0.2 * torch.rand(3, height, width)

        def ours(dark: Tensor = dark) -> Tensor:
            return llflow.enhance(model, dark)

        def exported(dark: Tensor = dark) -> Tensor:
            (bright,) = session.run(None, {"dark": dark[None].numpy()})
            return torch.from_numpy(bright[0])

        error = (exported() - ours()).abs().max().item()
        measure.agree("onnxruntime", exported(), ours(), onnx.TOLERANCE)
        times = measure.take_turns({"PyTorch": ours, "onnxruntime": exported}, seconds=args.seconds)
        rows += [
            {
                "size": f"{height}×{width}",
                "way": way,
                "least s": times.least(way),
                "time, of PyTorch": times.ratio(way, "PyTorch"),
                "largest difference": 0.0 if way == "PyTorch" else error,
            }
            for way in times.seconds
        ]
        ratios.append(times.ratio("onnxruntime", "PyTorch").median)
    measure.record(
        "onnx_speed",
        args,
        doc=__doc__ or "",
        tables={f"Enhancement with tiny, {times.clock}": rows},
        targets=[TARGET.judged(max(ratios), "slowest size")],
    )


if __name__ == "__main__":
    sys.exit(main())
