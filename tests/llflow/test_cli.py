"""The command line: what users type, also by mistake, and what they get."""

import copy
import errno
import hashlib
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import llflow as package
from llflow import errors
from llflow.enhancement import enhance
from llflow.jobs import PlanError
from llflow.network import checkpoint, official
from llflow.network.precision import PRECISIONS
from llflow.picture.files import PictureError, read, to_pil
from llflow.picture.light import factor_for_mean
from llflow.picture.rows import whole


def picture(path, mode="RGB", size=(13, 9), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(levels)
    (image if mode == "RGBA" else image.convert("RGB").convert(mode)).save(path, **options)
    return path


def level(path):
    return np.asarray(Image.open(path))


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def bright_of(model, source, *, precision="auto", **options):
    image = read(source).image
    return np.asarray(to_pil(enhance(model, image, precision=precision, **options)))


# --- enhance ---------------------------------------------------------------------------------


def test_one_picture(llflow, weights, nano, tmp_path):
    source = picture(tmp_path / "dark.png")
    before = source.read_bytes()
    code, out, err = llflow("enhance", source, "-o", tmp_path / "bright.png", "--weights", weights)
    assert (code, err) == (0, "")
    assert out == f"1 enhanced, 0 failed -> {tmp_path / 'bright.png'}\n"
    assert np.array_equal(level(tmp_path / "bright.png"), bright_of(nano.fold(), source))
    assert source.read_bytes() == before
    assert files(tmp_path) == ["bright.png", "dark.png"]


def test_without_out(llflow, weights, tmp_path):
    picture(tmp_path / "dark.png")
    assert llflow("enhance", tmp_path / "dark.png", "--weights", weights)[0] == 0
    assert files(tmp_path) == ["dark.png", "dark_bright.png"]


@pytest.mark.parametrize(
    "order", [["a", "b", "out", "-w"], ["a", "-w", "b", "out"], ["-w", "a", "b", "out"]]
)
def test_paths_stand_before_between_and_behind_options(llflow, weights, tmp_path, order):
    words = {name: [picture(tmp_path / f"{name}.png")] for name in "ab"}
    words |= {"out": [tmp_path / "out"], "-w": ["--seed", 3, "--weights", weights]}
    assert llflow("enhance", *(word for name in order for word in words[name]))[0] == 0
    assert files(tmp_path / "out") == ["a.png", "b.png"]


def test_a_folder_tree(llflow, weights, tmp_path):
    for name in ("a.png", "b/c.jpg", "b/d/e.webp", "b/d/f.bmp", "g/h.tif"):
        picture(tmp_path / "in" / name)
    arguments = ("enhance", tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert llflow(*arguments)[0] == 0
    assert files(tmp_path / "out") == ["a.png"]
    code, out, err = llflow(*arguments, "--recursive", "--skip-existing")
    assert (code, out, err) == (0, "4 enhanced, 1 skipped, 0 failed\n", "")
    assert files(tmp_path / "out") == ["a.png", "b/c.jpg", "b/d/e.webp", "b/d/f.bmp", "g/h.tif"]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (17, 3)])
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_any_size(llflow, weights, tmp_path, size, mode):
    source = picture(tmp_path / "in.png", mode, size)
    assert llflow("enhance", source, "--weights", weights)[0] == 0
    result = Image.open(tmp_path / "in_bright.png")
    assert (result.size, result.mode) == (size, mode)
    if mode == "RGBA":
        assert np.array_equal(level(source)[..., 3], np.asarray(result)[..., 3])


@pytest.mark.parametrize(
    ("in_mode", "suffix", "out_mode"),
    [
        ("1", ".png", "L"),
        ("P", ".png", "RGB"),
        ("LA", ".png", "LA"),
        ("I;16", ".png", "I;16"),
        ("CMYK", ".jpg", "CMYK"),
        ("L", ".bmp", "L"),
        ("RGBA", ".webp", "RGBA"),
    ],
)
def test_any_mode(llflow, weights, tmp_path, in_mode, suffix, out_mode):
    source = tmp_path / f"in{suffix}"
    if in_mode == "I;16":
        Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 300).save(source)
    else:
        picture(source, in_mode)
    assert llflow("enhance", source, "--weights", weights)[0] == 0
    assert Image.open(tmp_path / f"in_bright{suffix}").mode == out_mode


