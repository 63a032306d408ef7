"""Trying a check on several draws, by hypothesis."""

from __future__ import annotations

from collections.abc import Callable

from flowkit.contract import Example
from flowkit.testing.randomize import Draw

Check = Callable[[Example], None]


def over_draws(max_draws: int = 6) -> Callable[[Callable[[Example, Draw], None]], Check]:
    """Make `body(example, draw)` a check of an example: it must hold for an ordinary draw, then
    for up to `max_draws` of 1 to 3 samples, of any seed and of small, usual or large input."""

    def decorate(body: Callable[[Example, Draw], None]) -> Check:
        def check(example: Example) -> None:
            from hypothesis import HealthCheck, Phase, given, settings, strategies
            from hypothesis import example as first

            draws = strategies.builds(
                Draw,
                batch=strategies.sampled_from([3, 1, 2]),
                seed=strategies.integers(0, 2**16),
                scale=strategies.sampled_from([1.0, 0.1, 10.0]),
            )

            # Derandomized, so that a run repeats. No shrinking: no seed is simpler than another.
            @settings(
                max_examples=max_draws,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.nested_given],
            )
            @first(draw=Draw())
            @given(draw=draws)
            def holds(draw: Draw) -> None:
                body(example, draw)

            holds()

        check.__name__ = body.__name__
        check.__qualname__ = body.__qualname__
        check.__module__ = body.__module__
        check.__doc__ = body.__doc__
        return check

    return decorate
