"""The condition: it matters, or isn't needed."""

from __future__ import annotations

from flowkit.contract import Example
from flowkit.testing.comparison import require_identical
from flowkit.testing.draws import Draw
from flowkit.testing.randomize import random_inputs
from flowkit.testing.subject import each, entries, entry_called, outcome, subject_of


def check_condition(example: Example) -> None:
    """A condition that is needed matters, entry by entry, and is refused when missing; one that
    isn't needed changes nothing. A layer that says `conditional = False` needs none."""
    if example.cond_shape is None:
        _check_ignored(example)
        return
    subject = subject_of(example)
    if not subject.layer.conditional:
        raise AssertionError(
            f"{subject.who}: expected conditional = True of a layer whose example has a condition, "
            "got False: a flow of it would refuse one"
        )
    for side in subject.sides:
        try:
            side.map(side.value, None)
        except ValueError:
            pass
        except Exception as error:
            raise AssertionError(
                f"{side.who}: expected a ValueError for a missing condition, got {error!r}"
            ) from error
        else:
            raise AssertionError(f"{side.who}: expected a missing condition to be refused")
    for key in entries(subject.cond):
        for side_index in range(2):
            # Any seed will do: a ReLU may hide the condition, but not from all of five layers.
            if not any(_matters(example, seed, key, side_index) for seed in range(5)):
                raise AssertionError(
                    f"{subject.sides[side_index].who}: expected the condition{entry_called(key)} "
                    "to change value or log-det, got the same whatever it is"
                )


def _matters(example: Example, seed: int, key: str, side_index: int) -> bool:
    subject = subject_of(example, Draw(seed=seed))
    side = subject.sides[side_index]
    value, logdet = side(side.value, subject.cond)
    other = each(subject.cond, lambda entry: entry + 1, only=key)
    other_value, other_logdet = side(side.value, other)
    return not (value.equal(other_value) and logdet.equal(other_logdet))


def _check_ignored(example: Example) -> None:
    subject = subject_of(example)
    entry, _ = random_inputs(Example(example.build, (1, 2, 2)), Draw(seed=1))
    for cond in (entry, {"entry": entry}):
        for side in subject.sides:
            who = f"{side.who}, given a condition it has no use for"
            expected = side(side.value, None)
            require_identical(who, outcome(who, side.map, side.value, cond), expected)
