"""A training on disk: from where an interrupted one goes on."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowkit.files import composition, difference, write_whole

DAMAGED = pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError, ValueError
"""What torch.load raises for a file that is cut off, or of another kind."""


def write(path: Path, settings: dict[str, Any], density: nn.Module, state: dict[str, Any]) -> None:
    """Write a file, whole or not at all, with the density and the rest of a training's state."""
    whole = {
        "fit": settings,
        "composition": composition(density),
        "density": density.state_dict(),
        **state,
    }
    # Through memory, because torch.save hides what is wrong with the disk.
    content = io.BytesIO()
    torch.save(whole, content)
    write_whole(path, content.getvalue())


def read(
    who: str, path: Path, settings: dict[str, Any], density: nn.Module, device: torch.device
) -> dict[str, Any]:
    """The state that was written; the density gets its weights.

    Raises:
        ValueError: the file is none of these, or of another training, or of another density.
    """
    with path.open("rb") as file:
        content = io.BytesIO(file.read())
    try:
        state = torch.load(content, map_location=device, weights_only=True)
        saved, text = state["fit"], state["composition"]
    except DAMAGED as error:
        raise ValueError(
            f"{who}: {path}: expected a checkpoint of {who}, got another kind of file, or a "
            "damaged one (checkpoint= names another)"
        ) from error
    names = sorted({*settings} ^ {*saved}) or [n for n in settings if saved[n] != settings[n]]
    if names:
        came = ", ".join(f"{n}={settings.get(n)} after {saved.get(n)}" for n in names)
        raise ValueError(
            f"{who}: {path}: expected the training that the checkpoint is of, got {came} "
            "(checkpoint= names another, or remove it to start over)"
        )
    found = difference(text, composition(density))
    try:
        if not found:
            density.load_state_dict(state["density"])
    except RuntimeError as error:
        found = f"another: {error}"
    if found:
        raise ValueError(
            f"{who}: {path}: expected the density that the checkpoint is of, got {found}"
        )
    return state


def require_folder(who: str, path: Path) -> None:
    """Raise unless there is a folder for a checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{who}: expected a folder for the checkpoint, got {path.parent}")
