"""The gallery's examples run, show what they say, and are on the page with their pictures."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "examples" / "gallery"

OF_FASHION = "anomaly", "inpainting", "transformer"
PAGE = (ROOT / "docs" / "gallery.md").read_text()

# About what was seen (docs/gallery.md). Another machine rounds in another way, which after some
# hundred steps is another training: divergences may double, and what has to be better than
# something else has to stay so. Below 0 a divergence has what its Monte Carlo errs by.
OUTCOMES = {
    "anomaly": lambda e: [(e["by_density"], 0, 0.45), (e["corrected"], 0.7, 1)],
    "boltzmann": lambda e: [(e["estimate"] - e["log_z"], -0.02, 0.02), (e["effective"], 0.8, 1)],
    "circular": lambda e: [(e["divergence"], -0.01, 0.03), (e["seam"], 0, 1e-4)],
    "continuous": lambda e: [(e["divergence"], 0, 0.14)],
    "digits": lambda e: [(e["bits"], 2.2, 2.5), (e["accuracy"], 0.94, 1)],
    "inpainting": lambda e: [(e["bits"], 1.2, 1.8), (e["wrong"] - e["bits"], 0.15, 1)],
    "labels": lambda e: [(e["lacking"].max(), 0, 0.2), (e["lacking"].min(), -0.04, 0.1)],
    "low_light": lambda e: [(e["psnr"][1] - e["psnr"][0], 0, 8)],
    "regression": lambda e: [(e["divergence"], -0.01, 0.03), (e["miscalibration"], 0, 0.03)],
    "sequences": lambda e: [(e["lacking"], 0, 0.016)],
    "simulation": lambda e: [(e["c2st"], 0.45, 0.6)],
    "super_resolution": lambda e: [(e["gain"], 0.1, 0.4), (e["psnr"][1] - e["psnr"][0], 0, 1)],
    "tabular": lambda e: [(e["gain"], 1, 5)],
    "transformer": lambda e: [(e["gained"], 0.02, 0.12)],
    "vae": lambda e: [(e["gaps"]["normal"] - e["gaps"]["flow"], 0, 0.3)],
    "variational": lambda e: [(e["evidence"] - e["elbo"], 0, 0.03)],
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run an example as a script, with these options; what it defines, and its picture."""
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    matplotlib.use("Agg")

    def run(name, *options):
        if name in OF_FASHION and not Path("/usr/share/datasets/fashion-mnist").exists():
            pytest.skip("needs Debian's package dataset-fashion-mnist")
        picture = tmp_path / "picture.png"
        monkeypatch.syspath_prepend(GALLERY)
        monkeypatch.setattr(sys, "argv", [name, "--out", str(picture), *options])
        with torch.random.fork_rng():
            names = runpy.run_path(str(GALLERY / f"{name}.py"), run_name="__main__")
        matplotlib.pyplot.close("all")
        return names, picture

    return run


def test_every_example_is_run_and_on_the_page():
    assert {path.stem for path in GALLERY.glob("*.py")} == {*OUTCOMES, "fashion"}
    for name in OUTCOMES:
        assert f"](../examples/gallery/{name}.py)" in PAGE
        (picture,) = (ROOT / "docs" / "gallery").glob(f"{name}.*")
        assert f"](gallery/{picture.name})" in PAGE
        assert picture.stat().st_size < 120_000
        assert f"`{name}.py`" in (ROOT / "examples" / "README.md").read_text()


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_example_runs_through(name, run, capsys):
    few = ["--draws", "50"] if name == "simulation" else []
    _, picture = run(name, "--steps", "4", *few)
    assert re.search(r"\d\.\d", capsys.readouterr().out)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTCOMES)
def test_an_example_shows_what_it_says(name, run):
    names, _ = run(name)
    for value, low, high in OUTCOMES[name](names):
        assert low <= float(value) <= high


def test_without_the_garments_the_way_to_them_is_said(monkeypatch, tmp_path):
    fashion = runpy.run_path(str(GALLERY / "fashion.py"))
    monkeypatch.setitem(fashion["pictures"].__globals__, "FOLDER", tmp_path / "none")
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        fashion["pictures"]("train", 10)
