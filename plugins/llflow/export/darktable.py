"""The enhancement as a model package for darktable: an ONNX file and what darktable has to know.

https://github.com/darktable-org/darktable, dev-doc/AI.md and AI_Tasks.md;
https://github.com/darktable-org/darktable-ai/wiki/Pipeline-reference
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from llflow.errors import UsageError
from llflow.export import onnx, tried
from llflow.network.model import LLFlow

TASK = "denoise"  # of darktable's, the one with a picture of the same size as its result
NAMES = "input", "output"
SIDES = [4096, 3072, 2048]  # of the squares that darktable cuts: the largest for which it has room
_ID = re.compile(rf"{TASK}(-[a-z0-9]+)+")


def save(model: LLFlow, path: Path, *, overwrite: bool = False) -> float:
    """Write a package that darktable (from 5.6 on) imports, which appears whole or not at all.

    The graph is that of `onnx.save`, under the names that darktable asks for, and tried as that is.

    Args:
        model: on the CPU.
        path: its name without .dtmodel is the model's id in darktable, see `id_of`.
        overwrite: replace a file that is there.

    Returns:
        The largest difference from `llflow.enhance` that was seen, at most 1e-4.

    Raises:
        UsageError: the name can't be an id.
        ModuleNotFoundError: a package isn't there; the message says how to get it.
        NotTheSame: the graph's pictures are others than the model's.
        FileExistsError: a file is there that may not be overwritten.
        OSError: folder or disk refuses.
    """
    name = id_of(path)
    onnx.require_packages()
    folded = model.fold()
    graph = onnx.graph_of(folded, NAMES)
    difference = tried.pictures(folded, onnx.running(graph))
    return tried.written(path, package_of(name, graph), difference, overwrite=overwrite)


def id_of(path: Path) -> str:
    """The id of the model in a file of this name.

    Raises:
        UsageError: it isn't one by darktable's rules: the task, then words in small letters.
    """
    if path.suffix != ".dtmodel" or not _ID.fullmatch(path.stem):
        raise UsageError(
            f"{path}: expected a name like {TASK}-llflow.dtmodel, which is the model's id in "
            "darktable: small letters, digits and hyphens"
        )
    return path.stem


def package_of(name: str, graph: bytes) -> bytes:
    """The bytes of a package of this id: a zip file of one folder."""
    config = json.dumps(_about(name), indent=2) + "\n"
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as package:
        for file, content in (("config.json", config), ("model.onnx", graph)):
            entry = ZipInfo(f"{name}/{file}")  # of one date, so that the bytes repeat
            entry.external_attr = 0o644 << 16
            package.writestr(entry, content, ZIP_DEFLATED)
    return buffer.getvalue()


def _about(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name.replace("-", " "),
        "description": "LLFlow: makes dark photographs bright",
        "task": TASK,
        "arch": "llflow",
        "backend": "onnx",
        "version": "1.0",
        "tiling": False,  # brightness is the whole picture's
        "num_inputs": 1,
        "attributes": {"input_sizes": SIDES},
    }
