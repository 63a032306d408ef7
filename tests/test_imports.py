"""`import flowkit` needs none of the optional packages, and doesn't import them."""

import subprocess
import sys

import pytest

OPTIONAL = [
    "PIL",
    "cv2",
    "hypothesis",
    "kornia",
    "llflow",
    "lpips",
    "normflows",
    "pytest",
    "skimage",
    "torchvision",
    "triton",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("module", ["flowkit", "flowkit.testing", "flowkit.cli"])
def test_import_pulls_in_no_optional_package(module):
    # What torch itself imports (triton, where it was built with it) isn't flowkit's doing.
    result = run(
        f"import sys, torch; before = set(sys.modules); import {module}; "
        f"print(sorted((set(sys.modules) - before) & set({OPTIONAL})))"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_import_without_triton():
    result = run(
        "import sys; sys.modules['triton'] = None; import flowkit; print(flowkit.__name__)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "flowkit"
