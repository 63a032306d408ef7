"""What a run goes on from: weights, their average, optimiser, progress, and an earlier copy."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from llflow.atomic import write_atomically
from llflow.network.model import LLFlow
from llflow.training.parameters import parameter_groups
from llflow.training.recipe import Recipe


class State:
    """A run at one step. `anchor` is a copy of an earlier one, from which a step was taken.

    Attributes:
        model: the weights.
        averaged: their moving average, of early steps the plain mean.
        optimizer: Adam.
        step: how many steps are done.
        best: validation PSNR in dB of the best averaged weights so far.
        caution: factor of the learning rate, halved by every `roll_back`.
        went_back_at: the step of the last one, or of the last recovery from it.
        bad_steps: how many steps in a row, up to this one, were skipped.
        usual: norm of the gradient, averaged over some hundred steps; 0 before the first.
        planned: how many steps a run with a budget of hours has in all, 0 while that isn't known.
        seconds: that such a run had used when it was saved; 0 without a budget.
    """

    def __init__(self, model: LLFlow, recipe: Recipe) -> None:
        if model.illumination is not None and next(model.parameters()).device.type == "cpu":
            # Measured to be faster there, in bf16.
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.recipe = recipe
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=_average(recipe.average))
        self.optimizer = torch.optim.Adam(
            parameter_groups(model, recipe),
            lr=recipe.learning_rate,
            betas=(0.9, recipe.beta2),
            fused=True,
        )
        self.step, self.best = 0, -math.inf
        self.caution, self.bad_steps, self.usual = 1.0, 0, 0.0
        self.went_back_at = 0
        self.planned, self.seconds = 0, 0.0
        self.drop_anchor()

    @property
    def average(self) -> LLFlow:
        """The averaged weights."""
        model = self.averaged.module
        assert isinstance(model, LLFlow)
        return model

    def drop_anchor(self) -> None:
        """Remember the present weights, average and optimiser as good."""
        self.anchor = copy.deepcopy(_on_cpu(self._tensors()))
        self.anchored_at = self.step

    def roll_back(self) -> None:
        """Weights, average and optimiser are the anchor's again; go on from there, at half the
        learning rate. Steps go on counting, so other samples come."""
        self._set_tensors(copy.deepcopy(self.anchor))
        self.caution /= 2
        self.went_back_at = self.step
        self.bad_steps = 0

    def save(self, path: Path) -> None:
        """Write everything; the file appears whole or not at all."""
        state = self._tensors() | {
            "recipe": asdict(self.recipe),
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "anchor": self.anchor if self.anchored_at != self.step else None,
        }
        # Through memory, because torch.save hides what is wrong with the disk.
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(path, lambda file: file.write(content.getbuffer()))

    def load(self, path: Path) -> None:
        """Take over what `save` wrote, and the precision that its "auto" meant.

        Raises:
            OSError: the file can't be read.
            ValueError: it is damaged, or its run had another recipe.
        """
        with path.open("rb") as file, _damaged(path):
            state = torch.load(file, map_location="cpu", weights_only=True)
            theirs = dict(state["recipe"])
            anchor = state["anchor"]
            progress = {
                name: type(getattr(self, name))(state["progress"][name]) for name in PROGRESS
            }
        if self.recipe.precision == "auto":
            self.recipe = replace(self.recipe, precision=theirs.get("precision"))
        for name, value in asdict(self.recipe).items():
            if name != "steps" and theirs.get(name) != value:
                raise ValueError(
                    f"{path}: that run has {name} = {theirs.get(name)}, this one {value}; "
                    "choose another folder, or the same settings"
                )
        with _damaged(path):
            self._set_tensors(state)
        for name, value in progress.items():
            setattr(self, name, value)
        self.drop_anchor()
        if anchor is not None:
            self.anchor, self.anchored_at = anchor, progress["anchored_at"]

    def _tensors(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in HOLDERS}

    def _set_tensors(self, tensors: dict[str, Any]) -> None:
        for name in HOLDERS:
            getattr(self, name).load_state_dict(tensors[name])


HOLDERS = ("model", "averaged", "optimizer")
PROGRESS = (
    "step",
    "best",
    "caution",
    "bad_steps",
    "usual",
    "went_back_at",
    "anchored_at",
    "planned",
    "seconds",
)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of many kinds
        raise ValueError(
            f"{path}: damaged, or of another version; without it, the run starts anew"
        ) from error


def _average(decay: float) -> Any:
    def average(averaged: Any, current: Any, count: Tensor | int) -> None:
        now = min(decay, int(count) / (int(count) + 1))
        get_ema_multi_avg_fn(now)(averaged, current, count)

    return average


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value
