"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llflow.model import SIZES
from llflow.training.objective import LOSSES


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run depends on besides the data; the settings say what they are, here and in
    `llflow train --help`.

    The defaults are the paper's: batch 16 of 160×160, Adam at 5e-4 halved at 50, 75, 90 and 95 % of
    the steps, reference prior with p = 0.2 (Wang et al., AAAI 2022, "Experimental Settings").
    Warm-up, gradient clipping and weight averaging are added for stability.
    """

    size: str = _setting("tiny", "of the network: tiny, small or large")
    steps: int = _setting(30_000, "of the optimiser, in all")
    batch: int = _setting(16, "samples per step")
    crop: int = _setting(160, "side of a sample in pixels, a multiple of 8")
    learning_rate: float = _setting(5e-4, "Adam's, after the warm-up")
    warmup: int = _setting(500, "steps in which the learning rate rises, at most a tenth of all")
    loss: str = _setting("nll", "nll, l1 (of the picture at the prior's mean) or nll+l1")
    l1_weight: float = _setting(30.0, "λ, bits per pixel for an l1 error of 1")
    reference_prior: float = _setting(0.2, "p, how often the prior is the reference's color map")
    synthetic_share: float = _setting(0.0, "of samples with a dark picture made from the bright")
    average: float = _setting(0.999, "decay of the moving average of the weights")
    clip: float = _setting(100.0, "largest norm of a step's gradient")
    held_out: float = _setting(0.1, "share of the scenes kept for validation")
    seed: int = _setting(0, "decides initialisation, split, samples and priors")

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"recipe: expected size among {sorted(SIZES)}, got {self.size!r}")
        if self.crop < 8 or self.crop % 8:
            raise ValueError(f"recipe: expected crop to be a multiple of 8, got {self.crop}")
        if self.loss not in LOSSES:
            raise ValueError(f"recipe: expected loss among {', '.join(LOSSES)}, got {self.loss!r}")
        for name in ("l1_weight", "steps", "batch", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"recipe: expected {name} > 0, got {getattr(self, name)}")
        for name in ("warmup", "seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"recipe: expected 0 <= {name} < 2^63, got {getattr(self, name)}")
        for name in ("reference_prior", "synthetic_share", "average", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"recipe: expected 0 <= {name} < 1, got {getattr(self, name)}")

    def learning_rate_at(self, step: int) -> float:
        halvings = sum(step >= share * self.steps for share in (0.5, 0.75, 0.9, 0.95))
        warmup = min(self.warmup, self.steps // 10)
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return self.learning_rate * warm * 0.5**halvings
