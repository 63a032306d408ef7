"""What a run is: a folder, a state to go on from, and the processes that share its batches."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from llflow import data
from llflow.atomic import remove_unfinished, write_atomically
from llflow.evaluation.evaluate import validation_psnr
from llflow.network import checkpoint
from llflow.network.model import SIZES, LeanConfig, LLFlow
from llflow.network.precision import networks_in
from llflow.training.batches import Batch, Batches
from llflow.training.initialization import initialize_from
from llflow.training.interruption import Interruption
from llflow.training.log import Log, side_by_side
from llflow.training.precision import precision_on
from llflow.training.processes import Processes
from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule, steps_within
from llflow.training.state import State

log = logging.getLogger(__name__)

SAVE_AFTER = 300  # seconds, where `save_every` steps take longer
RECORD_EVERY = 20  # steps
BEST, LAST = "best.safetensors", "last.safetensors"
NOTHING_HELD_OUT = "nothing is held out: the last averaged weights are the result"
MEASURED = 25  # steps, from whose median a budget of hours becomes a number of steps


class Run:
    """One process's part of a run; the first process's keeps what comes of it.

    Args and errors: see `llflow.training.train.train`.

    Attributes:
        state: where the run is.
        schedule: what its steps do.
        objective: of the network in `state`, compiled and distributed as asked for.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: Sequence[data.PairFiles],
        validation: Sequence[data.PairFiles] | None,
        out: Path,
        *,
        processes: Processes,
        interruption: Interruption,
        device: torch.device,
        photographs: Path | None,
        watched: int,
        validate_every: int,
        save_every: int,
        tensorboard: bool,
    ) -> None:
        self.began = self.saved = time.monotonic()
        self.out, self.processes, self.device = out, processes, device
        self.interruption = interruption
        self.validate_every, self.save_every = validate_every, save_every
        self.watched = validation and validation[:: max(1, len(validation) // watched)]
        _check_batches(recipe, processes)
        if photographs is not None and not recipe.synthetic_share:
            raise ValueError("photographs only count in a recipe with synthetic_share > 0")
        is_new = bool(processes.from_first(not (out / "last.pt").exists()))
        _require_pairs(training, validation)
        self.split = split = {
            "training": [pair.name for pair in training],
            "validation": [pair.name for pair in validation or ()],
        }
        _check(split, out, is_new)
        self.state = _state(recipe, device, out, is_new)
        self.recipe = self.state.recipe
        self.before = self.state.seconds
        steps = (self.state.planned or math.inf) if self.recipe.hours else self.recipe.steps
        self.schedule = Schedule(self.recipe, steps)
        self.samples = Batches(self.schedule, training, photographs)
        if is_new and not recipe.weights:
            self._initialize()
        if processes.is_first:
            for folder in (out, out / "pictures"):
                remove_unfinished(folder)
            content = json.dumps(split, indent=1).encode()
            write_atomically(out / "split.json", lambda file: file.write(content))
        is_kept = processes.is_first
        self.log = Log(out, self.state.step, tensorboard=tensorboard) if is_kept else None
        self.objective = self._objective()
        if self.state.step == 0:
            self._begin()

    def _initialize(self) -> None:
        first = self.samples.at(self.schedule, 0)
        ours = {name: self.processes.part(part).to(self.device) for name, part in first.items()}
        initialize_from(self.state.model, ours)
        self.state.averaged.module.load_state_dict(self.state.model.state_dict())
        self.state.drop_anchor()

    def _objective(self) -> nn.Module:
        recipe, model = self.recipe, self.state.model
        model.keep = recipe.keep
        objective = recipe.objective(model)
        if recipe.compile:
            model.compile_networks()
        if self.processes.count == 1:
            return objective
        # Without a flow, nothing asks for the conditions at a quarter and an eighth; without
        # thumbnails, nothing for the illumination.
        is_unasked = model.illumination is not None and not recipe.thumbnails
        unused = recipe.encoder_only or is_unasked
        return DistributedDataParallel(objective, find_unused_parameters=unused)

    def _begin(self) -> None:
        """Save before the first step, again if a run was killed here; the recipe's weights are the
        best until training finds better."""
        if self.log is None:
            return
        state, watched = self.state, self.watched
        if watched is None:
            log.info(NOTHING_HELD_OUT)
            self.log.write(0, event=NOTHING_HELD_OUT)
        elif self.recipe.weights:
            state.best = validation_psnr(state.model, watched)
            self.log.write(0, psnr=state.best)
        self.save()
        if watched is not None and self.recipe.weights:
            self._keep(state.model, BEST)

    def batches(self) -> Iterator[list[Batch]]:
        """This process's samples of every step that is left, in the recipe's parts.

        With a budget of hours, the first steps of a run are timed, and then its steps are fixed.
        """
        state = self.state
        total = None if math.isinf(self.schedule.steps) else self.schedule.steps
        hidden = self.log is None
        self.bar = tqdm(initial=state.step, total=total, unit="step", disable=hidden)
        self.interruption.deferred = True
        with self.bar:
            if total is None:
                until = max(state.step, self.recipe.pretrain) + MEASURED
                times = [time.monotonic()]
                for batch in self.samples.ahead(self.schedule, range(state.step, until)):
                    yield self._parts(batch)
                    self._taken()
                    times.append(time.monotonic())
                paces = [after - before for before, after in pairwise(times)]
                self._plan(median(paces[-MEASURED:]))
            left = range(state.step, int(self.schedule.steps))
            for batch in self.samples.ahead(self.schedule, left):
                yield self._parts(batch)
                self._taken()
        if self.log is not None:
            self.log.close()

    def _taken(self) -> None:
        """After a step; somebody may have asked for it to be the last."""
        self.bar.update()
        if self.interruption.asked:
            self.save()
            raise KeyboardInterrupt

    def _parts(self, batch: Batch) -> list[Batch]:
        ours = {name: self.processes.part(t).to(self.device) for name, t in batch.items()}
        chunks = (t.chunk(self.recipe.accumulate) for t in ours.values())
        return [dict(zip(ours, part, strict=True)) for part in zip(*chunks, strict=True)]

    def _plan(self, per_step: float) -> None:
        """Fix how many steps fit the hours, and save that: what follows is exact again."""
        state, began = self.state, time.monotonic()
        self.validate()
        validating = time.monotonic() - began
        left = 3600 * self.recipe.hours - self._used() - validating  # one more at the end
        per_step_validating = validating / self.validate_every
        steps = steps_within(self.schedule, state.step, left, per_step, per_step_validating)
        state.planned = int(self.processes.from_first(steps))
        self.schedule = Schedule(self.recipe, state.planned)
        self.bar.total = state.planned
        message = f"{state.planned} steps in {self.recipe.hours:g} hours, {per_step:.3g} s a step"
        if self.log is not None:
            log.info(message)
            self.log.write(state.step, event=message)
        self.save()

    def _used(self) -> float:
        return self.before + time.monotonic() - self.began

    @property
    def is_over(self) -> bool:
        return self.state.step == self.schedule.steps

    def seed_step(self) -> None:
        """What a network draws (dropout) is decided by seed, step and process alone, too."""
        seeds = np.random.SeedSequence([self.recipe.seed, self.state.step, self.processes.rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def synchronized(self, at_once: bool) -> contextlib.AbstractContextManager:
        """Gradients are added up over processes, or kept apart until they are."""
        if at_once or not isinstance(self.objective, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.objective.no_sync()

    def autocast(self) -> torch.autocast:
        return networks_in(self.recipe.precision, self.device)

    def record(self, terms: dict[str, Tensor], norm: Tensor) -> None:
        """A line of the log, every 20 steps."""
        step = self.state.step
        if self.log is None or step % RECORD_EVERY:
            return
        values = {name: term.item() for name, term in terms.items()}
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        self.log.write(
            step,
            **values,
            gradient=norm.item(),
            learning_rate=self.state.optimizer.param_groups[0]["lr"],
            seconds=time.monotonic() - self.began,
        )

    def validate(self) -> None:
        """Score the averaged weights; the best so far are kept. Without validation, these are."""
        if self.log is None:
            return
        state = self.state
        if self.watched is None:
            self._keep(state.average, LAST)
            return
        psnr = validation_psnr(state.average, self.watched)
        self.log.write(state.step, psnr=psnr)
        self.log.show(state.step, side_by_side(state.average, self.watched))
        self.bar.write(
            f"step {state.step}: validation PSNR {psnr:.2f} dB (best before: {state.best:.2f})",
            file=sys.stderr,
        )
        if psnr > state.best:
            state.best = psnr
            self._keep(state.average, BEST)

    def _keep(self, model: LLFlow, name: str) -> None:
        trained = {
            "pairs": len(self.split["training"]),
            "held_out": len(self.split["validation"]),
            "step": self.state.step,
        }
        checkpoint.save(model, self.out / name, trained)

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() - self.saved > SAVE_AFTER

    def save(self) -> None:
        """Write last.pt."""
        if self.log is None:
            return
        self.saved = time.monotonic()
        if self.recipe.hours:
            self.state.seconds = self._used()
        self.state.save(self.out / "last.pt")

    def tell(self, step: int, message: str) -> None:
        """What happened at a step, to the log and to whoever watches."""
        if self.log is not None:
            log.warning(message)
            self.log.write(step, event=message)


def _check_batches(recipe: Recipe, processes: Processes) -> None:
    parts = processes.count * recipe.accumulate
    batches = [("batch", stage.batch) for stage, _ in Schedule(recipe, math.inf).stages()]
    if isinstance(recipe.config(), LeanConfig):
        batches.append(("number of thumbnails", recipe.thumbnails))
    for what, count in batches:
        if count % parts:
            raise ValueError(
                f"expected a {what} that {processes.count} processes and {recipe.accumulate} parts "
                f"divide, got {count}"
            )


def _require_pairs(
    training: Sequence[data.PairFiles], validation: Sequence[data.PairFiles] | None
) -> None:
    if not training or (validation is not None and not validation):
        raise data.DataError("too few scenes: none left for training or for validation")


def _check(split: dict[str, list[str]], out: Path, is_new: bool) -> None:
    if not is_new and data.read_split(out / "split.json") != split:
        raise ValueError(f"{out}: that run has other pictures or scenes; choose another folder")
    if is_new and any((out / name).exists() for name in (BEST, LAST)):
        raise ValueError(f"{out}: has weights but no last.pt to go on from; choose another folder")


def _state(recipe: Recipe, device: torch.device, out: Path, is_new: bool) -> State:
    """Of a new run, whose `precision` is no longer "auto"; or where the run in `out` stopped."""
    if is_new:
        precision = precision_on(device, recipe.precision, recipe.keep)
        recipe = replace(recipe, precision=precision)
    state = State(_network(recipe, is_new).to(device), recipe)
    if not is_new:
        state.load(out / "last.pt")
        log.info("going on at step %d", state.step)
    log.info("encoder and nets compute in %s", state.recipe.precision)
    return state


def _network(recipe: Recipe, is_new: bool) -> LLFlow:
    """With the recipe's weights, or random ones, which a run that goes on replaces."""
    if not (is_new and recipe.weights):
        torch.manual_seed(recipe.seed)
        return LLFlow(recipe.config())
    model = checkpoint.load(recipe.weights).train()
    ours, theirs = (checkpoint.described(c) for c in (recipe.config(), model.config))
    if ours != theirs:
        differing = [
            f"{name} = {theirs[name]}" for name in theirs if theirs[name] != ours.get(name)
        ]
        sizes = [name for name, config in SIZES.items() if config == model.config]
        raise ValueError(
            f"{recipe.weights}: another network than the recipe's, which is {recipe.size}; the "
            f"weights have {', '.join(differing)}" + (f", which is {sizes[0]}" if sizes else "")
        )
    return model
