"""Flows in files: tensors by safetensors, and beside them, as text, what they were part of."""

from __future__ import annotations

import difflib
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

KEY = "flowkit"
Module = TypeVar("Module", bound=nn.Module)


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a flow's parameters and buffers, and as text its composition: what `print` shows.

    The file appears whole or not at all: it is written beside, flushed to the disk and renamed. A
    file of this name is replaced. `safetensors.safe_open(path, "pt").metadata()["flowkit"]` is the
    text.

    Args:
        module: a flow, a bijection, or any module.
        path: where to; by custom it ends in .safetensors.

    Raises:
        TypeError: it isn't a module, or its state holds something that isn't a tensor.
        OSError: folder or disk refuses; what was there is as it was.
    """
    tensors = _state(_require_module("save", module))
    # Copies, because safetensors refuses tensors that share memory, as those of a layer used twice.
    copies = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    write_whole(Path(path), serialized(copies, {KEY: composition(module)}))


def load(path: str | os.PathLike[str], module: Module | Callable[[], Module]) -> Module:
    """Read what `save` wrote into a module composed as that one was, and return it.

    No code comes from the file: you build the module, the file only says what it was saved from,
    and that has to be the same. Nothing in the module changes unless all of it fits.

    Args:
        path: of the file.
        module: built by the same code, or a function that builds it.

    Raises:
        TypeError: `module` is neither.
        ValueError: the file isn't one of `save`, or is damaged; or it is of another composition,
            with the first line that differs; or its tensors have other names, shapes or dtypes.
        OSError: it can't be read.
    """
    built = module if isinstance(module, nn.Module) or not callable(module) else module()
    module = _require_module("load", built)
    text, tensors = _read(Path(path))
    if found := difference(text, composition(module)):
        raise ValueError(f"load: {path}: expected the composition that was saved, got {found}")
    expected = _state(module)
    for name in sorted(expected.keys() | tensors.keys()):
        inside, saved = _described(expected, name), _described(tensors, name)
        if inside != saved:
            raise ValueError(
                f"load: {path}: expected {name} as the file has it, {saved}, "
                f"got {inside} in the module"
            )
    module.load_state_dict(tensors)
    return module  # pyright: ignore[reportReturnType]


def composition(module: nn.Module) -> str:
    """What `print` shows of a module, but for addresses in memory, which are others each time."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module))


def _require_module(who: str, module: Module) -> Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"{who}: expected a module, got {type(module).__name__}")
    return module


def _state(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{type(module).__name__}: expected a state of tensors alone, got "
                f"{type(value).__name__} as {name}"
            )
    return state


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    if path.is_dir():
        raise IsADirectoryError(f"load: {path}: expected a file, got a folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, MemoryError, OverflowError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"load: {path}: expected a file of flowkit.save, got another kind, or a damaged one "
            f"({error})"
        ) from error
    if KEY not in metadata:
        raise ValueError(
            f"load: {path}: expected a file of flowkit.save, got one without a composition"
        )
    return metadata[KEY], tensors


def difference(saved: str, built: str) -> str:
    """Where two compositions differ, in words; "" if nowhere."""
    if saved == built:
        return ""
    a, b = saved.splitlines(), built.splitlines()
    changes = [
        change
        for change in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        if change[0] != "equal"
    ]
    if not changes:
        return "other line ends"
    _, start, stop, other_start, other_stop = changes[0]
    more = f", and {len(changes) - 1} more differences" if len(changes) > 1 else ""
    return (
        f"another: line {start + 1} is {_lines(a[start:stop])} in the file, "
        f"{_lines(b[other_start:other_stop])} in the module{more}"
    )


def _lines(lines: list[str]) -> str:
    if not lines:
        return "missing"
    # The text of a file may hold anything, so that it is shown quoted and cut.
    return repr(lines[0].strip()[:200])


def _described(tensors: Mapping[str, Tensor], name: str) -> str:
    if name not in tensors:
        return "absent"
    dtype = str(tensors[name].dtype).removeprefix("torch.")
    return f"{tuple(tensors[name].shape)} {dtype}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all: beside, flushed to the disk and renamed."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
