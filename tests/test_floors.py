"""A module imports its own floor or a lower one, llflow only what flowkit makes public, and no
public name hides a module."""

import ast
import importlib
import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOWKIT_FLOORS = [
    ("contract", "plugins"),
    ("conditions", "statistics", "choice", "ops", "nets"),
    ("elementwise",),
    ("layers", "combine"),
    ("reversible", "density"),
    (
        "flows",
        "descent",
        "checkpoint",
        "fitting",
        "reverse_fitting",
        "files",
        "interop",
        "public",
        "testing",
        "cli",
        "",
        "__main__",
    ),
]
LLFLOW_FLOORS = [
    ("errors", "atomic", "memory", "settings"),
    ("picture",),
    ("network", "data"),
    ("inference",),
    ("enhancement",),
    ("distribution", "evaluation", "jobs", "pages", "watch", "votes", "export", "film", "batch"),
    ("training",),
    ("commands", "serve"),
    ("cli", "plugin", "", "__main__"),
]
PUBLIC = {"flowkit", "flowkit.ops", "flowkit.testing"}
IMPLEMENTATIONS = {"reference", "triton"}


def modules(folder):
    """The path of every module under `folder`, a package, by its name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


FLOWKIT = modules(ROOT / "flowkit")
LLFLOW = modules(ROOT / "plugins" / "llflow")
ALL = {**FLOWKIT, **LLFLOW}


def imports(source, where=""):
    """(module, name or None) of every import statement, also those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{where}:{node.lineno}: expected an absolute import"
            yield from ((node.module, alias.name) for alias in node.names)


def targets(source, package, known):
    """The modules of `package` that a source imports."""
    for module, name in imports(source):
        if module.partition(".")[0] == package:
            yield f"{module}.{name}" if f"{module}.{name}" in known else module


def floor(module, floors):
    room = f"{module}.".split(".")[1]
    found = [number for number, rooms in enumerate(floors) if room in rooms]
    assert len(found) == 1, f"{module} is on no floor: name it in tests/test_floors.py"
    return found[0]


def above(module, source, known, floors):
    """What a module imports from above."""
    package = module.partition(".")[0]
    return [
        target
        for target in targets(source, package, known)
        if floor(target, floors) > floor(module, floors)
    ]


@pytest.mark.parametrize("module", FLOWKIT)
def test_flowkit_imports_nothing_from_above(module):
    source = FLOWKIT[module].read_text()
    assert above(module, source, FLOWKIT, FLOWKIT_FLOORS) == []
    assert list(targets(source, "llflow", LLFLOW)) == []


@pytest.mark.parametrize("module", LLFLOW)
def test_llflow_imports_nothing_from_above(module):
    assert above(module, LLFLOW[module].read_text(), LLFLOW, LLFLOW_FLOORS) == []


def test_an_import_from_above_is_found():
    source = "def f():\n    from flowkit.layers import Coupling\nimport flowkit.contract\n"
    assert above("flowkit.nets.conv", source, FLOWKIT, FLOWKIT_FLOORS) == ["flowkit.layers"]
    source = "from flowkit import reversible\n"
    assert above("flowkit.layers.coupling", source, FLOWKIT, FLOWKIT_FLOORS) == [
        "flowkit.reversible"
    ]
    source = "from llflow.training.train import loop\n"
    assert above("llflow.picture.files", source, {}, LLFLOW_FLOORS) == ["llflow.training.train"]


@pytest.mark.parametrize("module", [m for m in FLOWKIT if m.startswith("flowkit.ops.")])
def test_implementations_do_not_know_each_other(module):
    room, _, file = module.rpartition(".")
    if file in IMPLEMENTATIONS:
        others = {f"{room}.{name}" for name in (IMPLEMENTATIONS | {"api", "schema"}) - {file}}
        found = set(targets(FLOWKIT[module].read_text(), "flowkit", FLOWKIT))
        assert found & others == set()


@pytest.mark.parametrize("module", LLFLOW)
def test_llflow_imports_only_public_names(module):
    for source, name in imports(LLFLOW[module].read_text(), LLFLOW[module]):
        if source.partition(".")[0] == "flowkit":
            assert source in PUBLIC, f"{module} imports the private module {source}"
            public = importlib.import_module(source).__all__
            assert name is None or name in public, f"{module} imports {name} from {source}"


def hidden(package):
    """The modules in `package` that its namespace has something else for."""
    return [
        info.name
        for info in pkgutil.iter_modules(package.__path__)
        if getattr(package, info.name, None)
        is not sys.modules.get(f"{package.__name__}.{info.name}")
    ]


PACKAGES = [name for name, path in ALL.items() if path.name == "__init__.py"]


@pytest.mark.parametrize("name", PACKAGES)
def test_no_name_hides_a_module(name):
    package = importlib.import_module(name)
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg and info.name != "__main__" and importable(ALL[f"{name}.{info.name}"]):
            importlib.import_module(f"{name}.{info.name}")
    assert hidden(package) == []


def test_a_hidden_module_is_found(tmp_path, monkeypatch):
    folder = tmp_path / "hides_one"
    folder.mkdir()
    (folder / "__init__.py").write_text("from hides_one.solve import solve\n")
    (folder / "solve.py").write_text("def solve(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert hidden(importlib.import_module("hides_one")) == ["solve"]


def importable(path):
    """Whether the packages are here that a module needs, if they are optional."""
    needed = {module.partition(".")[0] for module, _ in imports(path.read_text())}
    return all(name in sys.modules or find_spec(name) for name in needed)
