"""Models in folders, here or on the Hugging Face hub: safetensors, and beside them the
configuration as JSON."""

from __future__ import annotations

import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from llflow.atomic import write_atomically
from llflow.errors import first_line
from llflow.network import checkpoint
from llflow.network.checkpoint import CheckpointError
from llflow.network.config import Config, LeanConfig
from llflow.network.model import LLFlow

CONFIG, TENSORS = "config.json", "model.safetensors"
_ON_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def save(model: LLFlow, folder: Path) -> None:
    """See `LLFlow.save_pretrained`."""
    checkpoint.save(model, folder / TENSORS)
    text = json.dumps(checkpoint.described(model.config), indent=2) + "\n"
    write_atomically(folder / CONFIG, lambda file: file.write(text.encode()))


def load(source: str | os.PathLike[str], revision: str | None = None) -> LLFlow:
    """See `LLFlow.from_pretrained`."""
    folder = Path(source)
    if not folder.is_dir():
        folder = _from_hub(source, revision)
    elif revision is not None:
        raise ValueError(
            f"from_pretrained: {source} is a folder of this machine, which has no revisions, "
            f"got revision={revision!r}"
        )
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{source}: expected {CONFIG} and {TENSORS}, {name} is missing")
    config = _configuration(folder / CONFIG)
    inside, tensors = checkpoint.read(folder / TENSORS)
    if inside is not None and inside != config:
        raise CheckpointError(
            f"{source}: {CONFIG} isn't of these weights: {TENSORS} holds another configuration"
        )
    return checkpoint.built(folder / TENSORS, config, tensors)


def _configuration(path: Path) -> Config | LeanConfig:
    try:
        return checkpoint.configuration(json.loads(path.read_bytes()))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged LLFlow configuration ({error})") from error


def _from_hub(source: str | os.PathLike[str], revision: str | None) -> Path:
    """The folder of the hub's cache that holds both files, of one commit."""
    if Path(source).exists():
        raise CheckpointError(f"{source}: expected a folder, got a file; llflow.load reads those")
    if not isinstance(source, str):
        raise CheckpointError(f"{source}: no such folder")
    if not _ON_HUB.fullmatch(source):
        raise CheckpointError(
            f"{source}: no such folder, nor a name on the hub, which are like OWNER/MODEL"
        )
    hub = _hub(source)
    wanted = {"revision": revision, "allow_patterns": [CONFIG, TENSORS]}
    try:
        there = _cached(hub, source, wanted)
        return Path(hub.snapshot_download(source, **wanted)) if there is None else there
    except Exception as error:  # its errors have no class in common
        raise CheckpointError(
            f"{source}: no such folder, and the hub gives none ({first_line(error)})"
        ) from error


def _cached(hub: Any, source: str, wanted: dict[str, Any]) -> Path | None:
    try:
        there = Path(hub.snapshot_download(source, local_files_only=True, **wanted))
    except FileNotFoundError:
        return None
    return there if all((there / name).is_file() for name in (CONFIG, TENSORS)) else None


def _hub(source: str) -> Any:
    try:
        return import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise ModuleNotFoundError(
            f"{source}: no such folder; for models of the hub, "
            "huggingface_hub isn't installed: pip install 'flowkit[hub]'",
            name="huggingface_hub",
        ) from error
