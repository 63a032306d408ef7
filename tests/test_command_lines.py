"""Every command line that README, pages, the model card and help texts show is understood."""

import re
import shlex

import click
import pytest
from pages import ROOT

import flowkit.cli
import llflow.cli

PROGRAMS = {"flowkit": flowkit.cli.command, "llflow": llflow.cli.llflow}
PAGES = [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
PAGES += (ROOT / "plugins").rglob("*.md")
SHELL = re.compile(r"^``` *(?:bash|sh|console)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
ALONE = re.compile(r"^ *(?:\$ )?((?:flowkit|llflow) [^#|<>\n]+)", re.MULTILINE)
MENTIONED = re.compile(r"`((?:flowkit|llflow) [^`#|<>\n]+)")
ELSEWHERE = {"extras", "COMMAND"}  # a plug-in of the reader's, any command


def of_pages():
    for page in sorted(PAGES):
        text = page.read_text().replace("\\\n", " ")
        shown = [line for block in SHELL.findall(text) for line in ALONE.findall(block)]
        for is_part, lines in ((False, shown), (True, MENTIONED.findall(SHELL.sub("", text)))):
            for line in dict.fromkeys(" ".join(line.split()) for line in lines):
                yield pytest.param(line, is_part, id=f"{page.relative_to(ROOT)}: {line}")


def of_help(command, path):
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from of_help(below, f"{path} {name}")
    for text in (command.help, command.epilog):
        for line in ALONE.findall((text or "").replace("\\\n", " ")):
            yield pytest.param(line, False, id=f"{path} --help: {line}")


def found():
    helps = [case for name, program in PROGRAMS.items() for case in of_help(program, name)]
    return [*of_pages(), *helps]


@pytest.mark.parametrize(("line", "is_part"), found())
def test_it_is_understood(line, is_part):
    """Every command and option is known, and what stands alone lacks nothing."""
    program, *arguments = shlex.split(line)
    command = PROGRAMS[program]
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name in ELSEWHERE:
            return
        below = PROGRAMS | command.commands  # `flowkit llflow …` is the plug-in's own
        assert name in below, f"no command {name!r} in {line!r}"
        command = below[name]
    if not is_part:
        command.make_context(program, arguments)
        return
    options = command.get_params(click.Context(command))
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    for argument in arguments:
        if argument.startswith("--"):
            assert argument.partition("=")[0] in known, f"no {argument} in {line!r}"
