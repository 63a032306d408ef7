"""Examples in docstrings run, and public names have docstrings."""

import doctest
import importlib
import inspect
import pkgutil
from importlib.util import find_spec

import pytest

import flowkit

MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(flowkit.__path__, "flowkit.")
    if not info.name.startswith("flowkit.testing")
    and not (info.name.endswith(".triton") and find_spec("triton") is None)
]
WITH_EXAMPLES = [
    module
    for module in MODULES
    if any(test.examples for test in doctest.DocTestFinder(exclude_empty=True).find(module))
]


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__)
def test_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_combinators_and_flow_have_examples():
    expected = {"flowkit.combine.chain", "flowkit.combine.at", "flowkit.density.flow"}
    assert expected <= {module.__name__ for module in WITH_EXAMPLES}


@pytest.mark.parametrize("name", [n for n in flowkit.__all__ if n != "Cond"])
def test_public_names_say_what_they_are(name):
    assert inspect.getdoc(getattr(flowkit, name))
