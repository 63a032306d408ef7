"""The kernels compile for GPUs that aren't here, and what the compiler made of them is good."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton isn't installed")

pytestmark = pytest.mark.xdist_group("ahead of time")  # one process compiles for all
SCRIPT = Path(__file__).with_name("ahead_of_time.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    environment = {name: v for name, v in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    result = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def of(compiled, start, *without):
    found = {n: r for n, r in compiled.items() if n.startswith(start)}
    found = {n: r for n, r in found.items() if not any(word in n for word in without)}
    assert len(found) >= 8
    return found


def test_for_both_architectures(compiled):
    assert {name.rpartition(" ")[2] for name in compiled} == {"sm_80", "sm_90"}


def test_no_kernel_spills_registers(compiled):
    assert {name: r["spilled"] for name, r in compiled.items() if r["spilled"]} == {}


def test_shared_memory_suffices(compiled):
    # What one program may have on the smallest of these GPUs (compute capability 8.6 and 8.9).
    assert {name: r["shared"] for name, r in compiled.items() if r["shared"] > 99 * 1024} == {}


def test_couplings_load_16_bytes_at_a_time(compiled):
    for name, report in of(compiled, "coupling").items():
        # The log-det's gradient is one number a sample.
        narrow = int("backward" in name)
        assert report["loads"] - report["wide loads"] == narrow, name
        assert report["wide loads"] >= 8, name


def test_places_are_loaded_16_bytes_at_a_time(compiled):
    for name, report in of(compiled, "linear", "tf32 ").items():
        # The weight and the bias, which stay in the cache, may take narrower loads.
        assert report["wide loads"] > report["loads"] / 2, name


def test_couplings_use_no_tensor_core(compiled):
    assert {report["tf32 products"] for report in of(compiled, "coupling").values()} == {0}


def test_splines_load_each_width_and_height_once_and_of_the_slopes_two(compiled):
    for name, report in of(compiled, "spline", "backward").items():
        # x, eight widths and heights, and two slopes, which each of a thread's four elements finds.
        assert report["loads"] == 1 + 2 * 8 + 2 * 4, name


def test_linear_maps_multiply_three_times_in_tf32(compiled):
    for name, report in of(compiled, "linear", "tf32 ").items():
        single = compiled[name.replace("tf32x3", "tf32")]["tf32 products"]
        assert single > 0, name
        assert report["tf32 products"] >= 3 * single, name
