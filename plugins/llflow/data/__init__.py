"""Pairs of a dark and a bright picture: found, checked, read, split by scene, cut into batches."""

from llflow.data.crops import Crops, Samples
from llflow.data.layouts import Found, find_pairs, look
from llflow.data.lookalikes import (
    find_scenes,
    groups,
    leaks,
    likeness,
    refuse_leaks,
    thumbnail,
    thumbnails,
)
from llflow.data.luminance import coarse_luminance, lying
from llflow.data.pairs import (
    MEMORY,
    DataError,
    Pair,
    PairFiles,
    averaged_down,
    kept,
    named,
    read_pair,
    read_pairs,
    window,
)
from llflow.data.photographs import synthetic_from
from llflow.data.report import Report, check
from llflow.data.scenes import hold_out, read_clusters, read_split, scenes_of, write_split
from llflow.data.synthetic import (
    Synthesis,
    darken,
    night_sky,
    synthetic_pair,
    synthetic_pairs,
)
from llflow.data.variety import Variety
from llflow.data.wholes import Thumbnails, Wholes

__all__ = [
    "MEMORY",
    "Crops",
    "DataError",
    "Found",
    "Pair",
    "PairFiles",
    "Report",
    "Samples",
    "Synthesis",
    "Thumbnails",
    "Variety",
    "Wholes",
    "averaged_down",
    "check",
    "coarse_luminance",
    "darken",
    "find_pairs",
    "find_scenes",
    "groups",
    "hold_out",
    "kept",
    "leaks",
    "likeness",
    "look",
    "lying",
    "named",
    "night_sky",
    "read_clusters",
    "read_pair",
    "read_pairs",
    "read_split",
    "refuse_leaks",
    "scenes_of",
    "synthetic_from",
    "synthetic_pair",
    "synthetic_pairs",
    "thumbnail",
    "thumbnails",
    "window",
    "write_split",
]
