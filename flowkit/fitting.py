"""fit: maximum likelihood for those who want no training loop of their own."""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowkit import checkpoint as checkpoints
from flowkit.conditions import batch_of, mapped, tensors_of
from flowkit.contract import Bijection, Cond, require_bool, require_range, require_real
from flowkit.density import Flow, initialize
from flowkit.density.bound import LowerBound
from flowkit.descent import Descent, seeded


@dataclass
class Fitted:
    """What `fit` did.

    Args:
        train: mean of -log p over the training samples, by epoch, in nats for a sample.
        validation: likewise over the samples held out; NaN without any.
        best_epoch: the epoch whose weights the density has now, from 0; the last without
            validation.
        steps: steps of the optimiser, skipped ones among them.
        skipped: steps whose loss or gradient wasn't finite, which changed nothing.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = -1
    steps: int = 0
    skipped: int = 0

    @property
    def best(self) -> float:
        """The loss of the best epoch, validated if there is validation."""
        losses = self.train if math.isnan(self.validation[self.best_epoch]) else self.validation
        return losses[self.best_epoch]


def fit(
    density: nn.Module,
    data: Tensor,
    cond: Cond = None,
    *,
    validation: float = 0.1,
    batch: int = 256,
    epochs: int | None = None,
    steps: int | None = None,
    learning_rate: float = 1e-3,
    anneal: bool = False,
    patience: int | None = 20,
    clip: float = 10.0,
    initialized: bool = False,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Fitted:
    """Maximise Σ log p(data | cond) over the density's parameters, by Adam in minibatches.

    A share of the samples is held out. After each epoch the mean of -log p is taken over it; the
    weights where it was least are those that the density has in the end, and `patience` epochs
    without a better one end the training. A step whose loss or gradient isn't finite is skipped and
    counted. The same seed gives the same weights, on the same machine, also after an interruption;
    the global random state is as before.

    Args:
        density: a `Flow`, `Dequantized` or `Augmented`, on its device; changed in place. Or, with
            `initialized`, another module whose forward(x, cond) gives (B,) log-densities of a batch
            or bounds of them, such as an autoencoder's ELBO.
        data: (N, C, *S), finite; batches are moved to the density's device.
        cond: the conditions of these N samples, finite: a tensor (N, ...) or a mapping of such.
        validation: share of the samples that is held out, in [0, 1). 0: none; then all epochs are
            trained, and the last weights stay.
        batch: samples in a step.
        epochs: at most so many passes over the data; None: as many as `steps` takes, or 100.
        steps: at most so many steps.
        learning_rate: of Adam.
        anneal: the learning rate falls to 0 along half a cosine, over `steps` or `epochs`, which
            then have to stay the same for a checkpoint; worth much where steps are few.
        patience: epochs without a better one after which to stop; None: never.
        clip: largest norm of a gradient; longer ones are shortened to it.
        initialized: the density has been initialised or trained before, so that the first batch
            isn't passed to `flowkit.initialize`.
        seed: of the split, the order and whatever the density draws.
        progress: show a bar.
        checkpoint: a file that is written after each epoch, whole or not at all, and from which an
            interrupted training goes on if `fit` is called again in the same way, with the same
            results (`epochs`, without `anneal`, and `patience` may be others).

    Raises:
        TypeError: density or data are something else, or what says yes or no isn't True or False.
        ValueError: an argument is out of range, data or cond aren't finite, cond is for another
            number of samples, or the checkpoint is none, or of another training.
        OSError: the checkpoint can't be read or written.
        FloatingPointError: too many steps weren't finite; the weights are the last finite ones.
    """
    require_bool("fit", anneal=anneal, initialized=initialized, progress=progress)
    _require(density, data, cond, initialized)
    whole = {"batch": batch, "epochs": epochs, "steps": steps, "patience": patience, "seed": seed}
    for name, value in whole.items():
        optional = value is None and name in ("epochs", "steps", "patience")
        least = 0 if name == "seed" else 1
        fits = optional or (type(value) is int and value >= least)
        require_range("fit", name, value, fits, f"as an integer >= {least}")
    require_real("fit", validation=validation, learning_rate=learning_rate, clip=clip)
    require_range("fit", "validation", validation, 0 <= validation < 1, "in [0, 1)")
    require_range("fit", "learning_rate", learning_rate, 0 < learning_rate < math.inf, "> 0")
    require_range("fit", "clip", clip, clip > 0, "> 0")
    # A checkpoint is read without numpy's numbers, which may have come.
    validation, learning_rate, clip = float(validation), float(learning_rate), float(clip)
    held, train = _split(len(data), validation, seed)
    per_epoch = math.ceil(len(train) / batch)
    if epochs is None:
        epochs = 100 if steps is None else math.ceil(steps / per_epoch)
    total = epochs * per_epoch if steps is None else min(steps, epochs * per_epoch)
    annealed = total if anneal else None
    training = Training(density, data, cond, batch, learning_rate, clip, annealed)
    record = training.record
    path = None if checkpoint is None else Path(checkpoint)
    settings = (
        {}
        if path is None
        else {
            "data": _digest(data),
            "cond": _digest(cond),
            "validation": validation,
            "batch": batch,
            "steps": steps,
            "learning_rate": learning_rate,
            "anneal": annealed,
            "clip": clip,
            "seed": seed,
        }
    )
    if path is not None:
        checkpoints.require_folder("fit", path)
    if path is not None and path.exists():
        training.load(path, settings)
    elif not initialized:
        assert isinstance(density, Flow | LowerBound)
        with seeded(training.device, seed, -1):
            initialize(density, *training.rows(train[:batch]))
    mode = density.training
    with tqdm(total=total, initial=record.steps, disable=not progress, unit="step") as bar:
        while record.steps < total and not training.waited(patience):
            with seeded(training.device, seed, len(record.train)):
                batches = train[torch.randperm(len(train))].split(batch)
                record.train.append(training.epoch(batches[: total - record.steps], bar))
            with seeded(training.device, seed, -2):
                record.validation.append(training.validate(held))
            training.keep_the_best()
            bar.set_postfix(train=record.train[-1], validation=record.validation[-1])
            if path is not None:
                training.save(path, settings)
    density.load_state_dict(training.best)
    density.train(mode)
    return record


class Training:
    """The state of a training, from epoch to epoch."""

    def __init__(
        self,
        density: nn.Module,
        data: Tensor,
        cond: Cond,
        batch: int,
        learning_rate: float,
        clip: float,
        annealed: int | None,
    ) -> None:
        self.density, self.data, self.cond = density, data, cond
        self.batch, self.record = batch, Fitted()
        self.descent = Descent("fit", density, self.record, learning_rate, clip, annealed)
        self.device = self.descent.device
        self.best: dict[str, Tensor] = {}

    def rows(self, rows: Tensor) -> tuple[Tensor, Cond]:
        def some(tensor: Tensor) -> Tensor:
            return tensor[rows].to(self.device)

        return some(self.data), mapped(self.cond, some)

    def epoch(self, batches: tuple[Tensor, ...], bar: tqdm) -> float:
        """The mean loss of one epoch, over the samples of steps that were finite."""
        self.density.train()
        total, samples = 0.0, 0
        for rows in batches:
            loss = -self.log_prob(rows).mean()
            if not loss.requires_grad:
                raise ValueError(
                    f"fit: expected {type(self.density).__name__} to give log-densities with a "
                    "gradient, got some without (detach, item, numpy and torch.no_grad lose it)"
                )
            if self.descent.step(loss):
                total, samples = total + loss.item() * len(rows), samples + len(rows)
            bar.update()
        return total / samples if samples else math.nan

    def log_prob(self, rows: Tensor) -> Tensor:
        found = self.density(*self.rows(rows))
        if not isinstance(found, Tensor) or found.shape != rows.shape:
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"fit: expected a log-density for each of {len(rows)} samples from "
                f"{type(self.density).__name__}, shape ({len(rows)},), got {came}"
            )
        return found

    @torch.no_grad()
    def validate(self, held: Tensor) -> float:
        if not len(held):
            return math.nan
        self.density.eval()
        losses = [-self.log_prob(rows).double().sum() for rows in held.split(self.batch)]
        return (torch.stack(losses).sum() / len(held)).item()

    def keep_the_best(self) -> None:
        losses = self.record.validation
        finite = [loss for loss in losses if math.isfinite(loss)]
        if not finite or losses[-1] == min(finite):
            self.record.best_epoch = len(losses) - 1
            self.best = copy.deepcopy(self.density.state_dict())

    def waited(self, patience: int | None) -> bool:
        """Whether there has been no better epoch for so many."""
        losses = self.record.validation
        if patience is None or not losses or math.isnan(losses[self.record.best_epoch]):
            return False
        return len(losses) - 1 - self.record.best_epoch >= patience

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        state = {"best": self.best, "record": asdict(self.record), **self.descent.state()}
        checkpoints.write(path, settings, self.density, state)

    def load(self, path: Path, settings: dict[str, Any]) -> None:
        state = checkpoints.read("fit", path, settings, self.density, self.device)
        self.descent.load(state)
        self.best = state["best"]
        vars(self.record).update(state["record"])


def _split(samples: int, validation: float, seed: int) -> tuple[Tensor, Tensor]:
    """The rows that are held out, and the others."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    count = math.ceil(validation * samples)
    if count >= samples:
        raise ValueError(
            f"fit: expected samples left to train on, got {samples} with validation={validation}"
        )
    return order[:count], order[count:]


