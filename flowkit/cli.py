"""The command `flowkit`: lists the plug-ins, or runs one."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

import flowkit
from flowkit import plugins

USAGE = """\
usage: flowkit [--help | --version | PLUGIN ARGS ...]

Without arguments: the installed plug-ins. With a plug-in's name: runs it with what follows.

example: flowkit llflow --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the plug-in's exit code, 2 for a wrong call, 1 for
    a plug-in that can't be imported."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        return _list_plugins()
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if name == "--version":
        print(f"flowkit {flowkit.__version__}")
        return 0
    entry = plugins.found().get(name)
    if entry is None:
        print(f"flowkit: {_unknown(name)}", file=sys.stderr)
        return 2
    try:
        plugin = entry.load()
    except ImportError as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"flowkit: plug-in {name!r} can't be imported: {reason}", file=sys.stderr)
        return 1
    return plugin.main(rest)


def _list_plugins() -> int:
    found = plugins.found()
    if not found:
        print("no plug-ins are installed")
    width = max(map(len, found), default=0)
    for name, entry in found.items():
        # One plug-in that can't be imported, for whatever reason, must not hide the others.
        try:
            summary = entry.load().summary
        except Exception as error:
            summary = f"broken: {type(error).__name__}: {error}"
        print(f"{name:<{width}}  {summary}")
    return 0


def _unknown(name: str) -> str:
    names = list(plugins.found())
    if near := difflib.get_close_matches(name, names, n=1):
        return f"no plug-in {name!r}; did you mean {near[0]!r}?"
    return f"no plug-in {name!r}; there are: {', '.join(names) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
