"""`import flowkit` needs none of the optional packages, and doesn't import them."""

import subprocess
import sys

import pytest

OPTIONAL = [
    "FrEIA",
    "PIL",
    "cv2",
    "fastapi",
    "hypothesis",
    "kornia",
    "llflow",
    "lpips",
    "matplotlib",
    "nflows",
    "normflows",
    "onnx",
    "pooch",
    "pydantic",
    "pytest",
    "ray",
    "scipy",
    "skimage",
    "torchvision",
    "triton",
    "zuko",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "statement", ["from flowkit import *", "import flowkit.testing", "import flowkit.cli"]
)
def test_import_pulls_in_no_optional_package(statement):
    # What torch itself imports (triton, where it was built with it) isn't flowkit's doing.
    result = run(
        f"import sys, torch; before = set(sys.modules); {statement}\n"
        f"print(sorted((set(sys.modules) - before) & set({OPTIONAL})))"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("statement", ["import flowkit", "import flowkit.cli, flowkit.__main__"])
def test_pytorch_comes_with_the_first_name(statement):
    result = run(
        f"import sys; {statement}\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)\n"
        "flowkit.Coupling; print('torch' in sys.modules)"
    )
    assert result.stdout.split() == ["False", "False", "True"], result.stderr


def test_the_package_has_its_public_names_and_no_others():
    result = run(
        "import flowkit\n"
        "from flowkit import *\n"
        "assert set(flowkit.__all__) <= set(dir(flowkit))\n"
        "assert all(globals()[name] is getattr(flowkit, name) for name in flowkit.__all__)\n"
        "import inspect; inspect.unwrap(flowkit)\n"
        "flowkit.Mapping\n"
    )
    assert result.stderr.splitlines()[-1] == (
        "AttributeError: module 'flowkit' has no attribute 'Mapping'"
    )


def test_import_without_triton():
    result = run(
        "import sys; sys.modules['triton'] = None; import flowkit; print(flowkit.Flow.__name__)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "Flow"
