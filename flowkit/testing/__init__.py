"""Checks that hold a `Bijection` to its contract: flowkit's own layers and yours.

    from flowkit.testing import parametrize_with_checks

    @parametrize_with_checks([MyLayer])
    def test_my_layer(check):
        check()

A layer says in `examples()` how to build it and what it takes; every example meets every check, at
its own size and at a longer one. Both sides are fed normal random numbers, or what
`torch.distributions.biject_to` makes of them where the example names a domain or codomain.

What a layer is promised: its input is float32 or float64, for `Chain` and `Flow` widen what is
narrower once, at their entrance; parameters are in the input's precision, or in float32 with an
input in float64, where raising an error is no fault. `flowkit.ask` asks a net in its own precision
(and under autocast it may answer in bfloat16: `flowkit.wide` the answer); `flowkit.sum_logdet`,
`zero_logdet` and `same_logdet` make log-dets of the right shape and precision.

`check_elementwise(how)` does likewise for an elementwise map, which then works in every family, and
`check_flow(example)` for a density, whose `build` makes a `Flow`, a `Dequantized` or one of yours.

A failure names the smallest case. Needs the packages of the extra `flowkit[testing]`.
"""

from flowkit.testing.checks import (
    all_checks,
    check_bijection,
    check_compiles,
    check_condition,
    check_copies,
    check_density,
    check_empty_batch,
    check_exports,
    check_extremes,
    check_fold,
    check_given,
    check_gradients,
    check_independent_samples,
    check_initialize,
    check_logdet,
    check_logdet_in_place,
    check_low_precision,
    check_parallel_inverse,
    check_pure,
    check_reuse,
    check_reversible,
    check_round_trip,
    check_shapes,
)
from flowkit.testing.discover import all_examples, all_layers
from flowkit.testing.draws import Draw
from flowkit.testing.elementwise import check_elementwise
from flowkit.testing.flow import check_flow
from flowkit.testing.parametrize import parametrize_with_checks
from flowkit.testing.randomize import random_inputs, randomized

__all__ = [
    "Draw",
    "all_checks",
    "all_examples",
    "all_layers",
    "check_bijection",
    "check_compiles",
    "check_condition",
    "check_copies",
    "check_density",
    "check_elementwise",
    "check_empty_batch",
    "check_exports",
    "check_extremes",
    "check_flow",
    "check_fold",
    "check_given",
    "check_gradients",
    "check_independent_samples",
    "check_initialize",
    "check_logdet",
    "check_logdet_in_place",
    "check_low_precision",
    "check_parallel_inverse",
    "check_pure",
    "check_reuse",
    "check_reversible",
    "check_round_trip",
    "check_shapes",
    "parametrize_with_checks",
    "random_inputs",
    "randomized",
]
