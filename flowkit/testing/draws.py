"""What a check is tried on: draws that hypothesis makes, and makes smaller when one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps

import torch

from flowkit.contract import Example

Check = Callable[[Example], None]
LAYOUTS = ("contiguous", "channels last", "every other element")


@dataclass(frozen=True)
class Draw:
    """One try of a check.

    Args:
        batch: B.
        seed: of the layer's parameters and of the input.
        scale: of the input, which is `scale` times normal.
        longer: S is longer than the example's on its last axis, where the layer allows that.
        layout: how input and condition lie in memory, one of LAYOUTS.
        dtype: of input and condition.
    """

    batch: int = 2
    seed: int = 0
    scale: float = 1.0
    longer: bool = False
    layout: str = LAYOUTS[0]
    dtype: torch.dtype = torch.float64

    def __str__(self) -> str:
        parts = [f"batch {self.batch}", f"seed {self.seed}"]
        if self.scale != 1:
            parts.append(f"scale {self.scale:g}")
        if self.longer:
            parts.append("S longer than the example's")
        if self.layout != LAYOUTS[0]:
            parts.append(f"memory: {self.layout}")
        if self.dtype != torch.float64:
            parts.append(str(self.dtype).removeprefix("torch."))
        return ", ".join(parts)


def over_draws(
    max_draws: int = 8,
    *,
    batches: Sequence[int] = (1, 2, 3),
    scales: Sequence[float] = (1.0, 10.0),
    dtypes: Sequence[torch.dtype] = (torch.float64,),
) -> Callable[[Callable[[Example, Draw], None]], Check]:
    """Make `body(example, draw)` a check of an example: it must hold for up to `max_draws` draws,
    the simplest of which comes first. A failure names the simplest that fails."""

    def decorate(body: Callable[[Example, Draw], None]) -> Check:
        @wraps(body)
        def check(example: Example) -> None:
            __tracebackhide__ = True
            from hypothesis import HealthCheck, Phase, given, settings, strategies
            from hypothesis.errors import Flaky

            draws = strategies.builds(
                Draw,
                batch=strategies.sampled_from(batches),
                seed=strategies.integers(0, 9),
                scale=strategies.sampled_from(scales),
                longer=strategies.booleans(),
                layout=strategies.sampled_from(LAYOUTS),
                dtype=strategies.sampled_from(dtypes),
            )
            latest = None

            # Derandomized, so that a run repeats.
            @settings(
                max_examples=max_draws,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.nested_given],
            )
            @given(draw=draws)
            def holds(draw: Draw) -> None:
                nonlocal latest
                latest = draw
                body(example, draw)

            try:
                holds()
            except Flaky as error:
                raise AssertionError(
                    f"{body.__name__}: expected the same outcome each time, but for {latest} it "
                    "fails at one time and holds at another (noise, or memory of earlier calls?)"
                ) from error
            except AssertionError as error:
                # Hypothesis ends with the simplest draw that fails.
                raise AssertionError(f"{error}\n  smallest case: {latest}") from error.__cause__

        del check.__wrapped__  # pyright: ignore[reportAttributeAccessIssue]
        return check

    return decorate
