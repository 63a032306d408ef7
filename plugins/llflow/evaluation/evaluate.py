"""How close enhanced pictures come to the reference: raw PSNR and SSIM, nothing rescaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from kornia.metrics import psnr as kornia_psnr
from kornia.metrics import ssim as kornia_ssim
from torch import Tensor
from tqdm import tqdm

from llflow.data import PairFiles, read_pair
from llflow.enhance import NotFinite, enhance
from llflow.model import LLFlow


def psnr(image: Tensor, reference: Tensor) -> float:
    """10·log₁₀(1 / MSE) in dB over all pixels and channels, of pictures (3, H, W) in [0, 1]."""
    return float(kornia_psnr(image, reference, max_val=1.0))


def ssim(image: Tensor, reference: Tensor) -> float:
    """Mean SSIM of the three RGB channels: 11×11 Gaussian window, σ = 1.5, windows that lie wholly
    inside the picture.

    Wang et al., Image quality assessment, IEEE TIP 2004, eq. 13, as the authors' implementation has
    it but without its prior downsampling. Pictures smaller than the window have no SSIM: NaN.
    """
    if min(image.shape[1:]) < 11:
        return float("nan")
    return float(kornia_ssim(image[None], reference[None], 11, padding="valid").mean())


@dataclass(frozen=True)
class Score:
    """Means over pictures."""

    name: str
    psnr: float
    ssim: float


def evaluate(
    models: dict[str, LLFlow],
    files: Sequence[PairFiles],
    *,
    temperature: float = 0.0,
    samples: int = 1,
) -> list[Score]:
    """Score the input itself, its histogram equalisation, and each model, in 8 bits and raw.

    Args:
        models: by the name to print.
        files: pairs to score on; read one at a time.
        temperature, samples: of the models' pictures, see `llflow.enhance`.
    """
    folded = {name: model.fold() for name, model in models.items()}
    scores: dict[str, list[tuple[float, float]]] = {}
    for pair_files in tqdm(files, desc="evaluating", unit="picture", leave=False):
        pair = read_pair(pair_files)
        dark, equalized, bright = (
            x.float() / 255 for x in (pair.dark, pair.equalized, pair.bright)
        )
        results = {"input": dark, "histogram equalisation": equalized}
        results |= {
            name: enhance(model, dark, temperature=temperature, samples=samples)
            for name, model in folded.items()
        }
        for name, result in results.items():
            rounded = (result * 255).round() / 255
            scores.setdefault(name, []).append((psnr(rounded, bright), ssim(rounded, bright)))
    return [
        Score(name, *torch.tensor(values, dtype=torch.float64).mean(0).tolist())
        for name, values in scores.items()
    ]


def validation_psnr(model: LLFlow, files: Sequence[PairFiles]) -> float:
    """Mean raw PSNR of the model's pictures, which training selects by; -inf if one overflows."""
    try:
        return next(s.psnr for s in evaluate({"model": model}, files) if s.name == "model")
    except NotFinite:
        return -math.inf
