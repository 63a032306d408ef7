"""Standard input and output in the place of files."""

import os
import subprocess
import sys
import tempfile
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llflow import cli
from llflow.picture.files import read


@pytest.fixture
def dark(tmp_path):
    levels = np.random.default_rng(0).integers(0, 60, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "dark.png")
    return tmp_path / "dark.png"


@pytest.fixture
def piped(weights, tmp_path, monkeypatch):
    """`llflow enhance ARGV...` in this process; returns exit code, stdout as bytes, stderr."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def call(*argv, given=b""):
        streams = {name: TextIOWrapper(BytesIO()) for name in ("stdout", "stderr")}
        streams["stdin"] = TextIOWrapper(BytesIO(given))
        with monkeypatch.context() as patched:
            for name, stream in streams.items():
                patched.setattr(sys, name, stream)
            code = cli.main(["enhance", *map(str, argv), "--weights", str(weights)])
        assert not list((tmp_path / "temporary").glob("llflow_*"))
        out, err = (streams[name] for name in ("stdout", "stderr"))
        err.flush()
        lines = err.buffer.getvalue().decode().splitlines()
        said = [line for line in lines if line.startswith("llflow")]
        return code, out.buffer.getvalue(), "\n".join(said)

    return call


def test_through_pipes_of_the_system(weights, dark, tmp_path):
    line = [sys.executable, "-m", "llflow", "enhance", "-", "--weights", weights]
    done = subprocess.run(line, input=dark.read_bytes(), capture_output=True, timeout=100)
    (tmp_path / "out").write_bytes(done.stdout)
    assert done.returncode == 0
    assert read(tmp_path / "out").image.shape == (3, 24, 32)
    assert b"llflow" not in done.stderr


def test_a_picture_in_and_out_and_nothing_else(piped, llflow, weights, dark, tmp_path):
    llflow("enhance", dark, "-o", tmp_path / "file.png", "--weights", weights)
    expected = (tmp_path / "file.png").read_bytes()
    assert piped("-", "-o", "-", given=dark.read_bytes()) == (0, expected, "")
    assert piped(dark, "-o", "-") == (0, expected, "")
    code, out, err = piped("-", "-o", tmp_path / "b.png", given=dark.read_bytes())
    assert (code, out, err) == (0, f"1 enhanced, 0 failed -> {tmp_path / 'b.png'}\n".encode(), "")
    assert (tmp_path / "b.png").read_bytes() == expected


def test_what_goes_wrong_with_a_stream(piped, dark, tmp_path):
    code, out, err = piped("-", given=b"no picture")
    assert (code, out) == (1, b"")
    assert err.startswith("llflow: -: not a picture")
    assert piped("-", given=b"") == (1, b"", "llflow: -: the file is empty")
    code, _, err = piped("-", "-o", tmp_path / "dark.png", given=dark.read_bytes())
    assert code == 1
    assert err == f"llflow: -: {dark} exists (--overwrite or --skip-existing)"
    code, out, err = piped("-", "-o", tmp_path, given=dark.read_bytes())
    assert (code, out) == (2, b"")
    assert f"'-' needs a picture's name, or '-', as OUT, got {tmp_path}." in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dark.png", "temporary"]


@pytest.mark.parametrize("option", [("--suffix", "_2"), ("--report", "page.html")])
def test_what_a_stream_has_not_is_refused(piped, dark, option):
    code, out, err = piped("-", *option, given=dark.read_bytes())
    assert (code, out) == (2, b"")
    assert "'-' goes with neither --suffix nor --report" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_stream_that_takes_no_more_is_named(weights, dark):
    line = [sys.executable, "-m", "llflow", "enhance", dark, "-o", "-", "--weights", weights]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, timeout=100)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "llflow: -: No space left on device"


def test_format_and_warnings_of_a_stream(piped, dark, tmp_path):
    picture = Image.open(dark)
    picture.save(tmp_path / "a.jpg", comment=b"by hand")
    content = (tmp_path / "a.jpg").read_bytes()
    code, out, err = piped("-", "--format", "tiff", "--depth", "16", given=content)
    (tmp_path / "out").write_bytes(out)
    result = read(tmp_path / "out")
    assert (code, result.format, result.bits) == (0, "TIFF", 16)
    assert err == "llflow: -: warning: the comment isn't kept"
    assert piped("-", "--format", "TIFF", "--quiet", given=content)[2] == ""


@pytest.mark.parametrize("argv", [("-",), ("dark.png", "-o", "-")])
def test_a_terminal_is_no_picture(llflow, monkeypatch, dark, argv):
    monkeypatch.chdir(dark.parent)
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True, raising=False)
    code, _, err = llflow("enhance", *argv)
    assert code == 2
    assert "terminal" in err


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd here")
def test_a_pipe_by_name_is_refused_with_a_hint(piped, dark, tmp_path):
    reading, writing = os.pipe()
    code, _, err = piped(f"/dev/fd/{reading}", "-o", tmp_path / "o.png")
    os.close(reading)
    os.close(writing)
    assert code == 1
    assert "neither pipes nor devices are read, only files, and - for standard input" in err
