"""Every example × every check, as pytest cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import SkipTest

from flowkit.contract import Bijection, Example
from flowkit.testing.checks import EXPLAINING, all_checks
from flowkit.testing.discover import all_layers, examples_of
from flowkit.testing.draws import Check

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Case:
    """One example to be held to one check; calling it does so."""

    layer: type[Bijection]
    example: Example
    check: Check

    def __call__(self) -> None:
        __tracebackhide__ = True
        try:
            self.check(self.example)
        except SkipTest:
            raise
        except Exception:
            cause = self._explaining()
            if cause is None:
                raise
            raise AssertionError(f"{self.layer.__name__}: follows from {cause}") from None
        if self.check is EXPLAINING[0]:
            self._require_layer()

    def __repr__(self) -> str:
        return f"{self.layer.__name__}, {self.check.__name__}"

    def _explaining(self) -> str | None:
        """Which check fails as well that this one's failure follows from, or None."""
        for check in EXPLAINING:
            if check is self.check:
                return None
            try:
                check(self.example)
            except AssertionError as error:
                return f"{check.__name__}: {str(error).splitlines()[0]}"
        return None

    def _require_layer(self) -> None:
        built = type(self.example.build())
        if not issubclass(built, self.layer):
            raise AssertionError(
                f"{self.layer.__name__}: expected examples() to build one, got {built.__name__}"
            )


@dataclass(frozen=True)
class WithoutExamples:
    """Stands for a layer that declares no examples; calling it fails by the layer's name."""

    layer: type[Bijection]

    def __call__(self) -> None:
        examples_of(self.layer)


def parametrize_with_checks(
    layers_or_examples: Sequence[type[Bijection] | Example] | None = None,
) -> pytest.MarkDecorator:
    """Run a test once for each example and check, given as its argument `check`, to be called.

    Args:
        layers_or_examples: `Bijection` classes, `Example`s or both. None: every layer of flowkit
            and of the plug-ins that are installed.

    A layer that declares no examples is a case of its own, and fails.
    """
    import pytest

    if layers_or_examples is None:
        layers_or_examples = all_layers()
    cases = []
    for subject in layers_or_examples:
        if isinstance(subject, Example):
            layer, examples = type(subject.build()), [subject]
        else:
            layer, examples = subject, subject.examples()
        if not examples:
            cases.append(pytest.param(WithoutExamples(layer), id=f"{layer.__name__}-examples"))
        for number, example in enumerate(examples):
            name = layer.__name__
            if example.name or len(examples) > 1:
                name += f"[{example.name or number}]"
            for check in all_checks():
                check_name = check.__name__.removeprefix("check_")
                mark = pytest.mark.flowkit_case(
                    layer=f"{layer.__module__}.{layer.__qualname__}", example=name, check=check_name
                )
                case = Case(layer, example, check)
                cases.append(pytest.param(case, id=f"{name}-{check_name}", marks=mark))
    return pytest.mark.parametrize("check", cases)
