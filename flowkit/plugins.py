"""Installed plug-ins: packages that offer layers, a command or both under an entry point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

GROUP = "flowkit.plugins"


@dataclass(frozen=True)
class Plugin:
    """What the module behind an entry point offers; all but the summary may be left out.

    Args:
        summary: one line for `flowkit`.
        packages: import names whose layers `flowkit.testing` checks.
        main: runs `flowkit NAME argv...` and returns the exit code.
    """

    summary: str
    packages: tuple[str, ...] = ()
    main: Callable[[list[str]], int | None] | None = None


def found() -> dict[str, EntryPoint]:
    """Plug-ins by name, not yet imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def load(entry: EntryPoint) -> Plugin:
    """Import a plug-in.

    Raises:
        TypeError: what it offers isn't what `Plugin` says.
    """
    module = entry.load()
    summary, packages = getattr(module, "summary", None), getattr(module, "packages", ())
    if not isinstance(summary, str):
        raise TypeError("expected `summary`, one line of text")
    if isinstance(packages, str) or not all(isinstance(name, str) for name in packages):
        raise TypeError(f"expected `packages` as a tuple of import names, got {packages!r}")
    plugin = Plugin(summary, tuple(packages), getattr(module, "main", None))
    if plugin.main is not None and not callable(plugin.main):
        raise TypeError(f"expected `main` as a function of argv, got {plugin.main!r}")
    return plugin
