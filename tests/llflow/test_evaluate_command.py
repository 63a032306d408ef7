"""`llflow evaluate` and `llflow compare` as typed, also by mistake, and what they leave."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

from llflow.commands import scoring
from llflow.enhancement import enhance
from llflow.evaluation import perceptual
from llflow.evaluation.perceptual import Unavailable
from llflow.picture.files import Picture, read, to_pil, write


@pytest.fixture
def score(llflow):
    """Run a command, without LPIPS unless asked for it."""

    def call(*argv):
        return llflow(*argv, *([] if "--lpips" in argv else ["--no-lpips"]))

    return call


@pytest.fixture
def evaluate(score):
    return partial(score, "evaluate")


@pytest.fixture
def compare(score):
    return partial(score, "compare")


TINY = ["--data", "pairs", "--weights", "tiny"]


def columns(out):
    """The table's figures by method and row, without intervals; rows by their order."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in out.splitlines()
        if line.startswith("|")
    ]
    header, _, *rows = rows
    rows = [row for row in rows if not row[0].startswith("*")]
    return {
        method: [row[index].partition(" ")[0] for row in rows]
        for index, method in enumerate(header)
        if method
    }


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_weights(evaluate, weights, pairs_folder, monkeypatch):
    monkeypatch.chdir(weights.parent)
    code, out, err = evaluate("--data", pairs_folder, "--weights", weights.name)
    assert (code, err) == (0, "")
    assert out.startswith(f"6 pictures of {pairs_folder}\n")
    assert list(columns(out)) == ["input", "histogram equalisation", weights.name]
    assert "6 pictures one by one" in out


def test_split_and_scenes(evaluate, weights, pairs_folder, tmp_path):
    (tmp_path / "split.json").write_text('{"training": ["0"], "validation": ["1", "2", "3"]}')
    (tmp_path / "scenes.json").write_text('{"clusters": [["1", "3"], ["0", "4"]]}')
    given = ["--data", pairs_folder, "--weights", weights, "--split", tmp_path / "split.json"]
    code, out, _ = evaluate(*given, "--scenes", tmp_path / "scenes.json")
    assert code == 0
    assert out.startswith("3 pictures of ")
    assert f"held out by {tmp_path / 'split.json'}" in out
    assert "drawing 2 scenes of 3 pictures" in out


