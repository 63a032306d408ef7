"""How far a mean over pictures would move, had other pictures of the kind been taken."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from llflow.evaluation.extra import imported

RESAMPLES = 10_000
LEVEL = 0.95
AT_ONCE = 500


def bootstrap(values: np.ndarray, scenes: Sequence[Hashable], seed: int = 0) -> np.ndarray:
    """95 % percentile interval of the mean over pictures, whole scenes drawn with replacement.

    mean = (sums of the scenes drawn) / (pictures in them), 10,000 times, by scipy.stats, the same
    draws for every column. Pictures of one scene are correlated; to draw them one by one makes
    intervals too narrow.

    Args:
        values: (P, C), one row a picture.
        scenes: each picture's; all different to draw pictures.
        seed: decides the draws.

    Returns:
        (2, C), lower and upper end; NaN for columns that aren't finite, and for a single scene.

    Raises:
        ModuleNotFoundError: scipy isn't there.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; of clusters: Davison
    and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(scene, len(numbers)) for scene in scenes]
    finite = np.isfinite(values).all(0)
    if len(numbers) < 2:
        return np.full((2, values.shape[1]), np.nan)
    sums = np.zeros((values.shape[1], len(numbers)))
    np.add.at(sums.T, index, np.where(finite, values, 0))
    pictures = np.broadcast_to(np.bincount(index), sums.shape)
    found = imported("scipy.stats").bootstrap(
        (sums, pictures),
        lambda sums, pictures, axis: sums.sum(axis) / pictures.sum(axis),
        paired=True,
        axis=1,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=AT_ONCE,
        method="percentile",
        confidence_level=LEVEL,
        rng=np.random.default_rng(seed),
    )
    return np.where(finite, np.stack(found.confidence_interval), np.nan)
