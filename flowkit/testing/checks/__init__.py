"""What every bijection has to hold, one idea a file. Each check takes an `Example` and raises an
AssertionError that says in words what is wrong."""

from flowkit.contract import Bijection, Example
from flowkit.testing.checks.captured import check_compiles, check_exports
from flowkit.testing.checks.condition import check_condition
from flowkit.testing.checks.copies import check_copies
from flowkit.testing.checks.density import check_density
from flowkit.testing.checks.empty import check_empty_batch
from flowkit.testing.checks.extremes import check_extremes
from flowkit.testing.checks.fold import check_fold
from flowkit.testing.checks.given import check_given
from flowkit.testing.checks.gradients import check_gradients
from flowkit.testing.checks.in_place import check_logdet_in_place
from flowkit.testing.checks.initialize import check_initialize
from flowkit.testing.checks.logdet import check_logdet
from flowkit.testing.checks.parallel import check_parallel_inverse
from flowkit.testing.checks.precision import check_low_precision
from flowkit.testing.checks.pure import check_pure
from flowkit.testing.checks.reuse import check_reuse
from flowkit.testing.checks.reversible import check_reversible
from flowkit.testing.checks.round_trip import check_round_trip
from flowkit.testing.checks.samples import check_independent_samples
from flowkit.testing.checks.shapes import check_shapes
from flowkit.testing.discover import examples_of
from flowkit.testing.draws import Check

EXPLAINING = (check_shapes, check_pure, check_independent_samples)
"""Checks without which the others can't be understood: where one of these fails, the failures of
all others follow from it."""


def all_checks() -> tuple[Check, ...]:
    """The checks in the order in which their failures explain one another."""
    return (
        *EXPLAINING,
        check_empty_batch,
        check_round_trip,
        check_parallel_inverse,
        check_logdet,
        check_density,
        check_gradients,
        check_condition,
        check_low_precision,
        check_extremes,
        check_logdet_in_place,
        check_copies,
        check_reuse,
        check_given,
        check_fold,
        check_reversible,
        check_initialize,
        check_exports,
        check_compiles,
    )


def check_bijection(layer_or_example: type[Bijection] | Example) -> None:
    """Run all checks that apply on an example, or on all examples of a layer.

    Raises:
        AssertionError: one fails, or the layer has no examples.
    """
    from unittest import SkipTest

    if isinstance(layer_or_example, Example):
        examples = [layer_or_example]
    else:
        examples = examples_of(layer_or_example)
    for example in examples:
        for check in all_checks():
            try:
                check(example)
            except SkipTest:
                continue
