"""Training: one readable loop."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from flowkit import Drifted
from llflow import data
from llflow.atomic import remove_unfinished, write_atomically
from llflow.evaluation.evaluate import validation_psnr
from llflow.network import checkpoint
from llflow.network.model import SIZES, LLFlow
from llflow.training.log import Log, side_by_side
from llflow.training.objective import Objective
from llflow.training.processes import Processes, joined
from llflow.training.recipe import Recipe
from llflow.training.state import State

log = logging.getLogger(__name__)

ROLL_BACK_AFTER = 5  # consecutive steps that aren't finite
GIVE_UP_BELOW = 1 / 32  # of the learning rate, which every roll-back halves
SAVE_AFTER = 300  # seconds, where `save_every` steps take longer


class Diverged(ArithmeticError):
    """Losses or gradients weren't finite again and again."""


def train(
    recipe: Recipe,
    training: Sequence[data.PairFiles],
    validation: Sequence[data.PairFiles],
    out: Path,
    *,
    photographs: Path | None = None,
    device: torch.device | str = "cpu",
    validate_every: int = 500,
    validation_pictures: int = 16,
    save_every: int = 100,
    tensorboard: bool = False,
) -> float:
    """Train, or go on where the run in `out` stopped.

    `out` receives best.safetensors (averaged weights, best validation PSNR), last.pt (everything to
    go on from), log.jsonl, split.json, pictures/ (validation scenes as they improve), and
    tensorboard/ if asked for. A run that was killed and started again ends with the same weights,
    bit by bit, on the same machine with the same number of threads and processes.

    A step whose loss or gradient isn't finite is skipped. After five in a row, weights and
    optimiser go back to what they were at the last multiple of `save_every` steps from which a step
    was finite, and the learning rate is halved from there.

    Under `torchrun` every process calls this with the same arguments and takes its part of each
    batch.

    Args:
        recipe: the settings; on going on, `steps` may differ, the rest has to be the same.
        training: the pairs to learn from.
        validation: pairs of other scenes, see `data.hold_out`.
        out: the run's folder.
        photographs: a folder of bright ones without dark partners, which join the pairs in the
            recipe's share of synthetic samples. On going on, the same has to be given again.
        device: where to compute.
        validate_every: steps between validations.
        validation_pictures: how many of the held-out pictures each of them scores, evenly spread.
        save_every: steps between saves of last.pt.
        tensorboard: write events for TensorBoard too.

    Returns:
        The best validation PSNR in dB.

    Raises:
        Diverged: going back didn't help, five times; last.pt is from before.
        DataError: there are no pairs for training or for validation.
        CheckpointError: the recipe's weights can't be read.
        ValueError: photographs without a share of synthetic samples; `out` holds a run of another
            recipe or other pictures, or only its results; the recipe's weights are of another
            network; or the batch can't be divided.
    """
    with joined(torch.device(device)) as (processes, device):
        parts = processes.count * recipe.accumulate
        if recipe.batch % parts:
            raise ValueError(
                f"expected a batch that {processes.count} processes and {recipe.accumulate} parts "
                f"divide, got {recipe.batch}"
            )
        if photographs is not None and not recipe.synthetic_share:
            raise ValueError("photographs only count in a recipe with synthetic_share > 0")
        is_new = bool(processes.from_first(not (out / "last.pt").exists()))
        split = {"training": [p.name for p in training], "validation": [p.name for p in validation]}
        _check(split, out, is_new)
        state = State(_network(recipe, is_new).to(device), recipe)
        if not is_new:
            state.load(out / "last.pt")
            log.info("going on at step %d", state.step)
        crops = _crops(recipe, training, photographs)
        watched = validation[:: max(1, len(validation) // validation_pictures)]
        if is_new and not recipe.weights:
            first = [processes.part(part).to(device) for part in crops[0]]
            state.model.initialize(*first)
            state.averaged.module.load_state_dict(state.model.state_dict())
            state.drop_anchor()
        if processes.is_first:
            for folder in (out, out / "pictures"):
                remove_unfinished(folder)
            content = json.dumps(split, indent=1).encode()
            write_atomically(out / "split.json", lambda file: file.write(content))
        run = _Run(recipe, state, out, watched, processes, device, save_every, tensorboard)
        if state.step == 0:
            run.begin()
        run.go_on(crops, validate_every)
        return processes.from_first(state.best)


def _check(split: dict[str, list[str]], out: Path, is_new: bool) -> None:
    if not all(split.values()):
        raise data.DataError("too few scenes: none left for training or for validation")
    if not is_new and data.read_split(out / "split.json") != split:
        raise ValueError(f"{out}: that run has other pictures or scenes; choose another folder")
    if is_new and (out / "best.safetensors").exists():
        raise ValueError(f"{out}: has weights but no last.pt to go on from; choose another folder")


def _network(recipe: Recipe, is_new: bool) -> LLFlow:
    """With the recipe's weights, or random ones, which a run that goes on replaces."""
    if not (is_new and recipe.weights):
        torch.manual_seed(recipe.seed)
        return LLFlow(recipe.config())
    model = checkpoint.load(recipe.weights).train()
    ours, theirs = asdict(recipe.config()), asdict(model.config)
    if ours != theirs:
        differing = [f"{name} = {theirs[name]}" for name in ours if theirs[name] != ours[name]]
        sizes = [name for name, config in SIZES.items() if config == model.config]
        raise ValueError(
            f"{recipe.weights}: another network than the recipe's, which is {recipe.size}; the "
            f"weights have {', '.join(differing)}" + (f", which is {sizes[0]}" if sizes else "")
        )
    return model


def _crops(recipe: Recipe, files: Sequence[data.PairFiles], photographs: Path | None) -> data.Crops:
    pairs = data.read_pairs(files, "training pairs")
    synthetic = []
    if recipe.synthetic_share:
        synthetic = data.synthetic_pairs(files, recipe.seed)
        if photographs is not None:
            synthetic += data.synthetic_from(photographs, recipe.seed, recipe.crop)
    return data.Crops(
        pairs,
        synthetic,
        synthetic_share=recipe.synthetic_share,
        size=recipe.crop,
        batch=recipe.batch,
        seed=recipe.seed,
    )


class _Run:
    """One process's part of a run: the steps, and, in the first process, what is kept of them."""

    def __init__(
        self,
        recipe: Recipe,
        state: State,
        out: Path,
        watched: Sequence[data.PairFiles],
        processes: Processes,
        device: torch.device,
        save_every: int,
        tensorboard: bool,
    ) -> None:
        self.recipe, self.state, self.out, self.watched = recipe, state, out, watched
        self.processes, self.device, self.save_every = processes, device, save_every
        self.log = Log(out, state.step, tensorboard=tensorboard) if processes.is_first else None
        state.model.keep = recipe.keep
        self.objective: nn.Module = Objective(state.model, recipe.l1_weight)
        if recipe.compile:
            state.model.compile_networks()
        if processes.count > 1:
            # Without a flow, nothing asks for the conditions at a quarter and an eighth.
            self.objective = DistributedDataParallel(
                self.objective, find_unused_parameters=recipe.encoder_only
            )

    def begin(self) -> None:
        """Save before the first step, again if a run was killed here; the recipe's weights are the
        best until training finds better."""
        if self.log is None:
            return
        if self.recipe.weights:
            self.state.best = validation_psnr(self.state.model, self.watched)
            self.log.write(0, psnr=self.state.best)
        self.state.save(self.out / "last.pt")
        if self.recipe.weights:
            checkpoint.save(self.state.model, self.out / "best.safetensors")

    def go_on(self, crops: data.Crops, validate_every: int) -> None:
        recipe, state = self.recipe, self.state
        began = saved = time.monotonic()
        steps = range(state.step, recipe.steps)
        batches = _ahead(crops, steps)
        with tqdm(
            batches,
            initial=state.step,
            total=recipe.steps,
            unit="step",
            disable=self.log is None,
        ) as bar:
            for bright, low in bar:
                terms, norm = self.step(bright, low)
                is_last = state.step == recipe.steps
                if self.log is None:
                    continue
                if state.step % 20 == 0:
                    values = {name: term.item() for name, term in terms.items()}
                    bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
                    rate = state.optimizer.param_groups[0]["lr"]
                    seconds = time.monotonic() - began
                    self.log.write(
                        state.step,
                        **values,
                        gradient=norm.item(),
                        learning_rate=rate,
                        seconds=seconds,
                    )
                if state.step % validate_every == 0 or is_last:
                    self.validate(bar)
                overdue = time.monotonic() - saved > SAVE_AFTER
                if overdue or state.step % self.save_every == 0 or is_last:
                    saved = time.monotonic()
                    state.save(self.out / "last.pt")
        if self.log is not None:
            self.log.close()

    def step(self, bright: Tensor, low: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimiser; the mean loss with its terms, and the gradient's norm."""
        recipe, state = self.recipe, self.state
        selector = torch.from_numpy(_selector(recipe, state.step))
        batch = [self.processes.part(t).to(self.device) for t in (bright, low, selector)]
        state.optimizer.zero_grad()
        terms = self.gradients(recipe.loss_at(state.step), batch)
        terms = {name: self.processes.mean(term) for name, term in terms.items()}
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
        is_finite = bool(terms["loss"].isfinite() & norm.isfinite())
        rate = recipe.learning_rate_at(state.step) * state.caution
        if is_finite and state.step % self.save_every == 0:
            state.drop_anchor()
        state.step += 1
        if is_finite:
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            state.optimizer.step()
            state.averaged.update_parameters(state.model)
            state.bad_steps = 0
        else:
            self.survive(terms["loss"].item(), norm.item())
        return terms, norm

    def gradients(self, loss: str, batch: list[Tensor]) -> dict[str, Tensor]:
        """Add up the gradient of the mean loss over this process's samples, part by part."""
        parts = list(zip(*(t.chunk(self.recipe.accumulate) for t in batch), strict=True))
        bf16 = self.recipe.precision == "bf16"
        total: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            with contextlib.ExitStack() as contexts:
                if isinstance(self.objective, DistributedDataParallel) and not is_last:
                    contexts.enter_context(self.objective.no_sync())
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    terms = self.objective(loss, *part)
                self.backward(terms["loss"].mean() / len(parts))
            for name, term in terms.items():
                total[name] = total.get(name, 0) + term.detach().mean() / len(parts)
        return total

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients; where the flow can't be inverted on the way back, NaN to all."""
        try:
            loss.backward()
        except Drifted:
            # Through autograd, because the other processes wait for these gradients.
            sums = [parameter.sum() for parameter in self.state.model.parameters()]
            (math.nan * torch.stack(sums).sum()).backward()

    def survive(self, loss: float, norm: float) -> None:
        """A step wasn't finite, and is skipped; after some in a row, go back."""
        state = self.state
        state.bad_steps += 1
        self.tell(f"step {state.step} skipped: loss {loss:.4g}, gradient norm {norm:.4g}")
        if state.bad_steps < ROLL_BACK_AFTER:
            return
        state.roll_back()
        if state.caution < GIVE_UP_BELOW:
            raise Diverged(
                f"up to step {state.step}, {ROLL_BACK_AFTER} steps in a row weren't finite, and "
                "going back didn't help; a smaller learning rate may"
            )
        self.tell(
            f"{ROLL_BACK_AFTER} steps in a row weren't finite: back to the weights of step "
            f"{state.anchored_at}, at {state.caution:g} of the learning rate"
        )

    def tell(self, message: str) -> None:
        if self.log is not None:
            log.warning(message)
            self.log.write(self.state.step, event=message)

    def validate(self, bar: tqdm) -> None:
        assert self.log is not None
        state = self.state
        psnr = validation_psnr(state.average, self.watched)
        self.log.write(state.step, psnr=psnr)
        self.log.show(state.step, side_by_side(state.average, self.watched))
        bar.write(
            f"step {state.step}: validation PSNR {psnr:.2f} dB (best before: {state.best:.2f})",
            file=sys.stderr,
        )
        if psnr > state.best:
            state.best = psnr
            checkpoint.save(state.average, self.out / "best.safetensors")


def _ahead(crops: data.Crops, steps: range) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of these steps, each cut while the one before is computed on."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(crops.__getitem__, steps.start) if steps else None
        for step in steps:
            assert coming is not None
            batch = coming.result()
            if step + 1 in steps:
                coming = thread.submit(crops.__getitem__, step + 1)
            yield batch


def _selector(recipe: Recipe, step: int) -> np.ndarray:
    """Which samples take the reference's prior (eq. 9), decided by seed and step alone."""
    rng = np.random.default_rng([recipe.seed, step, recipe.batch])  # the samples have those below
    return rng.random(recipe.batch) < recipe.reference_prior