def test_what_is_written(evaluate, weights, nano, pairs_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(weights, "mine.safetensors")
    code, out, err = evaluate(
        *("--data", "pairs", "--weights", "mine.safetensors"),
        *("--temperature", "0.3", "--samples", "2", "--seed", "5"),
        *("--csv", "out/each.csv", "--json", "out/all.json", "--save", "out/saved"),
    )
    assert (code, err) == (0, "")
    pictures = [f"saved/mine/{index}.png" for index in range(6)]
    assert files(tmp_path / "out") == ["all.json", "each.csv", *pictures]
    dark = read(pairs_folder / "low" / "3.png").image
    expected = to_pil(enhance(nano.fold(), dark, temperature=0.3, samples=2, seed=5))
    saved = np.asarray(Image.open(tmp_path / "out" / "saved" / "mine" / "3.png"))
    assert np.array_equal(saved, np.asarray(expected))

    record = json.loads((tmp_path / "out" / "all.json").read_text())
    settings = {name: record[name] for name in ("data", "temperature", "samples", "seed", "device")}
    assert settings == {
        "data": "pairs",
        "temperature": 0.3,
        "samples": 2,
        "seed": 5,
        "device": "cpu",
    }
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["weights"] == {"mine.safetensors": {"file": "mine.safetensors", "sha256": digest}}
    assert {"flowkit", "torch", "numpy", "pillow", "kornia", "scipy"} == set(record["versions"])
    assert record["lpips"] == {}
    with (tmp_path / "out" / "each.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        kept = record["pictures"][line["method"]][line["picture"]]
        assert float(line["raw_psnr"]) == kept["raw_psnr"]
    method = columns(out)["mine.safetensors"]
    values = [float(line["raw_psnr"]) for line in lines if line["method"] == "mine.safetensors"]
    assert method[0] == f"{np.mean(values):.2f}"
    mean = record["means"]["mine.safetensors"]["raw_psnr"]["mean"]
    assert mean == pytest.approx(np.mean(values))


def test_saved_pictures_score_as_the_weights_do(evaluate, compare, weights, pairs_folder, tmp_path):
    save = tmp_path / "saved"
    name = "weights"
    shutil.copy(weights, tmp_path / "weights.safetensors")
    record, again = tmp_path / "a.json", tmp_path / "b.json"
    file = tmp_path / "weights.safetensors"
    evaluate("--data", pairs_folder, "--weights", file, "--save", save, "--json", record)
    (folder,) = save.iterdir()
    assert folder.name.endswith(f"_{name}")
    code, out, err = compare(folder, pairs_folder / "high", "--json", again)
    assert (code, err) == (0, "")
    assert out.startswith(f"6 pictures of {folder}\n")
    (theirs,) = json.loads(again.read_text())["pictures"].values()
    ours = json.loads(record.read_text())["pictures"][str(file)]
    assert theirs.keys() == ours.keys()
    for picture in ours:
        # LLFlow's GT-mean is of the network's output itself, the rest of the 8 bits in the file.
        keys = [key for key in ours[picture] if not key.startswith("gt_mean_llflow")]
        assert [theirs[picture][key] for key in keys] == pytest.approx(
            [ours[picture][key] for key in keys], abs=1e-6
        )


def test_finished_files_stay(evaluate, weights, pairs_folder, tmp_path):
    given = ["--data", pairs_folder, "--weights", weights]
    for option, path, existing in [
        ("--csv", tmp_path / "a.csv", tmp_path / "a.csv"),
        ("--json", tmp_path / "a.json", tmp_path / "a.json"),
        ("--save", tmp_path / "s", None),
    ]:
        if existing:
            existing.write_text("mine")
        else:
            assert evaluate(*given, "--save", path)[0] == 0
            existing = next(path.rglob("0.png"))
            existing.write_text("mine")
        code, out, err = evaluate(*given, option, path)
        assert (code, out) == (1, "")
        assert err == f"llflow: {existing} exists (--overwrite replaces it)"
        assert existing.read_text() == "mine"
        assert evaluate(*given, option, path, "--overwrite")[0] == 0
        assert existing.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ([], "Missing option '--data'", 2),
        (["pairs"], "Missing option '--data'", 2),
        (["--data", "pairs", "pairs/high"], "unexpected extra argument (pairs/high)", 2),
        ([*TINY, *TINY], "--weights names tiny twice", 2),
        (["--data", "pairs", "--samples", "2", "--temperature", "0"], "samples are the same", 2),
        (["--data", "pairs", "--csv", "a", "--json", "a"], "would write one file", 2),
        (["--data", "pairs", "--csv", "a", "--json", "pairs/../a"], "would write one file", 2),
        (["--data", "pairs", "--csv", "pairs/low/0.png"], "replace a picture that is scored", 2),
        ([*TINY, "--save", "saved", "--overwrite"], "replace a picture that is scored", 2),
        ([*TINY, "--save", "pairs/low"], "would be among the pictures that are scored", 2),
        (["--data", "pairs", "--csv", "/proc/x.csv"], "/proc: ", 1),
        (["--data", "pairs", "--lpips", "resnet"], "'resnet' is not one of 'alex', 'vgg', 's", 2),
        (["--data", "pairs", "--lpips", "vgg", "--no-lpips"], "exclude each other", 2),
        (["--data", "pairs", "--lpips-trunk", "alex"], "expected NET=FILE with NET among", 2),
        (["--data", "pairs", "--lpips-trunk", "alex="], "expected NET=FILE with NET among", 2),
        (["--data", "pairs", "--lpips-trunk", "vgg=f"], "--lpips doesn't name vgg", 2),
        (["--data", "nowhere"], "nowhere: expected pictures in both", 1),
        (["--data", "pairs", "--weights", "huge"], "huge: no such file, nor shipped weights", 1),
        (["--data", "pairs", "--split", "no.json"], "no.json: expected a split.json", 1),
        (["--data", "pairs", "--split", "tiny"], "tiny: holds out no pictures", 1),
        (["--data", "pairs", "--split", "tiny440"], "tiny was trained on what tiny440 held", 2),
        ([*TINY, "--split", "tiny440"], "--weights tiny440 can", 2),
        (["--data", "pairs", "--split", "empty.json"], "empty.json: holds out no pictures", 1),
        (["--data", "pairs", "--scenes", "no.json"], "no.json: No such file", 1),
        (["--data", "pairs", "--scenes", "empty.json"], "empty.json: expected JSON like", 1),
        (["--data", "pairs", "--csv", "pairs"], "pairs: is a folder", 1),
        (["--data", "pairs", "--json", "empty.json/a.json"], "empty.json", 1),
    ],
)
def test_wrong_usage_is_one_line(evaluate, pairs_folder, monkeypatch, arguments, message, code):
    monkeypatch.chdir(pairs_folder.parent)
    pairs_folder.with_name("empty.json").write_text('{"training": ["0"], "validation": []}')
    pairs_folder.with_name("saved").mkdir()
    pairs_folder.with_name("saved").joinpath("tiny").symlink_to(pairs_folder / "high")
    before = files(pairs_folder.parent)
    result, out, err = evaluate(*arguments)
    assert (result, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("llflow: ")
    assert files(pairs_folder.parent) == before


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ([], "Missing argument 'OUTPUTS'", 2),
        (["pairs/low"], "Missing argument 'REFERENCE'", 2),
        (["pairs/low", "pairs/high", "--weights", "tiny"], "No such option", 2),
        (["pairs/low", "pairs/high", "--csv", "pairs/low/0.png"], "picture that is scored", 2),
        (["nowhere", "pairs/high"], "nowhere: expected a folder", 1),
        (["pairs/low", "few"], "few: no picture of the same name", 1),
        (["pairs/low", "pairs/high", "--split", "no.json"], "no.json: expected a split.json", 1),
    ],
)
def test_wrong_usage_of_compare_is_one_line(
    compare, pairs_folder, monkeypatch, arguments, message, code
):
    monkeypatch.chdir(pairs_folder.parent)
    pairs_folder.with_name("few").mkdir()
    shutil.copy(pairs_folder / "high" / "1.png", pairs_folder.with_name("few"))
    before = files(pairs_folder.parent)
    result, out, err = compare(*arguments)
    assert (result, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("llflow: ")
    assert files(pairs_folder.parent) == before


@pytest.mark.parametrize("content", [b"text", b"", None])
def test_a_bad_picture_is_named_before_the_work(evaluate, weights, pairs_folder, content):
    bad = pairs_folder / "high" / "3.png"
    if content is None:
        write(bad, Picture(read(bad).image[:, :-1]))
    else:
        bad.write_bytes(content)
    code, out, err = evaluate("--data", pairs_folder, "--weights", weights)
    assert (code, out) == (1, "")
    assert "high/3.png" in err if content is not None else "low/3.png is 48×40, its ref" in err
    assert len(err.splitlines()) == 1


def test_figures_need_lpips_only_where_it_is_asked_for():
    code = "import sys, llflow.evaluation.perceptual, llflow.evaluation.report; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "llflow.evaluation.perceptual" in modules.split()
    assert not {"lpips", "torchvision"} & set(modules.split())


def test_the_command_line_knows_the_networks():
    assert scoring.NETS == perceptual.NETS


# --- LPIPS -------------------------------------------------------------------------------------


class Fixed:
    def __init__(self, net, trunk, device):
        self.trunk, self.sha256 = trunk, "digest"
        if trunk is None:
            raise Unavailable(f"no trunk of {net}")

    def __call__(self, image, reference):
        return 0.25


def test_lpips_where_there_is_a_trunk(compare, weights, pairs_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "Perceptual", Fixed)
    code, out, err = compare(
        *(pairs_folder / "low", pairs_folder / "high", "--lpips", "alex", "--lpips", "squeeze"),
        *("--lpips-trunk", f"squeeze={tmp_path / 'trunk.pth'}"),
        *("--json", tmp_path / "all.json"),
    )
    assert code == 0
    assert err == "llflow: LPIPS (alex) skipped: no trunk of alex"
    assert "LPIPS, squeeze" in out
    assert "LPIPS, alex" not in out
    record = json.loads((tmp_path / "all.json").read_text())
    assert record["lpips"] == {
        "squeeze": {"trunk": "trunk.pth", "sha256": "digest"},
        "alex": {"skipped": "no trunk of alex"},
    }
    assert record["versions"]["lpips"]
    assert "weights" not in record
    assert record["reference"] == str(pairs_folder / "high")


def test_a_trunk_that_is_none_is_one_line(compare, pairs_folder, tmp_path):
    (tmp_path / "trunk.pth").write_bytes(b"text")
    code, out, err = compare(
        *(pairs_folder / "low", pairs_folder / "high"),
        *("--lpips", "squeeze", "--lpips-trunk", f"squeeze={tmp_path / 'trunk.pth'}"),
    )
    assert (code, out) == (1, "")
    assert err.startswith(f"llflow: {tmp_path / 'trunk.pth'}: expected tensors by name")
    assert len(err.splitlines()) == 1
