"""The tool behind `make mutants` plants what it says, where it says, and hears who complains."""

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import mutants

SOURCE = '''
def scaled(x, twice=False):
    """Docstring with 3 + 4."""
    require(x)
    if x < 0:
        raise ValueError(f"got {x + 1}")
    return -x * 2 + x.sum(1) if twice and x else x

class Layer:
    count: int = 8

    def extra_repr(self):
        return 1 + 1
'''


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    return mutants.mutants(path)


def test_what_is_planted(found):
    assert {mutant.change for mutant in found} == {
        "require(x) → pass",
        "x < 0 → x <= 0",
        "0 → 1",
        "raise ValueError(f'got {x + 1}') → pass",
        "-x * 2 + x.sum(1) → -x * 2 - x.sum(1)",
        "-x * 2 + x.sum(1) → -x * 2",
        "-x * 2 → -x / 2",
        "-x * 2 → -x",
        "-x → x",
        "2 → 3",
        "1 → 2",
        "x.sum → x.mean",
        "-x * 2 + x.sum(1) if twice and x else x → x if twice and x else -x * 2 + x.sum(1)",
        "twice and x → twice or x",
        "twice and x → twice",
    }


def test_each_changes_one_place_and_nothing_of_the_original(found):
    sources = {mutant.source for mutant in found}
    assert len(sources) == len(found)
    assert ast.unparse(ast.parse(SOURCE)) not in sources
    assert all(mutant.function == 2 for mutant in found)


def test_a_mutant_is_imported_in_place_of_its_module(found, tmp_path, monkeypatch):
    (mutant,) = (mutant for mutant in found if mutant.change == "-x * 2 → -x / 2")

    def planted():
        sys.meta_path.insert(0, mutants.Planted(mutant))
        import module

        return module.__file__

    assert mutants.in_a_process(planted) == str(tmp_path / "module.py")
    assert "module" not in sys.modules


def test_who_hangs_or_raises_is_heard():
    assert mutants.in_a_process(lambda: "fine") == "fine"
    assert mutants.in_a_process(lambda: 1 / 0) == "raises ZeroDivisionError: division by zero"
    assert mutants.in_a_process(lambda: exec("while True: pass"), seconds=1) == "hangs"


def test_reasons_name_files_that_exist():
    for file, _ in mutants.reasons():
        assert (mutants.ROOT / file).exists()
    assert all(mutants.reasons().values())
