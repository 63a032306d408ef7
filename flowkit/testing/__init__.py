"""Checks that hold a `Bijection` to its contract: flowkit's own layers and yours.

    from flowkit.testing import parametrize_with_checks

    @parametrize_with_checks([MyLayer])
    def test_my_layer(check):
        check()

A layer says in `examples()` how to build it and what it takes; every example meets every check. The
layer is taken to be a bijection of ℝⁿ onto ℝⁿ, for both sides are fed normal random numbers.
Needs the packages of the extra `flowkit[testing]`.
"""

from flowkit.testing.checks import (
    all_checks,
    check_bijection,
    check_compiles,
    check_condition,
    check_copies,
    check_fold,
    check_gradients,
    check_independent_samples,
    check_logdet,
    check_low_precision,
    check_prepare,
    check_pure,
    check_reversible,
    check_round_trip,
    check_shapes,
)
from flowkit.testing.discover import all_examples, all_layers
from flowkit.testing.parametrize import parametrize_with_checks
from flowkit.testing.randomize import Draw, random_inputs, randomized

__all__ = [
    "Draw",
    "all_checks",
    "all_examples",
    "all_layers",
    "check_bijection",
    "check_compiles",
    "check_condition",
    "check_copies",
    "check_fold",
    "check_gradients",
    "check_independent_samples",
    "check_logdet",
    "check_low_precision",
    "check_prepare",
    "check_pure",
    "check_reversible",
    "check_round_trip",
    "check_shapes",
    "parametrize_with_checks",
    "random_inputs",
    "randomized",
]
