"""Each direction undoes the other."""

from __future__ import annotations

from flowkit.contract import Example
from flowkit.testing.comparison import require_close, require_logdet
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import subject_of
from flowkit.testing.tolerances import FLOAT64


@over_draws()
def check_round_trip(example: Example, draw: Draw) -> None:
    """inverse(forward(x)) = x, forward(inverse(y)) = y, and the log-dets of each pair sum to 0."""
    subject = subject_of(example, draw)
    there, back = subject.sides
    tolerance = max(FLOAT64, example.tolerance)
    for first, second in ((there, back), (back, there)):
        value, logdet = first(first.value, subject.cond)
        returned, logdet_back = second(value, subject.cond)
        require_close(second.who, f"to undo {first.name}", returned, first.value, tolerance)
        require_logdet(
            second.who,
            f"minus the log-det of {first.name}",
            logdet_back,
            -logdet,
            tolerance,
            first.value.shape[1:],
        )
