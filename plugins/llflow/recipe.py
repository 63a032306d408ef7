"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from llflow.model import SIZES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run depends on besides the data.

    The defaults are the paper's: batch 16 of 160×160, Adam at 5e-4 halved at 50, 75, 90 and 95 % of
    the steps, reference prior with p = 0.2 (Wang et al., AAAI 2022, "Experimental Settings").
    Warm-up, gradient clipping and weight averaging are added for stability.

    Attributes:
        size: "tiny", "small" or "large".
        steps: optimiser steps in all.
        batch: samples per step.
        crop: their side in pixels, a multiple of 8.
        learning_rate: Adam's, after the warm-up.
        warmup: steps over which the learning rate rises linearly from 0.
        reference_prior: p, how often the prior is centred on the reference's own color map.
        synthetic_share: share of samples whose dark picture is made from the bright one.
        average: decay of the exponential moving average of the weights.
        clip: largest norm of a step's gradient.
        held_out: share of the scenes kept for validation.
        seed: decides initialisation, split, samples and priors.
    """

    size: str = "tiny"
    steps: int = 30_000
    batch: int = 16
    crop: int = 160
    learning_rate: float = 5e-4
    warmup: int = 500
    reference_prior: float = 0.2
    synthetic_share: float = 0.0
    average: float = 0.999
    clip: float = 10.0
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"recipe: expected size among {sorted(SIZES)}, got {self.size!r}")
        if self.crop < 8 or self.crop % 8:
            raise ValueError(f"recipe: expected crop to be a multiple of 8, got {self.crop}")
        for name in ("steps", "batch", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"recipe: expected {name} > 0, got {getattr(self, name)}")
        for name in ("warmup", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"recipe: expected {name} >= 0, got {getattr(self, name)}")
        for name in ("reference_prior", "synthetic_share", "average", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"recipe: expected 0 <= {name} < 1, got {getattr(self, name)}")

    def learning_rate_at(self, step: int) -> float:
        halvings = sum(step >= share * self.steps for share in (0.5, 0.75, 0.9, 0.95))
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * warm * 0.5**halvings
