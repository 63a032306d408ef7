"""The enhancement as a program of `torch.export`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from llflow.export import tried
from llflow.export.whole import Whole
from llflow.network.model import LLFlow

SEEN = (61, 90)  # height and width while exporting: neither is a multiple of 8
LEAST = 9  # an eighth of less is one place, of which PyTorch makes another program


def save(model: LLFlow, path: Path, *, overwrite: bool = False) -> float:
    """Write `llflow.enhance` at temperature 0 as a program for `torch.export.load`, which appears
    whole or not at all.

    It takes and returns what the ONNX file does, of heights and widths from 9 on, and is tried
    as that is.

    Args:
        model: on the CPU.
        path: where to.
        overwrite: replace a file that is there.

    Returns:
        The largest difference from `llflow.enhance` that was seen, at most 1e-4.

    Raises:
        NotTheSame: the program's pictures are others than the model's.
        FileExistsError: a file is there that may not be overwritten.
        OSError: folder or disk refuses.
    """
    folded = model.fold()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that aren't on the CPU
        torch.export.save(program_of(folded), buffer)
    buffer.seek(0)
    run = torch.export.load(buffer).module()
    return tried.written(path, buffer.getvalue(), tried.pictures(folded, run), overwrite=overwrite)


def program_of(folded: LLFlow) -> ExportedProgram:
    """The program, not tried."""
    any_size = {2: Dim("height", min=LEAST), 3: Dim("width", min=LEAST)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        return torch.export.export(
            Whole(folded),
            (torch.zeros(1, 3, *SEEN),),
            dynamic_shapes=(any_size,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
