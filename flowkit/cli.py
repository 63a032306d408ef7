"""The command `flowkit`: lists the plug-ins and runs one, checks layers, tells what ops run on."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata, util
from importlib.metadata import EntryPoint

import click

import flowkit.plugins

EPILOG = "Without a command: the installed plug-ins. Example: flowkit llflow --help"


class PluginCommand(click.Command):
    """A plug-in as a command: all that follows its name is its own."""

    def __init__(self, name: str, entry: EntryPoint) -> None:
        super().__init__(name, add_help_option=False)
        self.entry = entry

    def get_short_help_str(self, limit: int = 45) -> str:
        return _summary(self.entry)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> int:
        plugin = _load(str(self.name), self.entry)
        if plugin.main is None:
            raise click.UsageError(
                f"plug-in {self.name!r} offers layers alone, no command "
                f"(flowkit check {self.name} checks them)"
            )
        return plugin.main(list(ctx.args)) or 0


class WithPlugins(click.Group):
    """flowkit's own commands, then the plug-ins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [
            *self.commands,
            *(name for name in flowkit.plugins.found() if name not in self.commands),
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if command := super().get_command(ctx, cmd_name):
            return command
        entry = flowkit.plugins.found().get(cmd_name)
        return None if entry is None else PluginCommand(cmd_name, entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, *rest = args
        if command := self.get_command(ctx, name):
            return name, command, rest
        raise click.UsageError(f"no plug-in {name!r}; {_instead(name, self.list_commands(ctx))}")


@click.group(cls=WithPlugins, invoke_without_command=True, epilog=EPILOG)
@click.version_option(flowkit.__version__, prog_name="flowkit", message="%(prog)s %(version)s")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Invertible layers and conditional flows."""
    if ctx.invoked_subcommand is None:
        _list_plugins()


@command.command()
def info() -> None:
    """Versions and devices; for each op what runs on each device, and why."""
    import torch

    from flowkit.ops import affine_coupling_choice, linear_map_choice

    versions = f"torch {torch.__version__}, triton {_version('triton')}"
    click.echo(f"flowkit {flowkit.__version__}, {versions}")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
        major, minor = torch.cuda.get_device_capability()
        click.echo(f"cuda: {torch.cuda.get_device_name()}, compute capability {major}.{minor}")
    for device in devices:
        for channels in (12, 48, 192):
            x = torch.empty(1, channels, 1, 1, device=device)
            weight = torch.empty(channels, channels, device=device)
            choices = {
                "affine coupling": lambda x=x: affine_coupling_choice(x, x),
                "linear map": lambda x=x, w=weight: linear_map_choice(x, w),
            }
            for op, choose in choices.items():
                try:
                    choice = choose()
                    line = f"{choice.name}: {choice.reason}"
                except ValueError as error:
                    line = f"refused: {error}"
                click.echo(f"{op:<15}  {channels:3} channels  {device:<4}  {line}")


@command.command()
@click.argument("name")
def check(name: str) -> int:
    """Hold the layers of a plug-in, or of a module or package, to their contract.

    NAME is a plug-in or whatever can be imported from here: every layer in it that can be found has
    each of its examples checked.
    """
    if util.find_spec("hypothesis") is None:
        raise click.ClickException("check needs hypothesis: pip install 'flowkit[testing]'")
    from flowkit.testing import all_layers, check_bijection

    packages = _packages(name)
    for package in packages:
        _import(package)
    layers = all_layers(packages)
    if not layers:
        raise click.ClickException(f"no layers in {', '.join(packages) or name}")
    failed = cases = 0
    for layer in layers:
        # A layer without examples fails by its name.
        for number, example in enumerate(examples := layer.examples() or [layer]):
            name = getattr(example, "name", "") or (str(number) if len(examples) > 1 else "")
            title = layer.__qualname__ + (f"[{name}]" if name else "")
            cases += 1
            try:
                check_bijection(example)
                click.echo(f"ok      {title}")
            # Whatever a layer raises is its failure, and the others are still to be checked.
            except Exception as error:
                failed += 1
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                lines = [line for line in f"{kind}{error}".splitlines() if line.strip()]
                click.echo("\n        ".join([f"failed  {title}", *lines]))
    click.echo(f"layers: {len(layers)}, examples: {cases}, failed: {failed}")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run `flowkit ARGV...` and return the exit code: a plug-in's own, 0 done, 1 something failed,
    2 wrong usage, 130 interrupted."""
    try:
        code = command.main(argv, prog_name="flowkit", standalone_mode=False)
        sys.stdout.flush()  # else a reader that has gone shows at exit only, in a traceback
        return code or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, click.Abort):
        return _refused("interrupted", 130)
    except click.ClickException as error:
        return _refused(" ".join(error.format_message().split()), error.exit_code)


def _refused(message: str, code: int) -> int:
    click.echo(f"flowkit: {message}", err=True)
    return code


def _list_plugins() -> None:
    found = flowkit.plugins.found()
    if not found:
        click.echo("no plug-ins are installed")
    width = max(map(len, found), default=0)
    for name, entry in found.items():
        click.echo(f"{name:<{width}}  {_summary(entry)}")


def _summary(entry: EntryPoint) -> str:
    # One plug-in that can't be imported, for whatever reason, must not hide the others.
    try:
        return flowkit.plugins.load(entry).summary
    except Exception as error:
        return f"broken: {type(error).__name__}: {_first_line(error)}"


def _load(name: str, entry: EntryPoint) -> flowkit.plugins.Plugin:
    try:
        return flowkit.plugins.load(entry)
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise click.ClickException(f"plug-in {name!r} can't be imported: {reason}") from error


def _packages(name: str) -> tuple[str, ...]:
    """The import names that `flowkit check` is about."""
    found = flowkit.plugins.found()
    if name in found:
        return _load(name, found[name]).packages
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    module = name.removesuffix(".py").strip("/").replace("/", ".")
    try:
        known = util.find_spec(module) is not None
    except (ImportError, ValueError):  # its package isn't there, or it is no name
        known = False
    if not known or module != name:
        instead = f"did you mean {module!r}?" if known else _instead(name, list(found))
        raise click.UsageError(f"no plug-in and no module {name!r}; {instead}")
    return (name,)


def _import(name: str) -> None:
    try:
        import_module(name)
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise click.ClickException(f"{name!r} can't be imported: {reason}") from error


def _instead(name: str, names: list[str]) -> str:
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(names) or 'none'}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
