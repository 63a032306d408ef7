"""Training: one readable loop."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from llflow import checkpoint, data
from llflow.evaluation.evaluate import validation_psnr
from llflow.files import write_atomically
from llflow.model import SIZES, LLFlow
from llflow.training.objective import Objective
from llflow.training.recipe import Recipe

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 20  # consecutive steps that aren't finite
SAVE_AFTER = 300  # seconds, where `save_every` steps take longer


class Diverged(ArithmeticError):
    """Losses or gradients weren't finite many times in a row."""


def train(
    recipe: Recipe,
    training: Sequence[data.PairFiles],
    validation: Sequence[data.PairFiles],
    out: Path,
    *,
    start_from: LLFlow | None = None,
    device: torch.device | str = "cpu",
    validate_every: int = 500,
    validation_pictures: int = 16,
    save_every: int = 100,
) -> float:
    """Train, or go on where the run in `out` stopped.

    `out` receives best.safetensors (averaged weights, best validation PSNR), last.pt (everything to
    go on from), log.jsonl and split.json.

    Args:
        recipe: the settings; on going on, `steps` may differ, the rest has to be the same.
        training: the pairs to learn from.
        validation: pairs of other scenes, see `data.hold_out`.
        out: the run's folder.
        start_from: a trained model of the recipe's size to go on with, in place of random weights;
            best.safetensors is it until training finds better.
        device: where to compute. A run is repeatable on one device with one number of threads.
        validate_every: steps between validations.
        validation_pictures: how many of the held-out pictures each of them scores, evenly spread.
        save_every: steps between saves of last.pt.

    Returns:
        The best validation PSNR in dB.

    Raises:
        Diverged: many steps in a row weren't finite; last.pt is from before.
        DataError: there are no pairs for training or for validation.
        ValueError: `out` holds a run of another recipe or other pictures, or only its results, or
            `start_from` is of another size than the recipe.
    """
    config = SIZES[recipe.size]
    if start_from is not None and start_from.config != config:
        raise ValueError(f"the weights to go on with are of another size than {recipe.size}")
    if not training or not validation:
        raise data.DataError("too few scenes: none left for training or for validation")
    state = _read_state(out, recipe, device) if (out / "last.pt").exists() else None
    split = {"training": [p.name for p in training], "validation": [p.name for p in validation]}
    if state and data.read_split(out / "split.json") != split:
        raise ValueError(f"{out}: that run has other pictures or scenes; choose another folder")
    if not state and (out / "best.safetensors").exists():
        raise ValueError(f"{out}: has weights but no last.pt to go on from; choose another folder")
    crops = _crops(recipe, training)
    out.mkdir(parents=True, exist_ok=True)
    _write_text(out / "split.json", json.dumps(split, indent=1))
    watched = validation[:: max(1, len(validation) // validation_pictures)]

    torch.manual_seed(recipe.seed)
    model = LLFlow(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    _forget_after(out / "log.jsonl", state["step"] if state else 0)
    if state is None:
        start, best = 0, -math.inf
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
            best = validation_psnr(model, watched)
            _append(out / "log.jsonl", {"step": 0, "psnr": best})
        else:
            model.initialize(*(part.to(device) for part in crops[0]))
        averaged = _averaged(model, recipe)
        _save(out / "last.pt", recipe, model, averaged, optimizer, start, best)
        if start_from is not None:
            checkpoint.save(model, out / "best.safetensors")
    else:
        start, best = state["step"], state["best"]
        averaged = _averaged(model, recipe)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        log.info("going on at step %d", start)

    objective = Objective(model, recipe.loss, recipe.l1_weight)
    began = saved = time.monotonic()
    failures = 0
    bar = tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, unit="step")
    for step in bar:
        bright, low = (part.to(device) for part in crops[step])
        selector = torch.from_numpy(_selector(recipe, step)).to(device)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        terms = {k: v.mean() for k, v in objective(bright, low, selector).items()}
        loss = terms["loss"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if loss.isfinite() and norm.isfinite():
            optimizer.step()
            averaged.update_parameters(model)
            failures = 0
        else:
            failures += 1
            log.warning("step %d skipped: loss %s, gradient norm %s", step, loss, norm)
            if failures == GIVE_UP_AFTER:
                raise Diverged(f"{failures} steps in a row weren't finite, up to step {step}")
        done = step + 1
        if done % 20 == 0:
            values = {name: term.item() for name, term in terms.items()}
            record = {"step": done, **values, "gradient": norm.item()}
            bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
            _append(out / "log.jsonl", record | {"seconds": time.monotonic() - began})
        if done % validate_every == 0 or done == recipe.steps:
            psnr = validation_psnr(_average_of(averaged), watched)
            _append(out / "log.jsonl", {"step": done, "psnr": psnr})
            message = f"step {done}: validation PSNR {psnr:.2f} dB (best before: {best:.2f})"
            bar.write(message, file=sys.stderr)
            if psnr > best:
                best = psnr
                checkpoint.save(_average_of(averaged), out / "best.safetensors")
        overdue = time.monotonic() - saved > SAVE_AFTER
        if overdue or done % save_every == 0 or done == recipe.steps:
            saved = time.monotonic()
            _save(out / "last.pt", recipe, model, averaged, optimizer, done, best)
    return best


def _crops(recipe: Recipe, files: Sequence[data.PairFiles]) -> data.Crops:
    pairs = data.read_pairs(files, "training pairs")
    synthetic = []
    if recipe.synthetic_share:
        bar = tqdm(files, desc="making synthetic pairs", unit="pair")
        synthetic = [data.synthetic_pair(pair, recipe.seed) for pair in bar]
    return data.Crops(
        pairs,
        synthetic,
        synthetic_share=recipe.synthetic_share,
        size=recipe.crop,
        batch=recipe.batch,
        seed=recipe.seed,
    )


def _selector(recipe: Recipe, step: int) -> np.ndarray:
    """Which samples take the reference's prior (eq. 9), decided by seed and step alone."""
    rng = np.random.default_rng([recipe.seed, step, 1])
    return rng.random(recipe.batch) < recipe.reference_prior


def _averaged(model: LLFlow, recipe: Recipe) -> AveragedModel:
    """The moving average of the weights; of a short run, whose weights are few, the plain mean."""

    def average(averaged: Any, current: Any, count: Tensor | int) -> None:
        decay = min(recipe.average, int(count) / (int(count) + 1))
        get_ema_multi_avg_fn(decay)(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average)


def _average_of(averaged: AveragedModel) -> LLFlow:
    model = averaged.module
    assert isinstance(model, LLFlow)
    return model


def _save(
    path: Path,
    recipe: Recipe,
    model: LLFlow,
    averaged: AveragedModel,
    optimizer: torch.optim.Optimizer,
    step: int,
    best: float,
) -> None:
    state = {
        "recipe": asdict(recipe),
        "model": model.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "best": best,
    }
    write_atomically(path, lambda file: torch.save(state, file))


def _read_state(out: Path, recipe: Recipe, device: torch.device | str) -> dict:
    path = out / "last.pt"
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        theirs = dict(state["recipe"])
    except Exception as error:  # of many kinds, for a damaged file
        raise ValueError(f"{path}: damaged; without it, the run starts anew") from error
    for name, value in asdict(recipe).items():
        if name != "steps" and theirs.get(name) != value:
            raise ValueError(
                f"{path}: that run has {name} = {theirs.get(name)}, this one {value}; "
                "choose another folder, or the same settings"
            )
    return state


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _forget_after(path: Path, step: int) -> None:
    """Drop the records of steps that will be taken again."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    _write_text(path, "".join(line for line in lines if json.loads(line)["step"] <= step))


def _append(path: Path, record: dict[str, float | int]) -> None:
    with path.open("a") as file:
        finite = {k: v if math.isfinite(v) else None for k, v in record.items()}
        file.write(json.dumps(finite) + "\n")
