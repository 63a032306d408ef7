"""llflow: low-light photographs made bright by a conditional normalizing flow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llflow.distribution.activation import explain
    from llflow.distribution.likelihood import Score, score
    from llflow.distribution.spread import uncertainty
    from llflow.enhancement import bracket, draw, enhance, variants
    from llflow.network.checkpoint import load
    from llflow.network.model import LARGE, SMALL, TINY, Config, LLFlow
    from llflow.picture.sheet import contact_sheet
    from llflow.settings import Settings

__all__ = [
    "LARGE",
    "SMALL",
    "TINY",
    "Config",
    "LLFlow",
    "Score",
    "Settings",
    "bracket",
    "contact_sheet",
    "draw",
    "enhance",
    "explain",
    "load",
    "score",
    "uncertainty",
    "variants",
]

_HOMES = {
    "llflow.distribution.activation": ("explain",),
    "llflow.distribution.likelihood": ("Score", "score"),
    "llflow.distribution.spread": ("uncertainty",),
    "llflow.enhancement": ("bracket", "draw", "enhance", "variants"),
    "llflow.network.checkpoint": ("load",),
    "llflow.network.model": ("LARGE", "SMALL", "TINY", "Config", "LLFlow"),
    "llflow.picture.sheet": ("contact_sheet",),
    "llflow.settings": ("Settings",),
}


def __getattr__(name: str) -> Any:
    """PEP 562: PyTorch, which takes a second, is imported for the first name that needs it, so
    that the command line's help and completion come at once."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
