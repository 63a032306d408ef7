"""What the README shows runs, and is what the repository holds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_flow_in_the_readme_is_the_example():
    example = (ROOT / "examples" / "conditional_flow.py").read_text()
    code = example.split('"""\n\n', 1)[1]
    assert code in BLOCKS


def test_example_learns():
    """A flow that is fitted to what it has seen gives it a higher density than at the start."""
    script = ROOT / "examples" / "conditional_flow.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "torch.Size([4, 16, 3, 8, 8])" in result.stdout
    assert float(result.stdout.split()[0]) < -150  # nats; -145 after initialisation alone


@pytest.mark.parametrize("line", re.findall(r"^llflow ([^#\n]+)", README, re.MULTILINE))
def test_command_lines_are_understood(line):
    from llflow.cli import llflow

    command, arguments = llflow, shlex.split(line)
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    command.make_context("llflow", arguments)  # refuses options and arguments that it doesn't know


def test_enhancing_from_python():
    (block,) = [block for block in BLOCKS if "llflow.enhance" in block]
    names = {}
    exec(block, names)
    assert names["bright"].shape == (3, 120, 160)
    assert len(names["several"]) == 4


def test_the_layer_in_the_readme_holds():
    from flowkit.testing import check_bijection

    (block,) = [block for block in BLOCKS if "parametrize_with_checks" in block]
    names = {}
    exec(block, names)
    check_bijection(names["Negate"])


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