def test_the_result_depends_on_picture_and_seed_alone(llflow, weights, tmp_path):
    for index, name in enumerate("abc"):
        picture(tmp_path / f"{name}.png", size=(20 + index, 16), seed=index)
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    options = ("--weights", weights, "--samples", 2, "--temperature", 0.7)
    llflow("enhance", a, b, c, tmp_path / "abc", *options, "--seed", 5)
    llflow("enhance", c, a, tmp_path / "ca", *options, "--seed", 5)
    llflow("enhance", a, tmp_path / "other", *options, "--seed", 6)
    for name in ("a.png", "c.png"):
        assert np.array_equal(level(tmp_path / "abc" / name), level(tmp_path / "ca" / name))
    difference = level(tmp_path / "abc" / "a.png").astype(int) - level(tmp_path / "other" / "a.png")
    assert np.abs(difference).max() > 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {}),
        (["--temperature", "0.5"], {"temperature": 0.5}),
        (["--samples", "2"], {"samples": 2, "temperature": 1.0}),
        (["--samples", "3", "--temperature", "0.2"], {"samples": 3, "temperature": 0.2}),
        (["--temperature", "1", "--seed", "-7"], {"temperature": 1.0, "seed": -7}),
    ],
)
def test_samples_temperature_and_seed(llflow, weights, nano, tmp_path, options, expected):
    source = picture(tmp_path / "in.png")
    assert llflow("enhance", source, "--weights", weights, *options)[0] == 0
    assert np.array_equal(
        level(tmp_path / "in_bright.png"), bright_of(nano.fold(), source, **expected)
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--brightness", "-0.5"], {"brightness": -0.5}),
        (["--exposure", "0.25"], {"exposure": 0.25}),
        (["--exposure", "auto", "--strength", "0.3"], {"strength": 0.3}),
        (["--precision", "float32"], {"precision": "float32"}),
        (["--precision", "bf16"], {"precision": "bf16"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_light_and_precision(llflow, weights, nano, tmp_path, options, expected):
    source = picture(tmp_path / "dark.png")
    assert llflow("enhance", source, "--weights", weights, *options)[0] == 0
    assert np.array_equal(
        level(tmp_path / "dark_bright.png"), bright_of(nano.fold(), source, **expected)
    )


def test_every_precision_can_be_asked_for():
    from llflow.commands import enhance as command

    (option,) = (p for p in command.command.params if p.name == "precision")
    assert tuple(option.type.choices) == PRECISIONS


def test_at_strength_0_a_picture_stays(llflow, weights, tmp_path):
    source = picture(tmp_path / "dark.png")
    assert llflow("enhance", source, "--weights", weights, "--strength", 0)[0] == 0
    assert np.array_equal(level(tmp_path / "dark_bright.png"), level(source))


def test_a_picture_too_black_for_an_exposure_is_named(llflow, weights, tmp_path, monkeypatch):
    black, source = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", seed=1)
    refuse = [True, False]

    def factor(image, mean):
        return factor_for_mean(0 * whole(image) if refuse.pop(0) else image, mean)

    monkeypatch.setattr("llflow.picture.light.factor_for_mean", factor)
    call = ("enhance", black, source, "--weights", weights, "--exposure", 0.1)
    code, out, err = llflow(*call)
    assert code == 1
    assert out.startswith("1 enhanced, 1 failed")
    assert err.startswith(f"llflow: {black}: expected an exposure below")


def test_an_existing_result_stays_unless_told(llflow, weights, tmp_path):
    source, out = picture(tmp_path / "in.png"), picture(tmp_path / "out.png", seed=1)
    before = out.read_bytes()
    arguments = ("enhance", source, "--out", out, "--weights", weights)
    code, _, err = llflow(*arguments)
    assert code == 1
    assert err == f"llflow: {source}: {out} exists (--overwrite or --skip-existing)"
    assert out.read_bytes() == before
    assert llflow(*arguments, "--skip-existing")[0] == 0
    assert out.read_bytes() == before
    assert llflow(*arguments, "--overwrite")[0] == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--skip-existing"]])
def test_what_a_wildcard_matches_is_input(llflow, weights, tmp_path, count, option):
    sources = [picture(tmp_path / f"{name}.jpg") for name in "abc"[:count]]
    before = [source.read_bytes() for source in sources]
    code, out, err = llflow("enhance", *sources, "--weights", weights, *option)
    assert (code, out, err) == (0, f"{count} enhanced, 0 failed\n", "")
    assert [source.read_bytes() for source in sources] == before
    names = [name for letter in "abc"[:count] for name in (f"{letter}.jpg", f"{letter}_bright.jpg")]
    assert files(tmp_path) == names


def test_a_file_that_is_no_picture_is_input_too(llflow, weights, tmp_path):
    source, note = picture(tmp_path / "a.png"), tmp_path / "note.txt"
    note.write_text("mine")
    code, out, err = llflow("enhance", source, note, "--weights", weights, "--overwrite")
    assert (code, out) == (1, f"1 enhanced, 1 failed -> {tmp_path / 'a_bright.png'}\n")
    assert err.startswith(f"llflow: {note}: not a picture")
    assert note.read_text() == "mine"


def test_a_folder_by_position_keeps_what_it_has(llflow, weights, tmp_path):
    source, mine = picture(tmp_path / "a.png"), picture(tmp_path / "out" / "a.png", seed=1)
    before = mine.read_bytes()
    arguments = ("enhance", source, tmp_path / "out", "--weights", weights)
    assert llflow(*arguments)[0] == 1
    code, _, err = llflow(*arguments, "--overwrite")
    assert code == 2
    assert f"only if --out says so: --out {tmp_path / 'out'}" in err
    assert mine.read_bytes() == before
    arguments = ("enhance", source, "-o", tmp_path / "out", "--weights", weights)
    assert llflow(*arguments, "--overwrite")[0] == 0
    assert mine.read_bytes() != before


def test_a_suffix_replaces_nothing_beside_the_inputs(llflow, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, mine = picture(tmp_path / "photo1.png"), picture(tmp_path / "photo10.png", seed=1)
    before = mine.read_bytes()
    arguments = ("enhance", source, "--suffix", "0", "--weights", weights, "--overwrite")
    code, out, err = llflow(*arguments)
    assert (code, out) == (2, "")
    assert "--out has to say where" in err
    assert mine.read_bytes() == before
    assert llflow(*arguments[:-1])[0] == 1
    assert mine.read_bytes() == before
    for suffix in ("_bright", "_2"):
        arguments = ("enhance", source, "--suffix", suffix, "--weights", weights)
        out = ("--out", ".") if suffix == "_2" else ()
        assert llflow(*arguments)[0] == 0
        assert llflow(*arguments, *out, "--overwrite")[0] == 0
    assert mine.read_bytes() == before


def test_a_second_run_on_all_that_is_there_says_what_to_do(llflow, weights, tmp_path):
    source = picture(tmp_path / "a.png")
    assert llflow("enhance", source, "--weights", weights)[0] == 0
    code, _, err = llflow("enhance", source, tmp_path / "a_bright.png", "--weights", weights)
    assert code == 2
    assert "leave that out if it is a result from before" in err


@pytest.mark.parametrize(
    "out", ["a.png", "./a.png", "sub/../a.png", "soft.png", "hard.png", "folder/a.png", "."]
)
def test_no_result_replaces_an_input(llflow, weights, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    source = picture(tmp_path / "a.png")
    before = source.read_bytes()
    (tmp_path / "sub").mkdir()
    (tmp_path / "soft.png").symlink_to("a.png")
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "folder").symlink_to(".")
    code, stdout, err = llflow("enhance", "a.png", "-o", out, "--overwrite", "--weights", weights)
    assert (code, stdout) == (2, "")
    assert "would replace an input" in err
    assert (
        source.read_bytes()
        == (tmp_path / out / "a.png" if out == "." else tmp_path / out).read_bytes()
    )
    assert source.read_bytes() == before


@pytest.mark.parametrize("out", [[], ["--out"]])
@pytest.mark.parametrize("name", ["a.png", "b.png"])
def test_nothing_is_replaced_through_a_folder_that_is_not_there(
    llflow, weights, tmp_path, monkeypatch, name, out
):
    monkeypatch.chdir(tmp_path)
    before = [picture(tmp_path / each, seed=1).read_bytes() for each in ("a.png", "b.png")]
    given = ("enhance", "a.png", *out, f"new/../{name}", "--weights", weights)
    code, _, err = llflow(*given, *(["--overwrite"] if out else []))
    assert code == 1
    assert err.startswith(f"llflow: a.png: new/../{name} can't be written: ")
    assert [(tmp_path / each).read_bytes() for each in ("a.png", "b.png")] == before
    assert files(tmp_path) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "inputs", [["x/a.png", "y/a.png"], ["x", "y/a.png"], ["x", "y"], ["a.png", "a_bright.png"]]
)
def test_two_results_of_one_name_are_refused(llflow, weights, tmp_path, monkeypatch, inputs):
    monkeypatch.chdir(tmp_path)
    for name in ("x/a.png", "y/a.png", "a.png", "a_bright.png"):
        picture(tmp_path / name)
    before = files(tmp_path)
    out = [] if "a_bright.png" in inputs else ["-o", "out"]
    code, stdout, err = llflow("enhance", *inputs, *out, "--weights", weights, "--overwrite")
    assert (code, stdout) == (2, "")
    assert "would be written here" in err or "would replace an input" in err
    assert files(tmp_path) == before


def test_what_a_result_does_not_hold_is_said(llflow, weights, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    source = picture(tmp_path / "a.jpg", exif=exif.tobytes())
    code, out, err = llflow("enhance", source, "-o", tmp_path / "b.bmp", "--weights", weights)
    assert (code, out) == (0, f"1 enhanced, 0 failed -> {tmp_path / 'b.bmp'}\n")
    assert err == f"llflow: {source}: warning: BMP can't hold EXIF"


def test_a_bad_file_is_named_and_the_rest_goes_on(llflow, weights, tmp_path):
    good = picture(tmp_path / "in" / "a.png"), picture(tmp_path / "in" / "z.png")
    (tmp_path / "in" / "note.txt").write_text("hello")
    short = picture(tmp_path / "in" / "short.jpg", size=(64, 64)).read_bytes()
    (tmp_path / "in" / "short.jpg").write_bytes(short[: len(short) // 2])
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in" / "loop.png")
    code, out, err = llflow("enhance", tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert code == 1
    assert out == "2 enhanced, 1 of other kinds left out, 2 failed\n"
    named = [line.split(": ")[1] for line in err.splitlines()]
    assert named == [str(tmp_path / "in" / name) for name in ("loop.png", "short.jpg")]
    assert files(tmp_path / "out") == [path.name for path in good]


def test_a_file_that_may_not_be_read_is_named_and_the_rest_goes_on(
    llflow, weights, tmp_path, monkeypatch
):
    secret, good = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path == secret:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)  # whoever runs this may be allowed everything
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != secret)
    code, out, err = llflow("enhance", secret, good, "--weights", weights)
    assert (code, out) == (1, f"1 enhanced, 1 failed -> {tmp_path / 'b_bright.png'}\n")
    assert err == f"llflow: {secret}: {os.strerror(errno.EACCES)}"


def test_a_name_that_is_no_text(llflow, weights, tmp_path):
    source = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        picture(source)
    except OSError:
        pytest.skip("this file system wants UTF-8")
    code, out, _ = llflow("enhance", source, "--weights", weights)
    assert code == 0
    assert "caf\\udce9_bright.png" in out


def test_more_pixels_than_asked_for(llflow, weights, tmp_path):
    source = picture(tmp_path / "in.png", size=(10, 10))
    code, _, err = llflow("enhance", source, "--weights", weights, "--max-pixels", 99)
    assert code == 1
    assert err.endswith("in.png: too large: 10×10 pixels, the limit is 99 in all (--max-pixels)")


def test_ctrl_c_leaves_whole_files(llflow, weights, tmp_path, monkeypatch):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    placed, link = [], os.link

    def stop_at_the_second(*names):
        placed.append(names)
        if len(placed) == 2:
            raise KeyboardInterrupt
        link(*names)

    monkeypatch.setattr(os, "link", stop_at_the_second)
    code, _, err = llflow("enhance", a, b, tmp_path / "out", "--weights", weights)
    assert (code, err) == (130, "llflow: interrupted")
    assert files(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command."),
        (["enhence"], "No such command 'enhence'."),
        (["enhance"], "Missing argument 'IN... [OUT]'."),
        (["enhance", "in.png", "--outt", "x.png"], "No such option"),
        (["enhance", "in.png", "--samples", "0"], "'--samples': 0 is not in the range x>=1"),
        (["enhance", "in.png", "--samples", "1.5"], "'1.5' is not a valid integer range"),
        (["enhance", "in.png", "--temperature", "-1"], "-1.0 is not in the range x>=0"),
        (["enhance", "in.png", "--temperature", "nan"], "'nan' isn't a finite number"),
        (["enhance", "in.png", "--temperature", "inf"], "'inf' isn't a finite number"),
        (["enhance", "in.png", "--temperature", "warm"], "'warm' is not a valid float range"),
        (["enhance", "in.png", "--strength", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["enhance", "in.png", "--strength", "nan"], "'nan' isn't a finite number"),
        (["enhance", "in.png", "--brightness", "inf"], "inf is not in the range -10<=x<=10"),
        (["enhance", "in.png", "--brightness", "more"], "'more' is not a valid float range"),
        (["enhance", "in.png", "--exposure", "1"], "'1' is neither auto nor a number between"),
        (["enhance", "in.png", "--exposure", "bright"], "'bright' is neither auto nor a number"),
        (["enhance", "in.png", "--precision", "fp16"], "'fp16' is not one of 'auto', 'float32'"),
        (["enhance", "in.png", "--max-pixels", "0"], "'--max-pixels': 0 is not in the range x>=1"),
        (["enhance", "in.png", "--seed", "x"], "'--seed': 'x' is not a valid integer"),
        (["enhance", "in.png", "--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["enhance", "in.png", "--overwrite", "--skip-existing"], "exclude each other"),
        (["enhance", "-", "in.png"], "'-' is for one picture in and one out"),
        (["enhance", ".", "-o", "-"], "'-' is for one picture in and one out"),
        (["enhance", "in.png", "-o", "-", "--json"], "'-' goes with neither --dry-run nor"),
        (["enhance", "in.png", "-o", "-", "--dry-run"], "'-' goes with neither --dry-run nor"),
        (["enhance", "in.png", "--preset", "brite"], "nor a shipped preset (bright, smooth,"),
        (["enhance", "in.png", "--seed", str(2**64)], "expected a whole number of 64 bits"),
        (["convert", "-"], "standard input and output aren't read or written"),
        (["enhance", "in.png", "--samples", "2", "--temperature", "0"], "all samples are the same"),
        (["enhance", "nothing.png"], "nothing.png: no such file or folder"),
        (["enhance", "in.png", "out.gif"], "out.gif: expected a name in .png"),
        (["enhance", "in.png", "-o", "in.png"], "would replace an input"),
        (["enhance", "in.png", "in.png", "new.png"], "new.png: several results need a folder as"),
        (["enhance", "in.png", "in.png", "-o", "in.png"], "in.png: several results need a folder"),
        (["convert", "in.pth"], "Expected one OUT, behind CHECKPOINT or with --out."),
        (["convert", "in.pth", "a.safetensors", "-o", "b.safetensors"], "Expected one OUT"),
        (["convert", "in.pth", "out.pth"], "Expected OUT to end in .safetensors, got out.pth"),
        (["evaluate"], "Missing option '--data'."),
        (["compare", "in"], "Missing argument 'REFERENCE'."),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(llflow, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "in.png")
    code, out, err = llflow(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("llflow")
    assert files(tmp_path) == ["in.png"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(llflow, weights, tmp_path):
    source = picture(tmp_path / "in.png")
    code, _, err = llflow("enhance", source, "--weights", weights, "--device", "cuda")
    assert code == 1
    assert err == "llflow: --device cuda: PyTorch sees no CUDA device here"
    for device in ("cpu", "auto"):
        out = tmp_path / f"{device}.png"
        assert llflow("enhance", source, out, "--weights", weights, "--device", device)[0] == 0


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x80\x02pickle", "truncated"])
def test_unusable_weights_are_one_line(llflow, weights, tmp_path, content):
    bad = tmp_path / "bad.safetensors"
    if content == "truncated":
        bad.write_bytes(weights.read_bytes()[:-10])
    elif content is not None:
        bad.write_bytes(content)
    code, out, err = llflow("enhance", picture(tmp_path / "in.png"), "--weights", bad)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"llflow: {bad}: ")
    assert not (tmp_path / "in_bright.png").exists()


def test_a_line_of_json_for_each_picture(llflow, weights, tmp_path):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "in" / "c.txt").write_text("no picture")
    out = tmp_path / "out"
    call = ("enhance", tmp_path / "in", out, "--weights", weights, "--json", "--seed", 3)
    code, text, err = llflow(*call)
    assert code == 1
    assert len(err.splitlines()) == 1
    a, b, c = map(json.loads, text.splitlines())
    assert [line["status"] for line in (a, b, c)] == ["done", "failed", "other"]
    assert (a["source"], a["target"]) == (str(tmp_path / "in" / "a.png"), str(out / "a.png"))
    assert a["reason"] is None
    assert b["reason"].startswith("truncated")
    assert a["settings"]["seed"] == 3
    assert a["seconds"] > 0
    assert a["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_dry_run_writes_nothing(llflow, tmp_path):
    source = picture(tmp_path / "a.png")
    picture(tmp_path / "a_bright.png")
    call = ("enhance", source, "--weights", "none.safetensors", "--dry-run")
    code, out, err = llflow(*call)
    assert (code, err) == (0, "")
    assert out == f"{source} -> {tmp_path / 'a_bright.png'} (exists)\n"
    code, out, _ = llflow(*call, "--json", "--suffix", "_2", "--format", "tiff")
    expected = {"source": str(source), "target": str(tmp_path / "a_2.tif")}
    assert json.loads(out) == expected | {"status": "planned", "reason": None}
    assert files(tmp_path) == ["a.png", "a_bright.png"]


def test_quiet_prints_what_failed(llflow, weights, tmp_path):
    source = picture(tmp_path / "a.png")
    assert llflow("enhance", source, "--weights", weights, "--quiet") == (0, "", "")
    code, out, err = llflow("enhance", source, "--weights", weights, "--quiet")
    assert (code, out) == (1, "")
    assert "exists" in err


def test_depth_format_and_quality(llflow, weights, tmp_path):
    source = picture(tmp_path / "a.png", size=(64, 64))
    call = ("enhance", source, "--weights", weights)
    assert llflow(*call, "--depth", 16, "--suffix", "_16")[0] == 0
    assert read(tmp_path / "a_16.png").bits == 16
    assert llflow(*call, "--depth", "32f", "--format", "TIFF")[0] == 0
    assert read(tmp_path / "a_bright.tif").bits == 32
    for quality in (10, 90):
        options = ("--format", "JPEG", "--quality", quality, "--suffix", f"_{quality}")
        assert llflow(*call, *options)[0] == 0
    assert (tmp_path / "a_10.jpg").stat().st_size < (tmp_path / "a_90.jpg").stat().st_size
    code, _, err = llflow(*call, "-o", tmp_path / "b.jpg", "--depth", 16)
    assert code == 1
    assert err.endswith("JPEG holds 8 bits a channel, and 16 were asked for")
    code, _, err = llflow(*call, "-o", tmp_path / "b.jpg", "--format", "PNG")
    assert code == 2
    assert "exclude each other" in err


def test_every_format_can_be_asked_for():
    from llflow.commands import options
    from llflow.picture.files import FORMATS

    assert tuple(options.FORMATS) == FORMATS


# --- convert ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authors(nano):
    """A checkpoint in the authors' layout, of a network as small as nano."""
    generator = torch.Generator().manual_seed(0)
    shapes = official.layout(nano.config)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_convert(llflow, authors, tmp_path):
    source, out = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save(authors, source)
    code, text, err = llflow("convert", source, out)
    assert (code, err) == (0, "")
    model = checkpoint.load(out)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert text == f"{out}: custom network, {count:,} parameters\n"
    expected = official.convert(authors).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in model.state_dict().items())

    before = out.read_bytes()
    code, _, err = llflow("convert", source, out)
    assert (code, err) == (1, f"llflow: {out} exists (--overwrite replaces it)")
    code, _, err = llflow("convert", source, out, "--overwrite")
    assert code == 2
    assert f"only if --out says so: --out {out}" in err
    code, _, err = llflow("convert", out, "--out", out, "--overwrite")
    assert code == 2
    assert "would replace CHECKPOINT" in err
    assert out.read_bytes() == before
    assert llflow("convert", source, "--out", out, "--overwrite")[0] == 0


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: None, "No such file or directory"),
        (lambda state: {}, "is missing"),
        (lambda state: [1], "expected a dictionary of tensors, got list"),
        (lambda state: state | {"x": Bomb()}, "refused, it holds more than tensors"),
        (lambda state: state | {"x": torch.zeros(1)}, "x is not part of it"),
        (lambda state: state | {"RRDB.conv_first.bias": torch.zeros(3)}, "RRDB.conv_first.bias"),
        (lambda state: state | {"RRDB.conv_first.bias": torch.full((8,), torch.nan)}, "finite"),
        (
            lambda state: state | {"RRDB.RRDB_trunk.999999999.RDB1.conv1.weight": torch.zeros(1)},
            "is missing",
        ),
        (
            lambda state: (
                state | {"RRDB.conv_first.weight": torch.zeros(1).expand(10**9, 12, 3, 3)}
            ),
            "claims to be larger than the file",
        ),
    ],
)
def test_unusable_checkpoints_are_one_line(llflow, authors, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    state = change(authors)
    if state is not None:
        torch.save(state, "theirs.pth")
    code, out, err = llflow("convert", "theirs.pth", "ours.safetensors")
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "ours.safetensors").exists()
    assert not (tmp_path / "executed").exists()


# --- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["enhance"], ["convert"], ["evaluate"], ["compare"], ["train"]]
)
def test_help_has_an_example(llflow, command):
    code, out, err = llflow(*command, "--help")
    assert (code, err) == (0, "")
    _, examples = out.split("example")
    assert f"  {' '.join(['llflow', *command])} " in examples
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "program", [["-m", "llflow"], ["-m", "flowkit", "llflow", "enhance"]], ids=" ".join
)
def test_help_of_the_installed_programs(program):
    result = subprocess.run(
        [sys.executable, *program, "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: llflow")


def run(*program, **options):
    return subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, check=False, **options
    )


HELP_WITHOUT_TORCH = ["", "enhance", "data check", "data split", "evaluate", "compare", "convert"]


@pytest.mark.parametrize("command", HELP_WITHOUT_TORCH)
def test_help_imports_no_torch(command):
    call = f"import sys; from llflow import cli; cli.main({[*command.split(), '--help']})"
    result = run("-c", f"{call}; print('torch' in sys.modules)")
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("llflow en", ["enhance"]),
        ("llflow data s", ["split"]),
        ("llflow enhance --sk", ["--skip-existing"]),
        ("llflow train --device c", ["cpu", "cuda"]),
        ("llflow train --learning", ["--learning-rate"]),
        ("llflow evaluate --weights ti", ["tiny", "tiny440"]),
    ],
)
def test_completion(typed, expected):
    words = typed.split()
    asked = {"_LLFLOW_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    result = run("-m", "llflow", env=os.environ | asked | {"COMP_CWORD": str(len(words) - 1)})
    assert result.stderr == ""
    assert [line.partition(",")[2] for line in result.stdout.splitlines()] == expected


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "theirs.pth", "new.safetensors"]])
def test_a_reader_that_has_gone_is_no_traceback(authors, tmp_path, arguments):
    torch.save(authors, tmp_path / "theirs.pth")
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-m", "llflow", *arguments]
    with os.fdopen(writer, "w") as stdout:
        result = subprocess.run(
            program, cwd=tmp_path, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.LLFlowError("odd"), 1, "odd"),
        (errors.UsageError("odd"), 2, "odd"),
        (PlanError("odd"), 2, "odd"),
        (PictureError("odd"), 1, "odd"),
        (checkpoint.CheckpointError("odd"), 1, "odd"),
        (FileNotFoundError(2, "No such file", "x"), 1, "x: No such file"),
        (OSError("odd"), 1, "odd"),
        (ModuleNotFoundError("odd"), 1, "odd"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("CUDA error\nand more"), 1, "CUDA error"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_whatever_goes_wrong_is_one_line(llflow, tmp_path, monkeypatch, error, code, message):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(checkpoint, "load", fail)
    result = llflow("enhance", picture(tmp_path / "in.png"))
    assert result == (code, "", f"llflow: {message}")
    assert files(tmp_path) == ["in.png"]


def test_a_mistake_in_the_program_keeps_its_traceback(llflow, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "load", lambda *_: [].missing)
    with pytest.raises(AttributeError):
        llflow("enhance", picture(tmp_path / "in.png"))


def test_every_error_of_llflow_is_on_the_ladder():
    for module in pkgutil.walk_packages(package.__path__, "llflow."):
        if module.name == "llflow.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] == "llflow":
                raise
            continue  # it is about a package that isn't here
    raised = [
        value
        for name, module in sys.modules.items()
        if name.startswith("llflow")
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    ours = {kind for kind in raised if kind.__module__.startswith("llflow.")}
    assert {PlanError, PictureError, checkpoint.CheckpointError} <= ours
    assert all(issubclass(kind, errors.LLFlowError) for kind in ours)


# --- what comes from outside -----------------------------------------------------------------


def test_names_can_neither_forge_lines_nor_command_the_terminal(llflow, weights, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a\nllflow: forged.png").write_text("no picture")
    (folder / "\x1b[31mred.png").write_text("no picture")
    code, _, err = llflow("enhance", folder, tmp_path / "out", "--weights", weights)
    assert code == 1
    assert r"a\nllflow: forged.png" in err
    assert "\x1b[31mred" not in err


@pytest.mark.parametrize("arguments", [["enhance", ""], ["enhance", "a.png", ""]])
def test_an_empty_path_is_refused(llflow, arguments):
    code, _, err = llflow(*arguments)
    assert code == 2
    assert "expected a path, got an empty text" in err


def test_singular_weights_are_one_line(llflow, nano, tmp_path):
    singular = copy.deepcopy(nano)
    with torch.no_grad():
        for parameter in singular.parameters():
            parameter.zero_()
    checkpoint.save(singular, tmp_path / "zero.safetensors")
    source, target = picture(tmp_path / "a.png"), tmp_path / "b.png"
    code, _, err = llflow("enhance", source, target, "--weights", tmp_path / "zero.safetensors")
    assert code == 1
    assert "singular" in err
    assert not target.exists()


@pytest.mark.parametrize(
    ("size", "message"),
    [("much", "size such as 800M or 2G"), ("1", "too large"), ("0", "size such as")],
)
def test_memory_that_is_none_or_too_little(llflow, weights, tmp_path, size, message):
    source = picture(tmp_path / "a.png")
    call = ("enhance", source, "--weights", weights, "--max-memory", size)
    code, _, err = llflow(*call)
    assert code in (1, 2)
    assert re.search(message, err)
    assert not (tmp_path / "a_bright.png").exists()
