"""The examples beside other libraries: short, and they run."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "peers"
PEERS = ("zuko", "nflows", "normflows", "FrEIA")
TASKS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "comparison")
LONGEST = 15  # lines of a flow, without the function's first


@pytest.mark.parametrize("task", TASKS)
def test_our_flow_takes_a_few_lines(task):
    functions = {
        node.name: node
        for node in ast.parse((FOLDER / f"{task}.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    ours = functions["of_flowkit"]
    assert ours.end_lineno is not None
    assert ours.end_lineno - ours.lineno <= LONGEST


@pytest.mark.parametrize("task", TASKS)
def test_it_runs(task, tmp_path):
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib")
    for name in PEERS:
        if name in (FOLDER / f"{task}.py").read_text() and not importlib.util.find_spec(name):
            pytest.skip(f"{name} isn't installed")
    picture, figures = tmp_path / "picture.png", tmp_path / "figures.json"
    arguments = ["--steps", "2", "--seeds", "2", "--out", picture, "--json", figures]
    done = subprocess.run(
        [sys.executable, FOLDER / f"{task}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[2].startswith("| flowkit | ")
    assert picture.stat().st_size > 5000
    flows = json.loads(figures.read_text())["flows"]
    assert len(flows) >= 2
    assert all(len(flow["scores"]) == 2 and flow["time"] > 0 for flow in flows.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "0"], "expected steps and seeds >= 1, got "),
        (["--out", "picture"], "expected --out to end in one of "),
        (["--out", "nowhere/picture.png"], "expected a folder for nowhere/picture.png"),
        (["--json", "nowhere/figures.json"], "expected a folder for nowhere/figures.json"),
    ],
)
def test_what_cannot_end_well_is_said_before_it_begins(arguments, words, tmp_path):
    pytest.importorskip("zuko", reason="posterior.py needs zuko")
    done = subprocess.run(
        [sys.executable, FOLDER / "posterior.py", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert not any(tmp_path.iterdir())
