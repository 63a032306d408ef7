"""The site has every public name, page and command as they are; `make docs` builds it strictly."""

import re
import shlex
from importlib import import_module
from inspect import getmodule

import click
import pytest
from pages import ROOT

import flowkit
import llflow
from llflow.cli import llflow as command
from llflow.training.recipe import Recipe

API = re.findall(
    r"^::: ([\w.]+)$", "\n".join(p.read_text() for p in (ROOT / "docs/api").glob("*.md")), re.M
)
NAV = re.findall(r"^ +- (?:[^:\n]+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)


def test_every_public_name_is_on_a_page_of_the_api():
    shown = set()
    for name in API:
        module = import_module(name)
        own = [n for n, value in vars(module).items() if getmodule(value) is module]
        shown |= {id(getattr(module, n)) for n in getattr(module, "__all__", own)}
        shown |= {id(module)}
    public = [(package, name) for package in (flowkit, llflow) for name in package.__all__]
    assert len(public) > 90
    # Aliases of types have no module that they would tell; a page names these by themselves.
    missing = [name for package, name in public if id(getattr(package, name)) not in shown]
    assert [name for name in missing if name not in {"Cond", "Shape"}] == []


def test_every_page_of_the_order_is_there_once():
    assert len(NAV) == len(set(NAV)) > 30
    outside = (ROOT / "docs/site/hooks.py").read_text()
    for page in NAV:
        assert (ROOT / "docs" / page).exists() or f'"{page}"' in outside, page


TEXTS = [
    page.read_text()
    for page in (*(ROOT / "docs").rglob("*.md"), ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md")
]
LINES = {
    line
    for text in TEXTS
    for line in re.findall(r"^llflow (?=[a-z-])([^#$\n]+)$", text.replace(" #", "\n"), re.M)
}


@pytest.mark.parametrize("line", sorted(LINES))
def test_command_lines_are_understood(line):
    understood, arguments = command, shlex.split(line)
    while isinstance(understood, click.Group):
        understood = understood.commands[arguments.pop(0)]
    understood.make_context("llflow", arguments)


def test_scripts_and_targets_are_there():
    scripts = {name for text in TEXTS for name in re.findall(r"python ([\w/]+\.py)", text)}
    assert len(scripts) > 10
    assert [name for name in sorted(scripts) if not (ROOT / name).exists()] == []
    targets = {name for text in TEXTS for name in re.findall(r"(?:`|^)make ([\w-]+)", text, re.M)}
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"docs", "test"} <= targets <= rules


@pytest.mark.parametrize(
    "settings",
    re.findall(r"```toml\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL),
)
def test_recipes_are_understood(settings, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(settings)
    Recipe.read(path)
