"""A module of llflow imports its own floor or a lower one."""

import ast
from pathlib import Path

import pytest

import llflow

ROOT = Path(llflow.__file__).parent
FLOORS = [
    ("errors", "atomic", "memory", "settings"),
    ("picture",),
    ("network",),
    ("inference",),
    ("enhancement",),
    ("distribution", "jobs", "watch", "data", "pages"),
    ("evaluation", "votes", "export"),
    ("training",),
    ("commands", "serve"),
    ("cli",),
    ("__init__", "__main__", "plugin"),
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path.relative_to(ROOT).with_suffix("").parts for path in ROOT.rglob("*.py"))


def rooms_imported(path):
    """Rooms of llflow behind every import statement, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            package, *rooms = node.module.split(".")
            names = rooms[:1] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            package, names = "", []
            for alias in node.names:
                assert not alias.name.startswith("llflow"), f"{path}: import {alias.name}"
        else:
            continue
        yield from names if package == "llflow" else []


@pytest.mark.parametrize("module", MODULES, ids=".".join)
def test_nothing_is_imported_from_above(module):
    assert module[0] in FLOOR_OF, f"{module[0]} is on no floor: name it in FLOORS"
    for room in rooms_imported(ROOT.joinpath(*module).with_suffix(".py")):
        assert FLOOR_OF[room] <= FLOOR_OF[module[0]], f"{'.'.join(module)} imports {room}"
