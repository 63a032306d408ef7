"""Can a classifier tell two sets of draws apart?"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor


def c2st(reference: Tensor, other: Tensor, *, seed: int = 1) -> float:
    """The success, 0.5 to 1, of a multilayer perceptron with two hidden layers of 10·P, in five
    folds, on draws (N, P) of which the reference has mean 0 and deviation 1.

    Lueckmann et al., 2021, arXiv:2101.04653, §2.3 and appendix M, after Lopez-Paz & Oquab, 2017.
    """
    mean, deviation = reference.mean(0), reference.std(0)
    both = [((draws - mean) / deviation).numpy() for draws in (reference, other)]
    labels = np.repeat([0, 1], [len(draws) for draws in both])
    width = 10 * reference.shape[1]
    classifier = MLPClassifier((width, width), max_iter=10_000, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(classifier, np.concatenate(both), labels, cv=folds).mean())
