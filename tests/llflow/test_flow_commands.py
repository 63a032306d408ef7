"""`llflow samples`, `score`, `explain` and `uncertainty`: what users type, also by mistake."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import llflow as package
from llflow.distribution.activation import gradient_norm
from llflow.network import checkpoint
from llflow.picture.files import read, to_pil
from llflow.picture.heat import colored, overlaid, with_bar
from llflow.picture.sheet import contact_sheet, in_stops


def picture(path, size=(40, 24), seed=0, brightest=60):
    levels = np.random.default_rng(seed).integers(0, brightest, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def dark(tmp_path):
    return picture(tmp_path / "dark.png")


# --- drawing ---------------------------------------------------------------------------------


def test_a_sheet_has_every_picture_in_its_place():
    flat = [
        [torch.full((3, 30, 50), (3 * row + column) / 8) for column in range(3)] for row in range(2)
    ]
    sheet = contact_sheet(flat, cell=25)
    assert sheet.size == (8 + 3 * (25 + 8), 8 + 2 * (15 + 8))
    middles = [
        [sheet.getpixel((8 + 33 * column + 12, 8 + 23 * row + 7))[0] for column in range(3)]
        for row in range(2)
    ]
    assert middles == [[0, 32, 64], [96, 128, 159]]
    labelled = contact_sheet(flat, rows=["a", "b"], columns=["x", "y", "z"], cell=25)
    assert labelled.width > sheet.width
    assert labelled.height > sheet.height


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        ([], {}, "at least one picture"),
        ([[torch.zeros(3, 8, 8)], []], {}, "at least one picture"),
        ([[torch.zeros(3, 8, 8)]], {"rows": ["a", "b"]}, "expected 1 labels of rows"),
        ([[torch.zeros(3, 8, 8)]], {"columns": ["a", "b"]}, "expected 1 labels of columns"),
    ],
)
def test_a_sheet_that_can_not_be(pictures, labels, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(pictures, **labels)


def test_stops_in_words():
    labels = [in_stops(stops) for stops in (-1, -0.0, 0.5, 2)]
    assert labels == ["-1 stop", "0 stops", "+0.5 stops", "+2 stops"]


def test_more_is_lighter():
    ramp = torch.linspace(0, 1, 50)[None].expand(4, 50)
    grey = np.asarray(colored(ramp).convert("L"))[0].astype(int)
    assert (np.diff(grey) > 0).all()
    bar = with_bar(colored(ramp.repeat(1, 8)), "title", "0", "1")
    colors = np.asarray(bar.convert("L"))[4 + 8 + 5].astype(int)
    assert colors[9] < 10
    assert colors[390] > 230
    over = overlaid(torch.ones(3, 4, 50), ramp)
    assert over.getpixel((0, 0)) != over.getpixel((49, 0))


# --- samples ---------------------------------------------------------------------------------


def test_samples(llflow, weights, nano, dark, tmp_path):
    sheet, singles = tmp_path / "sheet.jpg", tmp_path / "singles"
    code, said, err = llflow(
        *("samples", dark, sheet, "--samples", 2, "--brightness", "-1,0.5", "--seed", 4),
        *("--save", singles, "--weights", weights, "--precision", "float32"),
    )
    assert (code, err) == (0, "")
    assert said == f"2 samples at 2 brightnesses -> {sheet}, 4 pictures in {singles}\n"
    expected = package.variants(nano.fold(), read(dark).image, [-1, 0.5], samples=2, seed=4)
    for row in range(2):
        for column, stops in enumerate(("-1", "+0.5")):
            found = np.asarray(Image.open(singles / f"dark_{row + 1}_{stops}.png"))
            assert np.array_equal(found, np.asarray(to_pil(expected[row][column])))
    assert Image.open(sheet).format == "JPEG"
    assert len(list(singles.iterdir())) == 4


def test_one_sample_is_the_typical_one(llflow, weights, nano, dark, tmp_path):
    arguments = ("samples", dark, tmp_path / "sheet.png", "--samples", 1, "--brightness", "0")
    more = ("--save", tmp_path, "--weights", weights, "--precision", "float32")
    assert llflow(*arguments, *more)[0] == 0
    expected = package.enhance(nano.fold(), read(dark).image)
    found = np.asarray(Image.open(tmp_path / "dark_1_0.png"))
    assert np.array_equal(found, np.asarray(to_pil(expected)))


# --- score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["bits", "mismatch"])
def test_scores_in_order(llflow, weights, nano, dark, tmp_path, by):
    results = [picture(tmp_path / f"{seed}.png", seed=seed, brightest=256) for seed in range(3)]
    code, said, err = llflow("score", dark, *results, "--by", by, "--weights", weights, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["rank"] for line in lines] == [1, 2, 3]
    assert [line[by] for line in lines] == sorted(line[by] for line in lines)
    images = [read(path).image for path in results]
    found = package.score(nano.fold(), read(dark).image, images)
    by_name = {line["result"]: line for line in lines}
    for path, of in zip(results, found, strict=True):
        assert by_name[str(path)]["bits"] == of.bits
        assert by_name[str(path)]["stops"] is None
    assert lines[0]["weights"] == checkpoint.digest(weights)
    code, said, err = llflow("score", dark, *results, "--by", by, "--weights", weights)
    assert [row.split()[-1] for row in said.splitlines()[1:]] == [line["result"] for line in lines]


# --- explain and uncertainty -----------------------------------------------------------------


def test_explain(llflow, weights, nano, dark, tmp_path):
    out, raw = tmp_path / "map.png", tmp_path / "norm.npy"
    result = picture(tmp_path / "result.png", seed=1, brightest=256)
    code, said, err = llflow(
        "explain", dark, out, "--result", result, "--raw", raw, "--weights", weights
    )
    assert (code, said, err) == (0, f"explained -> {out}\n", "")
    norm = gradient_norm(nano.fold(), read(dark).image, read(result).image)
    np.testing.assert_allclose(np.load(raw), norm.numpy(), rtol=1e-5)
    over = np.asarray(Image.open(out))
    assert llflow("explain", dark, out, "--plain", "--overwrite", "--weights", weights)[0] == 0
    assert not np.array_equal(over, np.asarray(Image.open(out)))


def test_uncertainty(llflow, weights, nano, dark, tmp_path):
    out, raw = tmp_path / "spread.png", tmp_path / "spread.tif"
    more = ("--samples", 3, "--raw", raw, "--weights", weights, "--precision", "float32")
    code, said, err = llflow("uncertainty", dark, out, *more)
    assert (code, err) == (0, "")
    expected = package.uncertainty(nano.fold(), read(dark).image, samples=3)
    assert said == f"differs by {255 * expected.mean():.1f} of 255 on average -> {out}\n"
    found = Image.open(raw)
    assert found.mode == "F"
    np.testing.assert_array_equal(np.asarray(found), expected.numpy())
    assert llflow("uncertainty", dark, out, *more, "--overwrite", "--scale", 1)[0] == 0
    # All are far above one level: the picture is the color of the bar's end.
    assert np.asarray(Image.open(out))[:24].min(axis=(0, 1)).tolist() == [252, 255, 164]


# --- mistakes --------------------------------------------------------------------------------

DRAWS = ("samples", "explain", "uncertainty")


@pytest.mark.parametrize("command", DRAWS)
def test_nothing_is_replaced_unless_told(llflow, weights, dark, tmp_path, command):
    before = dark.read_bytes()
    out = tmp_path / "out.png"
    out.write_bytes(b"mine")
    code, said, err = llflow(command, dark, out, "--weights", weights)
    assert (code, said) == (1, "")
    assert f"{out} exists" in err
    assert out.read_bytes() == b"mine"
    assert llflow(command, dark, out, "--weights", weights, "--overwrite")[0] == 0
    code, said, err = llflow(command, dark, dark, "--weights", weights, "--overwrite")
    assert (code, said) == (2, "")
    assert "would replace a picture that is read" in err
    assert dark.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("samples", "dark.png", "sheet.txt"), "expected a name in .png"),
        (("samples", "none.png", "sheet.png"), "none.png: No such file"),
        (("samples", "bad.png", "sheet.png"), "bad.png: not a picture"),
        (("samples", "dark.png", "s.png", "--brightness", "1,x"), "numbers with commas"),
        (("samples", "dark.png", "s.png", "--brightness", "1,1"), "each number once"),
        (("samples", "dark.png", "s.png", "--brightness", "99"), "from -10 to 10"),
        (("samples", "dark.png", "s.png", "--temperature", "0"), "all samples are the same"),
        (("explain", "dark.png", "map.png", "--raw", "map.png"), "expected a name in .npy"),
        (("explain", "dark.png", "m.png", "--result", "small.png"), "small.png: expected the size"),
        (("uncertainty", "dark.png", "s.png", "--samples", "1"), "1 is not in the range"),
        (("uncertainty", "dark.png", "s.png", "--temperature", "0"), "not in the range"),
        (("samples", "dark.png", "s.png", "--seed", str(2**63)), "whole number of 64 bits"),
        (("uncertainty", "dark.png", "s.png", "--seed", str(2**63)), "whole number of 64 bits"),
        (("score", "dark.png", "dark.png", "--seed", str(-(2**63) - 1)), "number of 64 bits"),
        (("score", "dark.png"), "Missing argument"),
        (("score", "dark.png", "small.png"), "small.png: expected the size of dark.png, 40×24"),
        (("score", "dark.png", "bad.png"), "bad.png: not a picture"),
        (("score", "dark.png", "dark.png", "--by", "luck"), "luck"),
    ],
)
def test_what_is_wrong_is_one_line(
    llflow, weights, dark, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"text")
    picture(tmp_path / "small.png", (8, 8))
    before = sorted(tmp_path.iterdir())
    code, said, err = llflow(*arguments, "--weights", weights)
    assert (code in (1, 2), said, len(err.splitlines())) == (True, "", 1), err
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


COMMANDS = [*DRAWS, "score", "vote", "vote page", "vote count"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(llflow, command):
    code, said, err = llflow(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert f"  llflow {command} " in said.split("example")[-1]
    assert max(map(len, said.splitlines())) <= 80


def test_help_imports_no_torch():
    calls = [[*command.split(), "--help"] for command in COMMANDS]
    code = f"import sys; from llflow import cli; [cli.main(call) for call in {calls}]"
    program = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "False"
