"""`llflow doctor`."""

import json
import tomllib
from pathlib import Path

import pytest
import torch

from llflow.commands import doctor
from llflow.network import checkpoint
from llflow.picture import files, optional


def test_what_is_here(llflow):
    code, out, err = llflow("doctor", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["versions"]["torch"] == torch.__version__
    assert found["processor"]["threads"] == torch.get_num_threads()
    assert found["memory"]["available"] > 1e8
    assert len(found["gpus"]) == torch.cuda.device_count()
    assert {one["runs"] for one in found["kernels"].values()} <= {"reference", "triton"}
    assert found["formats"] == {name: {"problem": None} for name in files.FORMATS}
    digest = checkpoint.digest(checkpoint.file_of(checkpoint.DEFAULT))
    assert found["weights"][checkpoint.DEFAULT] == digest
    assert found["suggested"]["--device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    _, text, _ = llflow("doctor")
    for part in (digest, torch.__version__, "PNG, JPEG, WEBP, BMP, TIFF, AVIF are read"):
        assert part in text


@pytest.mark.parametrize(("allowed", "said"), [(1, False), (3, True), (99, True)])
def test_no_more_threads_than_processors(llflow, monkeypatch, allowed, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"num_physical_cores": 8})
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: range(allowed), raising=False)
    _, text, _ = llflow("doctor")
    assert (f"OMP_NUM_THREADS={min(allowed, 8)}\n" in text) == said


@pytest.mark.parametrize("kind", optional.EXTRAS)
def test_what_is_missing_is_named(llflow, monkeypatch, kind):
    extra = optional.EXTRAS[kind]
    monkeypatch.setattr(optional, "find_spec", lambda name: None if name == extra.package else 1)
    _, text, _ = llflow("doctor")
    assert f"{kind}: pip install 'flowkit[{extra.name}]'" in text
    assert text.count("is read\n") == 2


def test_extras_are_named_and_what_isnt_there_is_told(llflow, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "av" else 1)
    _, text, _ = llflow("doctor")
    assert "            film: pip install 'flowkit[film]'\n" in text
    assert text.count("pip install") == 1
    assert "extras      serve, batch, " in text


def test_every_extra_for_users_is_looked_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = {*project["project"]["optional-dependencies"]}
    known = {*doctor.EXTRAS} | {extra.name for extra in optional.EXTRAS.values()}
    assert extras - known == {"testing", "benchmarks", "gallery", "docs", "dev"}


def test_a_format_that_does_not_work_is_named(llflow, monkeypatch):
    def fail(path, picture):
        if path.suffix == ".avif":
            raise files.PictureError("no encoder")
        path.touch()

    monkeypatch.setattr(files, "write", fail)
    monkeypatch.setattr(files, "read", lambda path: None)
    code, text, _ = llflow("doctor")
    assert code == 1
    assert "AVIF: no encoder" in text
    assert "PNG, JPEG, WEBP, BMP, TIFF are read" in text
