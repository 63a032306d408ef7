"""Installed plug-ins: packages that offer layers and commands under an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

GROUP = "flowkit.plugins"


def found() -> dict[str, EntryPoint]:
    """Plug-ins by name, not yet imported; `.load()` imports one.

    A plug-in is a module with
        summary: str                        one line for `flowkit`
        main(argv: list[str]) -> int        runs `flowkit NAME argv...`, returns the exit code
        packages: tuple[str, ...]           import names whose layers `flowkit.testing` checks
    """
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}
