"""How far samples differ: where the network guesses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llflow.distribution.given import picture_of, prepared, require_model
from llflow.enhancement import TILE, variants
from llflow.network.model import LLFlow
from llflow.picture import light as linear
from llflow.picture.inputs import Input


def uncertainty(
    model: LLFlow,
    image: Input,
    *,
    samples: int = 8,
    temperature: float = 1.0,
    seed: int = 0,
    tile: int = TILE,
    precision: str = "float32",
) -> Tensor:
    """Standard deviation of a pixel over samples of the bright picture, (H, W).

        s = √(mean over RGB of Σ_k (x_k - x̄)² / (K - 1))

    in the picture's own values, of which 1 is white. The samples x_k are `llflow.variants`, of
    texture alone: how sure the model is of the exposure is one number for the whole picture,
    `exposure_stops`. The encoder runs once for all of them.

    Args:
        samples: K, 2 at least.

    The others, and errors, are those of `llflow.variants`.
    """
    if isinstance(samples, int) and samples < 2:
        raise ValueError(f"uncertainty: expected samples >= 2, got {samples}")
    drawn = variants(
        model,
        image,
        samples=samples,
        temperature=temperature,
        seed=seed,
        tile=tile,
        precision=precision,
    )
    total = torch.zeros_like(drawn[0][0])
    mean = sum((picture for (picture,) in drawn), total) / samples
    for (picture,) in drawn:
        total += (picture - mean).square()
    return (total / (samples - 1)).mean(0).sqrt()


def exposure_stops(model: LLFlow, image: Input) -> float | None:
    """One standard deviation of the exposure that the model predicts, in stops; None where it has
    no illumination branch.

    σ·2.2 / ln 2 for a log exposure of deviation σ, exposures being means of values of gamma 2.2.
    """
    require_model("uncertainty", model)
    light = prepared(model, picture_of("uncertainty", image)).light
    return None if light is None else linear.GAMMA * light.std.item() / math.log(2)
