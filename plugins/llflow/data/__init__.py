"""Pairs of a dark and a bright picture: found, read, split by scene, cut into training batches."""

from llflow.data.crops import Crops
from llflow.data.darken import darken, synthetic_pair
from llflow.data.pairs import DataError, Pair, PairFiles, find_pairs, named, read_pair, read_pairs
from llflow.data.scenes import hold_out, read_clusters, read_split

__all__ = [
    "Crops",
    "DataError",
    "Pair",
    "PairFiles",
    "darken",
    "find_pairs",
    "hold_out",
    "named",
    "read_clusters",
    "read_pair",
    "read_pairs",
    "read_split",
    "synthetic_pair",
]
