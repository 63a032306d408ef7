"""How far a mean over pictures would move, had other pictures of the kind been taken."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
_AT_ONCE = 500


def bootstrap(values: np.ndarray, scenes: Sequence[Hashable], seed: int = 0) -> np.ndarray:
    """95 % percentile interval of the mean over pictures, whole scenes drawn with replacement.

    mean = Σₛ nₛ·(sum of scene s) / Σₛ nₛ·(pictures in s), with n multinomial, 10,000 times.
    Pictures of one scene are correlated; to draw them one by one makes intervals too narrow.

    Args:
        values: (P, C), one row a picture.
        scenes: each picture's; all different to draw pictures.
        seed: decides the draws.

    Returns:
        (2, C), lower and upper end; NaN for columns that aren't finite, and for a single scene.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; of clusters: Davison
    and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(scene, len(numbers)) for scene in scenes]
    count = len(numbers)
    finite = np.isfinite(values).all(0)
    if count < 2:
        return np.full((2, values.shape[1]), np.nan)
    sums = np.zeros((count, values.shape[1] + 1))
    np.add.at(sums, index, np.column_stack([np.where(finite, values, 0), np.ones(len(values))]))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = rng.multinomial(count, np.full(count, 1 / count), _AT_ONCE) @ sums
        means.append(drawn[:, :-1] / drawn[:, -1:])
    tail = (1 - LEVEL) / 2
    ends = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return np.where(finite, ends, np.nan)
