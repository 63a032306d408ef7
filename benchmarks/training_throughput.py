"""How many pixels does `llflow train --recipe tiny` learn from in a core-second?

python benchmarks/training_throughput.py

Whole steps: samples cut from pictures of 400×600, forward, backward, clipping, Adam, and the moving
average of the weights. "before" is the network that `tiny` was before it was made for a CPU, on 6
crops of 112×112 with NLL and l1 in float32; the others are the stages of the recipe, in the
precision that "auto" means here. Pixels are those of the crops; a core-second is one of processor
time, with one thread. "schedule" is the recipe's mix of its stages.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import measure
import torch
from measure import Target, Times
from torch import nn

from llflow import Config, LLFlow, data
from llflow.picture.files import Picture, write
from llflow.training.batches import Batches
from llflow.training.initialization import initialize_from
from llflow.training.precision import precision_on
from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule, Stage
from llflow.training.state import State

BEFORE = Config(features=16, growth=8, blocks=2, taps=(1,), steps=3, hidden=24, scale_floor=0.1)
ITS_RECIPE = {"size": "small", "batch": 6, "crop": 112, "loss": "nll+l1", "l1_weight": 40.0}
TARGET = Target("pixels per core-second in training tiny, against before", 2.5, "×", True)
STEPS = 1000  # of the schedule, whose stages are looked at


def write_pairs(folder: Path, height: int, width: int) -> list[data.PairFiles]:
    """Two pairs of smooth pictures."""
    for name in ("a", "b"):
        coarse = torch.rand(1, 3, 8, 12)
        bright = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
        for part, factor in (("low", 0.1), ("high", 1.0)):
            write(folder / part / f"{name}.png", Picture(factor * bright))
    return data.find_pairs(folder)


def steps_of(
    recipe: Recipe, model: LLFlow, files: list[data.PairFiles]
) -> list[tuple[Stage, float, Callable[[], float]]]:
    """The stages with their shares, and a function that takes a step in each."""
    schedule = Schedule(recipe, STEPS)
    batches = Batches(schedule, files, None)
    initialize_from(model, batches.at(schedule, 0))
    state, objective = State(model, recipe), recipe.objective(model)

    def step_at(number: int) -> Callable[[], float]:
        def step() -> float:
            batch = batches.at(schedule, number)
            state.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = objective(recipe.loss, **batch)["loss"]
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            state.optimizer.step()
            state.averaged.update_parameters(model)
            return loss.item()

        return step

    found, begins = [], 0.0
    for stage, share in schedule.stages():
        step = step_at(int(begins * STEPS) + 1)
        if not math.isfinite(step()):
            raise measure.WrongResult(f"{stage}: the loss isn't finite; not timed")
        found.append((stage, share, step))
        begins += share
    return found


def named(stage: Stage) -> str:
    return f"{stage.batch} crops of {stage.crop}×{stage.crop} at 1/{stage.factor}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.set_defaults(seconds=30.0)
    args = measure.begin(parser, argv)
    if args.device != "cpu":
        parser.error("expected --device cpu: core-seconds are what is asked for")
    recipe, before = Recipe.read("tiny"), Recipe(**ITS_RECIPE, precision="float32")
    height, width = 400, 600
    if args.quick:
        stages = ((2, 0.5, 16, 2), (1, 0.5, 16, 2))
        recipe, before = replace(recipe, sizes=stages), replace(before, crop=16, batch=2)
        height, width = 48, 64
    precision = precision_on(torch.device("cpu"), recipe.precision, recipe.keep)
    recipe = replace(recipe, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        files = write_pairs(Path(folder), height, width)
        ((old, _, old_step),) = steps_of(before, LLFlow(BEFORE), files)
        stages = steps_of(recipe, LLFlow(recipe.config()), files)
    ways = {"before": old_step} | {named(stage): step for stage, _, step in stages}
    times = measure.take_turns(ways, seconds=args.seconds)
    pixels = {"before": old.pixels} | {named(stage): stage.pixels for stage, _, _ in stages}
    per_pixel = {way: [seconds / pixels[way] for seconds in times.seconds[way]] for way in ways}
    mixed = sum(share * stage.pixels for stage, share, _ in stages)
    rounds = zip(
        *([share * s for s in times.seconds[named(stage)]] for stage, share, _ in stages),
        strict=True,
    )
    per_pixel["schedule"] = [sum(seconds) / mixed for seconds in rounds]
    paces = Times(per_pixel, times.clock)
    rows = [
        {
            "step": way,
            "precision": "float32" if way == "before" else precision,
            "least core-seconds": times.least(way) if way in ways else "–",
            "thousand pixels per core-second": 1e-3 / paces.least(way),
            "of before's": paces.ratio("before", way),
        }
        for way in per_pixel
    ]
    result = paces.ratio("before", "schedule")
    measure.record(
        "training_throughput",
        args,
        doc=__doc__ or "",
        tables={"A training step": rows},
        targets=[TARGET.judged(result.median)],
    )


if __name__ == "__main__":
    sys.exit(main())
