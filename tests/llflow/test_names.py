"""Every module can be imported by its name: nothing else in a package has it."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import llflow

PACKAGES = ["llflow"] + [
    module.name for module in pkgutil.walk_packages(llflow.__path__, "llflow.") if module.ispkg
]


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_hides_a_module(package):
    room = importlib.import_module(package)
    for module in pkgutil.iter_modules(room.__path__):
        if module.name == "__main__":
            continue
        try:
            importlib.import_module(f"{package}.{module.name}")
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] == "llflow":
                raise
            continue  # it is about a package that isn't here
        assert isinstance(getattr(room, module.name), ModuleType), f"{package}.{module.name}"
