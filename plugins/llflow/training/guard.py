"""Steps that aren't finite, or wild: skipped, and after some in a row the run goes back."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flowkit import Drifted
from llflow.errors import LLFlowError
from llflow.training.state import State

ROLL_BACK_AFTER = 5  # consecutive steps that were skipped
USUAL_AFTER = 100  # steps: only then it is known which norm is usual
GIVE_UP_BELOW = 1 / 32  # of the learning rate, which every roll-back halves
RECOVERS_AFTER = 1000  # steps without another roll-back, which double it again


class Diverged(LLFlowError, ArithmeticError):
    """Losses or gradients weren't finite, or wild, again and again."""


class Guard:
    """Says which steps are taken, and goes back where none is any more.

    A step is wild if the norm of its gradient is the recipe's `wildest` times the usual one: the
    flow is about to become one whose inverse no longer is near any picture.

    Weights, average and optimiser go back to the anchor: what they were at the last multiple of
    `anchor_every` steps from which a step was taken.

    Args:
        state: of the run.
        anchor_every: steps between anchors.
        tell: is called with a step's number and what has happened there.
    """

    def __init__(self, state: State, anchor_every: int, tell: Callable[[int, str], object]) -> None:
        self.state, self.anchor_every, self.tell = state, anchor_every, tell

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients; where the flow can't be inverted on the way back, NaN to all."""
        try:
            loss.backward()
        except Drifted:
            # Through autograd, because the other processes wait for these gradients.
            sums = [parameter.sum() for parameter in self.state.model.parameters()]
            (math.nan * torch.stack(sums).sum()).backward()

    def allows(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether the step that the state is at may be taken, by its loss and gradient's norm.

        Raises:
            Diverged: going back didn't help, five times.
        """
        state = self.state
        is_finite = bool(loss.isfinite() & norm.isfinite())
        if is_finite and not self._is_wild(norm.item()):
            if state.step % self.anchor_every == 0:
                state.drop_anchor()
            state.bad_steps = 0
            if state.caution < 1 and state.step - state.went_back_at >= RECOVERS_AFTER:
                state.caution, state.went_back_at = 2 * state.caution, state.step
            return True
        state.bad_steps += 1
        step = state.step + 1
        usual = f", usually {state.usual:.4g}" if is_finite else ""
        self.tell(step, f"step {step} skipped: loss {loss:.4g}, gradient norm {norm:.4g}{usual}")
        if state.bad_steps == ROLL_BACK_AFTER:
            self._go_back(step)
        return False

    def _is_wild(self, norm: float) -> bool:
        """And take the norm into what is usual, a wild one as twice that."""
        state, usual = self.state, self.state.usual or norm
        over = min(state.step + 1, USUAL_AFTER)
        state.usual = usual + (min(norm, 2 * usual) - usual) / over
        return state.step >= USUAL_AFTER and norm > state.recipe.wildest * usual

    def _go_back(self, step: int) -> None:
        self.state.roll_back()
        if self.state.caution < GIVE_UP_BELOW:
            raise Diverged(
                f"up to step {step}, {ROLL_BACK_AFTER} steps in a row weren't finite or were wild, "
                "and going back didn't help; a smaller learning rate may"
            )
        self.tell(
            step,
            f"{ROLL_BACK_AFTER} steps in a row were skipped: back to the weights of step "
            f"{self.state.anchored_at}, at {self.state.caution:g} of the learning rate",
        )
