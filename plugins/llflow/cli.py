"""Command line of llflow: dispatch, and one line for what goes wrong."""

from __future__ import annotations

import argparse
import io
import os
import sys

from llflow.commands import convert, data, enhance, evaluate, train
from llflow.commands.arguments import Parser, UsageError, fail, path
from llflow.jobs import PlanError

COMMANDS = (enhance, convert, evaluate, train, data)
EXAMPLES = """\
examples:
  llflow enhance dark.jpg bright.jpg
  llflow enhance holiday/ holiday_bright/ --recursive --skip-existing
  llflow convert official.pth large.safetensors
"""


def main(argv: list[str] | None = None) -> int:
    """Run `llflow ARGV...` and return the exit code: 0 done, 1 something failed, 2 wrong usage."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    args = _parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be what it can't print
    try:
        return args.run(args)
    except KeyboardInterrupt:
        return fail(args, "interrupted", code=130)
    except (UsageError, PlanError) as error:
        return fail(args, str(error), code=2)
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        return fail(args, f"{error.filename}: {error.strerror}" if named else str(error))
    except (ValueError, ArithmeticError, ModuleNotFoundError) as error:  # the last: an extra's
        return fail(args, str(error))
    except (MemoryError, RuntimeError) as error:  # torch's: out of memory, a singular matrix, ...
        return fail(args, str(error).partition("\n")[0] or "out of memory")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    # argparse takes paths up to the first option only; those behind it come back as unknown.
    if args.command == "enhance" and not any(text.startswith("-") for text in rest):
        args.paths += map(path, rest)
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def _parser() -> Parser:
    parser = Parser(
        prog="llflow",
        description="Make dark photographs bright with a conditional normalizing flow.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
