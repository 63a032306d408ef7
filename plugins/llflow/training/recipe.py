"""The settings of a training run: one frozen dataclass, from a file, options, or both."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from llflow.network.model import KEEP, PRIORS, SIZES, Config
from llflow.training.objective import LOSSES

SHIPPED = Path(__file__).parents[1] / "recipes"
PRECISIONS = ("float32", "bf16")


class RecipeError(ValueError):
    """A recipe file or a setting isn't as it should be."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run depends on besides the data; the settings say what they are, here and in
    `llflow train --help`.

    The defaults are the paper's: batch 16 of 160×160, Adam at 5e-4 halved at 50, 75, 90 and 95 % of
    the steps, reference prior with p = 0.2 (Wang et al., AAAI 2022, "Experimental Settings").
    Warm-up, gradient clipping and weight averaging are added for stability.

    Raises:
        RecipeError: a setting has another type, or is out of range.
    """

    size: str = _setting("tiny", "of the network: tiny, small or large")
    weights: str = _setting("", "to start from: shipped ones by name, or a .safetensors file")
    prior: str = _setting("color_map", "of the latent: color_map, or standard for the paper's w/o")
    encoder_only: bool = _setting(False, "no flow: the encoder makes the picture, with --loss l1")
    steps: int = _setting(30_000, "of the optimiser, in all")
    batch: int = _setting(16, "samples per step, over all processes")
    crop: int = _setting(160, "side of a sample in pixels, a multiple of 8")
    learning_rate: float = _setting(5e-4, "Adam's, after the warm-up")
    warmup: int = _setting(500, "steps in which the learning rate rises, at most a tenth of all")
    loss: str = _setting("nll", "nll, l1 (of the picture at the prior's mean) or nll+l1")
    l1_weight: float = _setting(30.0, "bits per pixel for an l1 error of 1")
    pretrain: int = _setting(0, "first steps, which take nll whatever --loss says")
    reference_prior: float = _setting(0.2, "p, how often the prior is the reference's color map")
    synthetic_share: float = _setting(0.0, "of samples with a dark picture made from the bright")
    average: float = _setting(0.999, "decay of the moving average of the weights")
    clip: float = _setting(100.0, "largest norm of a step's gradient")
    held_out: float = _setting(0.1, "share of the scenes kept for validation")
    seed: int = _setting(0, "decides initialisation, split, samples and priors")
    precision: str = _setting("float32", "of encoder and nets: float32 or bf16; the latent's stays")
    accumulate: int = _setting(1, "parts of the batch that follow one another, to save memory")
    keep: str = _setting(
        "all", "activations for the backward pass: all; inputs of blocks and steps; or nothing"
    )
    compile: bool = _setting(False, "the networks with torch.compile")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, wanted = getattr(self, setting.name), type(setting.default)
            if wanted is float and type(value) is int:
                object.__setattr__(self, setting.name, float(value))
            elif type(value) is not wanted:
                self._refuse(f"{setting.name} to be of type {wanted.__name__}", value)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                self._refuse(f"{name} among {', '.join(choices)}", getattr(self, name))
        if self.crop < 8 or self.crop % 8:
            self._refuse("crop to be a multiple of 8", self.crop)
        for name in ("l1_weight", "steps", "batch", "learning_rate", "clip", "accumulate"):
            if not getattr(self, name) > 0:
                self._refuse(f"{name} > 0", getattr(self, name))
        for name in ("l1_weight", "learning_rate"):  # clip may be inf, which is none
            if getattr(self, name) == math.inf:
                self._refuse(f"{name} to be finite", getattr(self, name))
        for name in ("warmup", "pretrain", "seed"):
            if not 0 <= getattr(self, name) < 2**63:
                self._refuse(f"0 <= {name} < 2^63", getattr(self, name))
        for name in ("reference_prior", "synthetic_share", "average", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                self._refuse(f"0 <= {name} < 1", getattr(self, name))
        if self.keep == "nothing" and self.precision == "bf16":
            self._refuse(
                "keep all or inputs with precision bf16, which can't be inverted", self.keep
            )
        if self.encoder_only and (self.loss != "l1" or self.pretrain):
            self._refuse("loss l1 and pretrain 0 with encoder_only", (self.loss, self.pretrain))

    @staticmethod
    def _refuse(expected: str, came: object) -> None:
        raise RecipeError(f"recipe: expected {expected}, got {came!r}")

    @classmethod
    def read(cls, source: str | Path) -> Self:
        """The recipe of a TOML file, whose keys are the settings; or a shipped one, by name.

        Raises:
            RecipeError: no such file, not TOML, or a key that isn't a setting.
        """
        shipped = SHIPPED / f"{source}.toml"
        path = shipped if str(source) in cls.shipped() else Path(source)
        try:
            values = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError as error:
            raise RecipeError(
                f"{source}: no such file, nor a shipped recipe ({', '.join(cls.shipped())})"
            ) from error
        except OSError as error:
            raise RecipeError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"{path}: not TOML ({error})") from error
        names = [setting.name for setting in fields(cls)]
        for key in values:
            if key not in names:
                near = get_close_matches(key, names, n=1, cutoff=0)
                raise RecipeError(
                    f"{path}: no setting is called {key!r}; did you mean {near[0]!r}?"
                )
        try:
            return cls(**values)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error

    @staticmethod
    def shipped() -> list[str]:
        """Names of the recipes that come with the package."""
        return sorted(path.stem for path in SHIPPED.glob("*.toml"))

    def config(self) -> Config:
        """Of the network that is trained."""
        config = replace(SIZES[self.size], prior=self.prior)
        return replace(config, steps=0, color_head="full") if self.encoder_only else config

    def loss_at(self, step: int) -> str:
        return "nll" if step < self.pretrain else self.loss

    def learning_rate_at(self, step: int) -> float:
        halvings = sum(step >= share * self.steps for share in (0.5, 0.75, 0.9, 0.95))
        warmup = min(self.warmup, self.steps // 10)
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return self.learning_rate * warm * 0.5**halvings


CHOICES = {"size": SIZES, "prior": PRIORS, "loss": LOSSES, "precision": PRECISIONS, "keep": KEEP}
