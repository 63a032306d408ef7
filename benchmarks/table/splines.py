"""Every library's spline flow of vectors; FrEIA, which has none, stands with its own kind."""

from __future__ import annotations

import of_flowkit
import of_freia
import of_nflows
import of_normflows
import of_zuko
from part import Build

SPLINES: dict[str, Build] = {
    "flowkit": of_flowkit.spline,
    "zuko": of_zuko.spline,
    "nflows": of_nflows.spline,
    "normflows": of_normflows.spline,
}
FLOWS = SPLINES | {"FrEIA": of_freia.spline}
