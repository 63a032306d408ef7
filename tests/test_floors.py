"""A module imports its own floor or a lower one, and llflow only what flowkit makes public."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    ("bijection", "plugins"),
    ("cond", "nets", "statistics", "factorization", "ops"),
    ("layers", "combine", "reversible"),
    ("initialize", "flow", "transform"),
    ("", "interop", "testing", "cli", "__main__"),
]
PUBLIC = {"flowkit", "flowkit.ops", "flowkit.testing"}


def modules(folder):
    """(name, path) of every module under `folder`, a package."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


FLOWKIT = dict(modules(ROOT / "flowkit"))
LLFLOW = dict(modules(ROOT / "plugins" / "llflow"))


def imports(path):
    """(module, name or None) of every import statement, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: expected an absolute import"
            yield from ((node.module, alias.name) for alias in node.names)


def floor(module):
    room = module.removeprefix("flowkit").lstrip(".").partition(".")[0]
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert floors, f"{module} is on no floor: name it in FLOORS"
    return floors[0]


@pytest.mark.parametrize("module", FLOWKIT)
def test_flowkit_imports_nothing_from_above(module):
    for source, name in imports(FLOWKIT[module]):
        assert source.partition(".")[0] != "llflow", f"{module} imports {source}"
        if source.partition(".")[0] == "flowkit":
            submodule = f"{source}.{name}"
            target = submodule if submodule in FLOWKIT else source
            assert floor(target) <= floor(module), f"{module} imports {target} from above"


@pytest.mark.parametrize("module", LLFLOW)
def test_llflow_imports_only_public_names(module):
    for source, name in imports(LLFLOW[module]):
        if source.partition(".")[0] == "flowkit":
            assert source in PUBLIC, f"{module} imports the private module {source}"
            public = importlib.import_module(source).__all__
            assert name is None or name in public, f"{module} imports {name} from {source}"
