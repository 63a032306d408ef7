"""flowkit: invertible layers with exact log-determinants, and conditional flows made of them.

The names are those of `flowkit.public`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowkit.public import *  # noqa: F403

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """PEP 562: PyTorch, which takes seconds, is imported for the first name that needs it, so that
    the command line's help and completion come at once."""
    if name == "__all__" or not name.startswith("__"):
        public = import_module("flowkit.public")
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("flowkit.public").__all__})
