"""The command `flowkit`: lists the plug-ins, runs one, or tells what its ops run on here."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import metadata

import flowkit
from flowkit import plugins

USAGE = """\
usage: flowkit [--help | --version | info | PLUGIN ARGS ...]

Without arguments: the installed plug-ins. With a plug-in's name: runs it with what follows. With
info: versions and devices, and for each op the implementation that runs on each device, and why.

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
    if name == "info":
        if rest:
            print(f"flowkit: info takes no arguments, got {rest[0]!r}", file=sys.stderr)
            return 2
        return _info()
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


def _info() -> int:
    import torch

    from flowkit.ops import affine_coupling_choice, conv1x1_choice

    print(f"flowkit {flowkit.__version__}, torch {torch.__version__}, triton {_version('triton')}")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
        major, minor = torch.cuda.get_device_capability()
        print(f"cuda: {torch.cuda.get_device_name()}, compute capability {major}.{minor}")
    for device in devices:
        for channels in (12, 48, 192):
            x = torch.empty(1, channels, 1, 1, device=device)
            weight = torch.empty(channels, channels, device=device)
            choices = {
                "affine coupling": lambda x=x: affine_coupling_choice(x, x),
                "1x1 convolution": lambda x=x, w=weight: conv1x1_choice(x, w),
            }
            for op, choose in choices.items():
                try:
                    choice = choose()
                    line = f"{choice.name}: {choice.reason}"
                except ValueError as error:
                    line = f"refused: {error}"
                print(f"{op}, {channels:3} channels, {device:<4}  {line}")
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


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
