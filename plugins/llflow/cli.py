"""The command line of llflow: dispatch, and one line and an exit code for whatever goes wrong."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click

from llflow.commands import (
    batch,
    compare,
    convert,
    data,
    doctor,
    enhance,
    evaluate,
    explain,
    export,
    pipe,
    samples,
    score,
    serve,
    train,
    uncertainty,
    vote,
)
from llflow.commands.options import report
from llflow.errors import LLFlowError, first_line

EPILOG = """\b
examples:
  llflow enhance dark.jpg -o bright.jpg
  llflow enhance holiday/ -o holiday_bright/ --recursive --skip-existing
  llflow train --data MYPAIRS
"""


class InOrder(click.Group):
    """Lists its commands as they were added: what everybody needs comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, epilog=EPILOG, no_args_is_help=False)
@click.version_option(package_name="flowkit", prog_name="llflow")
def llflow() -> None:
    """Make dark photographs bright with a conditional normalizing flow."""


for module in (
    *(enhance, batch, samples, score, uncertainty, explain, pipe, serve),
    *(train, data, evaluate, compare, vote, convert, export, doctor),
):
    llflow.add_command(module.command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `llflow ARGV...` and return the exit code.

    0 done, 1 something failed, 2 wrong usage, 130 interrupted.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be what it can't print
    try:
        code = llflow.main(argv, prog_name="llflow", standalone_mode=False)
        sys.stdout.flush()  # else a reader that has gone shows at exit only, in a traceback
        return code or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, click.Abort):
        return _failed("interrupted", 130)
    except click.ClickException as error:
        return _failed(*_usage(error))
    except LLFlowError as error:
        return _failed(str(error), error.exit_code)
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        return _failed(f"{error.filename}: {error.strerror}" if named else str(error))
    except (ValueError, ArithmeticError, ModuleNotFoundError) as error:  # the last: an extra's
        return _failed(str(error))
    except (MemoryError, RuntimeError) as error:  # torch's: out of memory, a singular matrix, ...
        return _failed(first_line(error) if str(error) else "out of memory")


def _failed(message: str, code: int = 1) -> int:
    report(message)
    return code


def _usage(error: click.ClickException) -> tuple[str, int]:
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    see = f" (see {context.command_path} --help)" if context else ""
    return f"{message}{see}", error.exit_code
