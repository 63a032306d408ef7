"""Parametrisations of an invertible matrix, one file each."""

from flowkit.layers.weights.full import Full
from flowkit.layers.weights.orthogonal import Orthogonal
from flowkit.layers.weights.plu import PLU
from flowkit.layers.weights.weight import Weight, random_orthogonal

__all__ = ["PLU", "Full", "Orthogonal", "Weight", "random_orthogonal"]
