"""The packages of the extra `flowkit[metrics]`, which scoring needs and training doesn't."""

from __future__ import annotations

import importlib
from typing import Any


def imported(module: str) -> Any:
    """One of kornia's, scipy's, pooch's or lpips' modules.

    Raises:
        ModuleNotFoundError: it isn't there; the message says how to get it.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"{package} isn't installed: pip install 'flowkit[metrics]'", name=package
        ) from error
    return importlib.import_module(module)
