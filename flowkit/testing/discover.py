"""Which layers there are: a layer is checked because it exists, not because a table names it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType

from flowkit.contract import Bijection, Example, HoldsCondition
from flowkit.plugins import found, load


def all_layers(packages: Sequence[str] | None = None) -> list[type[Bijection]]:
    """Every concrete public `Bijection` defined in `packages`, sorted by module and name.

    Args:
        packages: import names, each walked to the end. None: flowkit and what its plug-ins name.

    A module that needs a package which isn't installed is left out with a warning.
    """
    if packages is None:
        packages = ["flowkit"]
        for entry in found().values():
            packages.extend(load(entry).packages)
    layers = {
        value
        for package in packages
        for module in _modules(package, tuple(packages))
        for value in vars(module).values()
        if _is_layer_of(value, module)
    }
    return sorted(layers, key=lambda layer: (layer.__module__, layer.__qualname__))


def all_examples(
    packages: Sequence[str] | None = None,
) -> list[tuple[type[Bijection], Example]]:
    """Each example of each of `all_layers(packages)`.

    Raises:
        AssertionError: a layer declares none.
    """
    return [(layer, example) for layer in all_layers(packages) for example in examples_of(layer)]


def examples_of(layer: type[Bijection]) -> list[Example]:
    """`layer.examples()`.

    Raises:
        AssertionError: it is empty.
    """
    examples = layer.examples()
    if not examples:
        raise AssertionError(
            f"{layer.__module__}.{layer.__qualname__}: expected examples() to give at least one "
            "Example to check the layer by, got none"
        )
    return examples


def _is_layer_of(value: object, module: ModuleType) -> bool:
    return (
        inspect.isclass(value)
        and issubclass(value, Bijection)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
        and not inspect.isabstract(value)
        # What `given` makes is checked with the layer that makes it.
        and not issubclass(value, HoldsCondition)
        # A base class that leaves both directions to its subclasses is no layer yet.
        and (value.forward, value.inverse) != (Bijection.forward, Bijection.inverse)
    )


def _modules(name: str, packages: tuple[str, ...]) -> Iterator[ModuleType]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in {package.partition(".")[0] for package in packages}:
            raise
        warnings.warn(
            f"flowkit.testing leaves out {name}: {missing} is not installed", stacklevel=2
        )
        return
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", []), f"{name}."):
        if not info.name.endswith(".__main__"):
            yield from _modules(info.name, packages)
