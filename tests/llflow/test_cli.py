"""The command line: what users type, also by mistake, and what they get."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from llflow.enhancement import enhance
from llflow.network import checkpoint, official
from llflow.picture import files as picture_files


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


def bright_of(model, source, **options):
    return np.asarray(
        picture_files.to_pil(enhance(model, picture_files.read(source).image, **options))
    )


# --- enhance ---------------------------------------------------------------------------------


def test_one_picture(llflow, weights, nano, tmp_path):
    source = picture(tmp_path / "dark.png")
    before = source.read_bytes()
    code, out, err = llflow("enhance", source, tmp_path / "bright.png", "--weights", weights)
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
        ("I;16", ".png", "L"),
        ("CMYK", ".jpg", "RGB"),
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


def test_an_existing_result_stays_unless_told(llflow, weights, tmp_path):
    source, out = picture(tmp_path / "in.png"), picture(tmp_path / "out.png", seed=1)
    before = out.read_bytes()
    code, _, err = llflow("enhance", source, out, "--weights", weights)
    assert code == 1
    assert err == f"llflow enhance: {source}: {out} exists (--overwrite or --skip-existing)"
    assert out.read_bytes() == before
    assert llflow("enhance", source, out, "--weights", weights, "--overwrite")[0] == 0
    assert out.read_bytes() != before


def test_a_bad_file_is_named_and_the_rest_goes_on(llflow, weights, tmp_path):
    good = picture(tmp_path / "in" / "a.png"), picture(tmp_path / "in" / "z.png")
    (tmp_path / "in" / "note.txt").write_text("hello")
    short = picture(tmp_path / "in" / "short.jpg", size=(64, 64)).read_bytes()
    (tmp_path / "in" / "short.jpg").write_bytes(short[: len(short) // 2])
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in" / "loop.png")
    code, out, err = llflow("enhance", tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert code == 1
    assert out == "2 enhanced, 3 failed\n"
    named = [line.split(": ")[1] for line in err.splitlines()]
    assert named == [str(tmp_path / "in" / name) for name in ("loop.png", "note.txt", "short.jpg")]
    assert files(tmp_path / "out") == [path.name for path in good]


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
    assert err.endswith("in.png: too large: 10×10 pixels, the limit is 99 in all")


def test_ctrl_c_leaves_whole_files(llflow, weights, tmp_path, monkeypatch):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    replaced, replace = [], os.replace

    def stop_at_the_second(*names):
        replaced.append(names)
        if len(replaced) == 2:
            raise KeyboardInterrupt
        replace(*names)

    monkeypatch.setattr(os, "replace", stop_at_the_second)
    code, _, err = llflow("enhance", a, b, tmp_path / "out", "--weights", weights)
    assert (code, err) == (130, "llflow enhance: interrupted")
    assert files(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["enhence"], "invalid choice: 'enhence'"),
        (["enhance"], "the following arguments are required: PATH"),
        (["enhance", "in.png", "--out", "x.png"], "unrecognized arguments: --out x.png"),
        (["enhance", "in.png", "--samples", "0"], "expected a whole number from 1, got '0'"),
        (["enhance", "in.png", "--samples", "1.5"], "expected a whole number from 1, got '1.5'"),
        (["enhance", "in.png", "--temperature", "-1"], "expected a number from 0, got '-1'"),
        (["enhance", "in.png", "--temperature", "nan"], "expected a number from 0, got 'nan'"),
        (["enhance", "in.png", "--temperature", "inf"], "expected a number from 0, got 'inf'"),
        (["enhance", "in.png", "--temperature", "warm"], "expected a number from 0, got 'warm'"),
        (["enhance", "in.png", "--max-pixels", "0"], "expected a whole number from 1, got '0'"),
        (["enhance", "in.png", "--seed", "x"], "invalid int value: 'x'"),
        (["enhance", "in.png", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["enhance", "in.png", "--overwrite", "--skip-existing"], "not allowed with argument"),
        (["enhance", "in.png", "--samples", "2", "--temperature", "0"], "all samples are the same"),
        (["enhance", "nothing.png"], "nothing.png: no such file or folder"),
        (["enhance", "in.png", "out.gif"], "out.gif: expected a name in .png"),
        (["enhance", "in.png", "in.png"], "would replace an input"),
        (["enhance", "in.png", "in.png", "new.png"], "several results need a folder as OUT"),
        (["convert", "in.pth"], "the following arguments are required: OUT"),
        (["convert", "in.pth", "out.pth"], "expected OUT to end in .safetensors, got out.pth"),
        (["evaluate"], "one of the arguments --data --outputs is required"),
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
    assert err == "llflow enhance: --device cuda: PyTorch sees no CUDA device here"
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
    assert err.startswith(f"llflow enhance: {bad}: ")
    assert not (tmp_path / "in_bright.png").exists()


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
    assert (code, err) == (1, f"llflow convert: {out} exists (--overwrite replaces it)")
    assert out.read_bytes() == before
    assert llflow("convert", source, out, "--overwrite")[0] == 0


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


@pytest.mark.parametrize("command", [[], ["enhance"], ["convert"], ["evaluate"], ["train"]])
def test_help_has_an_example(llflow, command):
    code, out, err = llflow(*command, "--help")
    assert (code, err) == (0, "")
    _, examples = out.split("example")
    assert f"  {' '.join(['llflow', *command])} " in examples
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "program", [["-m", "llflow"], ["-m", "flowkit.cli", "llflow", "enhance"]], ids=" ".join
)
def test_help_of_the_installed_programs(program):
    result = subprocess.run(
        [sys.executable, *program, "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("usage: llflow")


# --- what comes from outside -----------------------------------------------------------------


def test_names_can_neither_forge_lines_nor_command_the_terminal(llflow, weights, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a\nllflow enhance: forged.png").write_text("no picture")
    (folder / "\x1b[31mred.png").write_text("no picture")
    code, _, err = llflow("enhance", folder, tmp_path / "out", "--weights", weights)
    assert code == 1
    assert r"a\nllflow enhance: forged.png" in err
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
