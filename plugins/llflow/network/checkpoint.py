"""Weights in files: safetensors with the network's configuration inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from llflow.atomic import write_atomically
from llflow.errors import LLFlowError
from llflow.network.config import Config, LeanConfig
from llflow.network.model import LLFlow

DEFAULTS = Path(__file__).parents[1] / "weights"
DEFAULT = "tiny"
KINDS = {"authors": Config, "lean": LeanConfig}
_HINT = "; `llflow convert` turns the authors' checkpoints into files for llflow"


class CheckpointError(LLFlowError, ValueError):
    """A file doesn't hold weights of LLFlow, or holds damaged ones."""


def save(
    model: LLFlow,
    path: Path,
    trained: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write weights and configuration, and how they were trained if that is told; the file appears
    whole or not at all.

    Raises:
        FileExistsError: a file is there that may not be overwritten.
        ValueError: `load` wouldn't take them: the model is folded, or of another dtype.
        OSError: folder or disk refuses.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if found := _misfit(model.config, tensors):
        raise ValueError(f"{path}: {found}; a model is saved as it is trained, and folded later")
    # One entry: safetensors writes several in any order, and the bytes are to repeat.
    told = described(model.config) | ({} if trained is None else {"trained": dict(trained)})
    content = save_tensors(tensors, {"llflow": json.dumps(told)})
    write_atomically(path, lambda file: file.write(content), overwrite=overwrite)


def trained(path: Path) -> dict[str, Any] | None:
    """What `save` was told of the training; None if nothing."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["llflow"]).get("trained")


def described(config: Config | LeanConfig) -> dict[str, Any]:
    """A configuration as JSON can hold it; `configuration` reads it."""
    kind = {} if isinstance(config, Config) else {"kind": "lean"}
    return kind | asdict(config)


def configuration(values: Mapping[str, Any]) -> Config | LeanConfig:
    """The configuration that `described` wrote.

    Raises:
        TypeError, ValueError: it isn't one.
    """
    settings = dict(values)
    settings.pop("trained", None)
    name = settings.pop("kind", "authors")
    if name not in KINDS:
        raise ValueError(f"expected kind among {', '.join(KINDS)}, got {name!r}")
    kind = KINDS[name]
    unknown = set(settings) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"unknown setting {sorted(unknown)[0]}")
    return kind(**settings)


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in DEFAULTS.glob("*.safetensors"))


def load(weights: str | Path = DEFAULT) -> LLFlow:
    """The model in evaluation mode.

    Args:
        weights: the name of shipped weights, or the path of a .safetensors file from `save`.

    Raises:
        CheckpointError: the file doesn't hold weights of LLFlow, is truncated, or (shipped weights)
            its SHA-256 is another than the recorded one.
        OSError: it can't be read.
    """
    path = file_of(weights)
    known = str(weights) in shipped()
    if known:
        verify(path)
    elif path.is_dir():
        raise CheckpointError(
            f"{weights}: is a folder; expected a file, such as {path / 'model.safetensors'}"
        )
    elif not path.is_file():
        raise CheckpointError(
            f"{weights}: no such file, nor shipped weights of this name "
            f"({', '.join(shipped()) or 'none are shipped'})"
        )
    config, tensors = read(path)
    if config is None:
        raise CheckpointError(f"{path}: holds no LLFlow configuration{_HINT}")
    return built(path, config, tensors, check=not known)


def file_of(weights: str | Path) -> Path:
    """The file that `load` reads."""
    return DEFAULTS / f"{weights}.safetensors" if str(weights) in shipped() else Path(weights)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> tuple[Config | LeanConfig | None, dict[str, Tensor]]:
    """What a safetensors file holds: a configuration, if it has one, and tensors.

    Raises:
        CheckpointError: it is another file, or damaged.
        OSError: it can't be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_tensors(path.read_bytes())
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or damaged ({error}){_HINT}"
        ) from error
    if "llflow" not in metadata:
        return None, tensors
    try:
        return configuration(json.loads(metadata["llflow"])), tensors
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged LLFlow configuration ({error})") from error


def built(
    path: Path, config: Config | LeanConfig, tensors: dict[str, Tensor], *, check: bool = True
) -> LLFlow:
    """The model of this configuration, in evaluation mode.

    Raises:
        CheckpointError: `tensors`, those of `path`, aren't of such a model, or aren't finite.
    """
    if check:
        if found := _misfit(config, tensors):
            raise CheckpointError(f"{path}: {found}")
        for name in sorted(tensors):
            if not tensors[name].isfinite().all():
                raise CheckpointError(f"{path}: {name} holds values that aren't finite")
    model = LLFlow(config)
    model.load_state_dict(tensors)
    return model.eval()


def _misfit(config: Config | LeanConfig, tensors: Mapping[str, Tensor]) -> str:
    """What these tensors lack to be those of a model of this configuration; "" if nothing.

    No memory is taken for such a model, since a file may claim any size.
    """
    if config.depth > len(tensors):  # each of them has tensors of its own
        return "the LLFlow configuration asks for more tensors than it has"
    try:
        with torch.device("meta"):
            expected = LLFlow(config).state_dict()
    except (RuntimeError, OverflowError, TypeError):
        return "the LLFlow configuration asks for too much"
    for name in sorted(expected.keys() | tensors.keys()):
        wanted, came = _describe(expected.get(name)), _describe(tensors.get(name))
        if wanted != came:
            return f"expected {name} to be {wanted}, got {came}"
    return ""


def _describe(tensor: Tensor | None) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}" if tensor is not None else "absent"


def verify(path: Path) -> None:
    """Compare a file with the entry of its name in SHA256SUMS beside it.

    Raises:
        CheckpointError: they differ, or there is no entry.
    """
    lines = (path.parent / "SHA256SUMS").read_text().splitlines()
    recorded = {name: expected for expected, name in (line.split() for line in lines)}
    came = digest(path)
    if recorded.get(path.name) != came:
        raise CheckpointError(
            f"{path}: expected SHA-256 {recorded.get(path.name, '(none recorded)')}, got {came}"
        )
