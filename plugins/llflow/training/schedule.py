"""What a step does: how fast it learns, by which loss, on pictures of which size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llflow.training.recipe import Recipe

HALVED_AT = (0.5, 0.75, 0.9, 0.95)  # of the steps, as the paper has it
COSINE_ENDS_AT = 0.01  # of the learning rate


@dataclass(frozen=True)
class Stage:
    """Batches of pictures averaged over factor×factor pixels, cut to crop×crop."""

    factor: int
    crop: int
    batch: int

    @property
    def pixels(self) -> int:
        """Of a step."""
        return self.batch * self.crop**2


@dataclass(frozen=True)
class Schedule:
    """A recipe over so many steps.

    Attributes:
        recipe: the settings.
        steps: how many there are in all; infinitely many while that isn't known, so that the run
            is at its beginning.
    """

    recipe: Recipe
    steps: float

    def learning_rate(self, step: int) -> float:
        """
            halving    rate·warm·2⁻ⁿ,  n = how many of 50, 75, 90 and 95 % of the steps are over
            cosine     rate·warm·(0.01 + 0.99·(1 + cos(π·step/steps))/2)

        with warm rising to 1 over the recipe's `warmup`, at most a tenth of the steps.

        Halving is the paper's; cosine: Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5, without
        restarts.
        """
        warmup = min(self.recipe.warmup, self.steps // 10)
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if self.recipe.annealing == "cosine":
            fallen = (1 + math.cos(math.pi * step / self.steps)) / 2
            annealed = COSINE_ENDS_AT + (1 - COSINE_ENDS_AT) * fallen
        else:
            annealed = 0.5 ** sum(step >= share * self.steps for share in HALVED_AT)
        return self.recipe.learning_rate * warm * annealed

    def loss(self, step: int) -> str:
        return "nll" if step < self.recipe.pretrain else self.recipe.loss

    def stage(self, step: int) -> Stage:
        stages = self.stages()
        over = 0.0
        for stage, share in stages[:-1]:
            over += share
            if step < over * self.steps:
                return stage
        return stages[-1][0]

    def stages(self) -> list[tuple[Stage, float]]:
        """All of them in their order, each with its share of the steps."""
        usual = self.recipe.crop, self.recipe.batch
        stages = []
        for factor, share, *given in self.recipe.sizes or ((1, 1.0),):
            crop, batch = (*given, *usual[len(given) :])
            stages.append((Stage(int(factor), int(crop), int(batch)), float(share)))
        return stages


def steps_within(
    schedule: Schedule, done: int, seconds: float, per_step: float, validating: float = 0.0
) -> int:
    """How many steps in all end when the time does, at least one more than are done.

    A step is taken to cost as many seconds as it has pixels.

    Args:
        schedule: of the recipe; its steps don't matter.
        done: steps taken so far, in the first stage.
        seconds: that are left.
        per_step: seconds that a step of the first stage takes.
        validating: seconds that validation takes per step, if spread evenly.
    """
    stages = schedule.stages()
    relative = sum(share * stage.pixels / stages[0][0].pixels for stage, share in stages)
    return max(done + 1, done + int(seconds / (per_step * relative + validating)))