def _digest(cond: Cond) -> str:
    """Tells one set of data or conditions from another."""
    if isinstance(cond, Mapping):
        cond = {key: _digest(entry) for key, entry in cond.items()}  # pyright: ignore
        return hashlib.sha256(repr(sorted(cond.items())).encode()).hexdigest()
    if cond is None:
        return ""
    head = f"{cond.dtype}{tuple(cond.shape)}".encode()
    content = cond.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(head + content.tobytes()).hexdigest()


def _require(density: Any, data: Any, cond: Cond, initialized: bool) -> None:
    if not isinstance(density, Flow | LowerBound):
        own = isinstance(density, nn.Module) and not isinstance(density, Bijection)
        hint = " (Flow(bijection) is one)" if isinstance(density, Bijection) else ""
        if own and not initialized:
            hint = " (initialized=True, if its forward(x, cond) gives log-densities)"
        if not own or not initialized:
            raise TypeError(
                "fit: expected a Flow, Dequantized or Augmented, got "
                f"{type(density).__name__}{hint}"
            )
    if not isinstance(data, Tensor):
        raise TypeError(
            f"fit: expected data as a tensor (N, C, *S), got {type(data).__name__} "
            "(torch.as_tensor makes one)"
        )
    if data.dim() < 2 or not len(data):
        raise ValueError(f"fit: expected data (N, C, *S), N >= 1, got {tuple(data.shape)}")
    if not (finite := data.flatten(1).isfinite().all(1)).all():
        raise ValueError(
            f"fit: expected finite data, got {int((~finite).sum())} samples with NaN or infinity, "
            f"the first at {int((~finite).nonzero()[0])}"
        )
    if cond is not None and (count := batch_of("fit", cond)) != len(data):
        raise ValueError(
            f"fit: expected a condition for each of {len(data)} samples, got one for {count}"
        )
    for name, tensor in tensors_of(cond):
        if not tensor.isfinite().all():
            raise ValueError(f"fit: expected a finite {name}, got NaN or infinity")
