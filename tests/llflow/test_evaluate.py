"""What is scored is what would be written, means and intervals are over pictures or scenes."""

import csv
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from llflow import data
from llflow.enhancement import NotFinite, draw, enhance
from llflow.evaluation.conventions import conventions
from llflow.evaluation.evaluate import (
    Scores,
    check,
    enhanced,
    made,
    pair_outputs,
    score,
    validation_psnr,
)
from llflow.evaluation.intervals import bootstrap
from llflow.evaluation.metrics import eight_bit, gt_mean_llflow, psnr, ssim
from llflow.evaluation.perceptual import NETS
from llflow.evaluation.report import interval_in_words, summary, table, write_csv, write_json
from llflow.picture.files import Picture, read, to_pil
from llflow.picture.files import write as write_picture

ROWS = conventions()
RAW_PSNR, RAW_SSIM = ([c.key for c in ROWS].index(key) for key in ("raw_psnr", "raw_ssim"))


# --- pictures ----------------------------------------------------------------------------------


def written(image):
    return torch.from_numpy(np.asarray(to_pil(image)).copy()).permute(2, 0, 1) / 255


def test_raw_scores_are_those_of_written_pictures(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:3]
    scores = score(enhanced({"nano": nano}, files), ROWS)
    assert list(scores.values) == ["input", "histogram equalisation", "nano"]
    assert scores.pictures == [pair.name for pair in files]
    for index, pair in enumerate(files):
        dark, bright = read(pair.dark).image, read(pair.bright).image
        result = written(enhance(nano.fold(), dark))
        expected = [psnr(result, bright), ssim(result, bright)]
        # Sums may be taken in another order.
        assert scores.values["nano"][index, [RAW_PSNR, RAW_SSIM]] == pytest.approx(
            expected, abs=1e-6
        )
        assert scores.values["input"][index, RAW_PSNR] == pytest.approx(psnr(dark, bright))
    means = summary(scores, scores.pictures)
    assert means["nano"][0, RAW_PSNR] == pytest.approx(scores.values["nano"][:, RAW_PSNR].mean())


def test_the_released_gt_mean_sees_the_picture_before_it_is_clamped(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:1]
    (scene,) = enhanced({"nano": nano}, files)
    (unclamped,) = draw(nano.fold(), read(files[0].dark).image, temperature=0)
    assert unclamped.min() < 0 or unclamped.max() > 1
    assert torch.equal(scene.pictures["nano"], unclamped)
    (row,) = [c for c in ROWS if c.key == "gt_mean_llflow_psnr"]
    expected = psnr(gt_mean_llflow(unclamped, scene.reference), scene.reference)
    assert row(scene.pictures["nano"], scene.reference) == expected


def test_samples_are_scored_as_enhance_makes_them(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:1]
    options = {"temperature": 0.5, "samples": 3, "seed": 7}
    (scene,) = enhanced({"nano": nano}, files, **options)
    expected = enhance(nano.fold(), read(files[0].dark).image, **options)
    assert torch.equal(scene.pictures["nano"].clamp(0, 1), expected)
    (other,) = enhanced({"nano": nano}, files, **options | {"seed": 8})
    assert not torch.equal(scene.pictures["nano"], other.pictures["nano"])


def test_an_overflow_names_picture_and_model(nano, pairs_folder, monkeypatch):
    def overflow(*args, **options):
        raise NotFinite("overflow")

    monkeypatch.setattr("llflow.evaluation.evaluate.unclipped", overflow)
    with pytest.raises(NotFinite, match="0 by nano: overflow"):
        list(enhanced({"nano": nano}, data.find_pairs(pairs_folder)))


def test_validation_is_the_models_raw_psnr(nano, pairs_folder):
    files = data.find_pairs(pairs_folder)[:2]
    scores = score(enhanced({"nano": nano}, files), ROWS)
    expected = scores.values["nano"][:, RAW_PSNR].mean()
    assert validation_psnr(nano, files) == pytest.approx(expected, abs=1e-9)


def test_validation_of_a_model_that_overflows(nano, pairs_folder, monkeypatch):
    def overflow(*args, **options):
        raise NotFinite("overflow")

    monkeypatch.setattr("llflow.evaluation.evaluate.enhance", overflow)
    assert validation_psnr(nano, data.find_pairs(pairs_folder)) == -math.inf


# --- anybody's pictures ------------------------------------------------------------------------


def write(path, image):
    write_picture(path, Picture(image))


@pytest.fixture
def folders(tmp_path):
    """Two pictures a.png, b.png and their references a.bmp, b.bmp."""
    torch.manual_seed(0)
    for name in "ab":
        reference = torch.rand(3, 20, 30)
        write(tmp_path / "reference" / f"{name}.bmp", reference)
        write(tmp_path / "outputs" / f"{name}.png", (reference + 0.1).clamp(0, 1))
    return tmp_path / "outputs", tmp_path / "reference"


def test_outputs_by_equal_names(folders):
    files = pair_outputs(*folders)
    assert [pair.name for pair in files] == ["a", "b"]
    scores = score(made(files, "theirs"), ROWS)
    image = read(folders[0] / "a.png").image
    reference = read(folders[1] / "a.bmp").image
    assert scores.values["theirs"][0].tolist() == [row(image, reference) for row in ROWS]
    assert scores.values["theirs"][0, RAW_PSNR] == psnr(image, reference)


def test_outputs_of_some_names(folders):
    write(folders[0] / "c.png", torch.rand(3, 4, 4))
    (pair,) = pair_outputs(*folders, names=["b"])
    assert pair.name == "b"
    with pytest.raises(data.DataError, match="c"):
        pair_outputs(*folders, names=["b", "c"])
    with pytest.raises(data.DataError, match="d"):
        pair_outputs(*folders, names=["b", "d"])


@pytest.mark.parametrize("side", [0, 1])
def test_files_without_a_partner_are_named(folders, side):
    for index in range(12):
        write(folders[side] / f"alone{index:02}.png", torch.rand(3, 4, 4))
    other = folders[1 - side]
    with pytest.raises(data.DataError) as error:
        pair_outputs(*folders)
    named = ", ".join(f"alone{index:02}.png" for index in range(10))
    assert str(error.value) == f"{other}: no picture of the same name for {named}, and 2 more"


@pytest.mark.parametrize("side", [0, 1])
def test_no_folder_or_an_empty_one(folders, tmp_path, side):
    for folder in (tmp_path / "nothing", tmp_path / "empty"):
        given = list(folders)
        given[side] = folder
        with pytest.raises(data.DataError, match=f"{folder}: expected a folder of pictures"):
            pair_outputs(*given)
        (tmp_path / "empty").mkdir(exist_ok=True)


def test_all_bad_pictures_are_known_at_once(folders):
    outputs, reference = folders
    write(outputs / "a.png", torch.rand(3, 10, 15))
    (reference / "b.bmp").write_bytes(b"text")
    with pytest.raises(data.DataError) as error:
        check(pair_outputs(*folders))
    first, second = str(error.value).split("; ")
    assert first == f"{outputs / 'a.png'} is 15×10, its reference 30×20"
    assert second.startswith(f"{reference / 'b.bmp'}: not a picture")


def test_good_pictures_pass_the_check(folders):
    check(pair_outputs(*folders))


# --- intervals ---------------------------------------------------------------------------------


def test_intervals_are_those_of_scenes_drawn_by_hand():
    """Scenes of 1 to 4 pictures, as often as a multinomial says."""
    rng = np.random.default_rng(0)
    scenes = rng.integers(20, size=50)
    values = rng.gamma(2, size=(50, 2)) + scenes[:, None] / 10
    ours = bootstrap(values, scenes.tolist())
    present = np.unique(scenes)
    times = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), 20_000)
    weights = times[:, np.searchsorted(present, scenes)]
    means = weights @ values / weights.sum(1, keepdims=True)
    expected = np.quantile(means, [0.025, 0.975], axis=0)
    # Two sets of draws: a 2.5 % quantile of 10,000 is known to about 2 % of the interval's width.
    assert ours == pytest.approx(expected, abs=0.03 * np.ptp(ours, axis=0).max())


def test_without_scipy_it_says_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "scipy.stats", raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ModuleNotFoundError, match=r"^scipy isn't installed: pip install 'flowkit"):
        bootstrap(np.zeros((3, 1)), [0, 1, 2])


def test_intervals_are_the_same_each_time_and_hold_the_mean():
    values = np.random.default_rng(0).random((30, 3))
    low, high = bootstrap(values, list(range(30)))
    assert (low < values.mean(0)).all()
    assert (values.mean(0) < high).all()
    assert np.array_equal(bootstrap(values, list(range(30))), [low, high])
    assert not np.array_equal(bootstrap(values, list(range(30)), seed=1), [low, high])


def test_copies_of_a_picture_say_nothing_new():
    """Of one scene, they leave the interval; taken for pictures of their own, they narrow it."""
    values = np.random.default_rng(0).random((20, 1))
    scenes = list(range(20))
    alone = bootstrap(values, scenes)
    assert bootstrap(np.tile(values, (4, 1)), scenes * 4) == pytest.approx(alone, abs=1e-12)
    narrowed = np.ptp(bootstrap(np.tile(values, (4, 1)), list(range(80))))
    assert narrowed == pytest.approx(np.ptp(alone) / 2, rel=0.05)  # √4; the draws are random


def test_scenes_count_by_their_pictures():
    """A large scene moves the mean more: 9 ones and a zero lie between 0 and 1 as whole scenes."""
    values = np.array([[1.0]] * 9 + [[0.0]])
    low, high = bootstrap(values, ["large"] * 9 + ["small"])
    assert (low, high) == (0, 1)
    both = 0.9  # of the draws half have both scenes once
    middle = bootstrap(np.array([[1.0]] * 9 + [[both]]), ["large"] * 9 + ["small"])
    assert middle.ravel() == pytest.approx([both, 1])


def test_what_has_no_interval():
    values = np.array([[1, math.inf, math.nan], [2, 1, 1], [3, 1, 1]])
    ends = bootstrap(values, [0, 1, 2])
    assert np.isfinite(ends[:, 0]).all()
    assert np.isnan(ends[:, 1:]).all()
    assert np.isnan(bootstrap(values[:, :1], ["one"] * 3)).all()


# --- reports -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fixed:
    """LPIPS that is known beforehand."""

    value: float

    def __call__(self, image, reference):
        return self.value


NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def scores():
    rows = conventions({"alex": Fixed(0.5), "squeeze": Fixed(0.25)})
    rng = np.random.default_rng(0)
    values = {method: rng.random((4, len(rows))) for method in ("input", "mine")}
    values["mine"][2, 0] = math.inf
    values["mine"][1, 1] = math.nan
    return Scores(NAMES, rows, values)


def test_conventions_have_names_of_their_own():
    rows = conventions({net: Fixed(0.5) for net in ("squeeze", "alex", "vgg")})
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert [key for key in keys if "lpips" in key] == [
        "raw_lpips_squeeze",
        "raw_lpips_alex",
        "raw_lpips_vgg",
        "gt_mean_grey_lpips_alex",
        "gt_mean_llflow_lpips_alex",
    ]


def test_conventions_are_what_their_names_say():
    for row in ROWS:
        assert row.key == f"{row.adjustment.adjust.__name__}_{row.function.__name__}"


def test_the_documentation_has_all_of_them():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    for row in conventions({net: Fixed(0.5) for net in NETS}):
        assert f"| `{row.adjustment.key}` |" in text
        assert re.search(rf"^\| .*`{row.measure}`.* \|", text, re.MULTILINE)
        assert f"| {row.title} " in text or row.measure == "lpips_vgg"


def rows_of(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_table(scores):
    text = table(scores, NAMES)
    assert max(map(len, text.splitlines())) <= 100
    assert len({len(line) for line in text.splitlines()}) == 1
    header, _, *rows = rows_of(text)
    assert header == ["", "input", "mine"]
    headings = [row[0] for row in rows if row[0].startswith("*")]
    assert headings == ["**raw**", "**GT-mean, grey/grey**", "**GT-mean, LLFlow's**"]
    figures = [row for row in rows if not row[0].startswith("*")]
    assert [row[0] for row in figures] == [row.title for row in scores.conventions]
    means = summary(scores, NAMES)["input"]
    mean, low, high = means[:, 0]
    assert figures[0] == ["PSNR (dB)", f"{mean:.2f} [{low:.2f}, {high:.2f}]", "inf"]
    mean, low, high = means[:, 1]
    assert figures[1] == ["SSIM, RGB", f"{mean:.4f} [{low:.3f}, {high:.3f}]", "-"]


def test_many_methods_go_into_several_tables(scores):
    names = ["input", *(f"runs/a long name {i}/best.safetensors" for i in range(4)), "a|b"]
    many = Scores(NAMES, scores.conventions, dict.fromkeys(names, scores.values["input"]))
    tables = table(many, NAMES).split("\n\n")
    assert len(tables) > 1
    assert all(max(map(len, part.splitlines())) <= 100 for part in tables)
    headers = [name for part in tables for name in rows_of(part.replace("\\|", "/"))[0][1:]]
    assert headers == [*names[:-1], "a/b"]


def test_the_words_say_what_was_drawn():
    assert "drawing 4 pictures one by one, as if no two were of one scene" in interval_in_words(
        NAMES
    )
    assert "drawing 2 scenes of 4 pictures" in interval_in_words([1, 1, 2, 2])


def test_csv(scores, tmp_path):
    scores = Scores(["a", "b", 'with ",', "not\udcffunicode"], scores.conventions, scores.values)
    write_csv(tmp_path / "new" / "each.csv", scores)
    with (tmp_path / "new" / "each.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["picture"] for line in lines] == ["a", "b", 'with ",', "not\\udcffunicode"] * 2
    assert [line["method"] for line in lines] == ["input"] * 4 + ["mine"] * 4
    for row, line in zip(scores.values["mine"], lines[4:], strict=True):
        figures = [float(line[c.key]) for c in scores.conventions]
        assert np.array_equal(figures, row, equal_nan=True)


def test_json(scores, tmp_path):
    write_json(tmp_path / "all.json", scores, ["x", "x", "y", "z"], {"split": "tiny"})
    record = json.loads((tmp_path / "all.json").read_text())
    assert record["split"] == "tiny"
    means = summary(scores, ["x", "x", "y", "z"])["input"]
    for row, (mean, low, high) in zip(scores.conventions, means.T.tolist(), strict=True):
        assert record["means"]["input"][row.key] == {"mean": mean, "interval": [low, high]}
        assert record["protocol"]["measures"][row.measure] == row.definition
        assert row.key.startswith(tuple(record["protocol"]["adjustments"]))
    assert record["means"]["mine"]["raw_psnr"] == {"mean": "inf", "interval": [None, None]}
    assert record["pictures"]["mine"]["c"]["raw_psnr"] == "inf"
    assert record["pictures"]["mine"]["b"]["raw_ssim"] is None
    assert record["pictures"]["mine"]["d"]["raw_psnr"] == scores.values["mine"][3, 0]
    assert "3 scenes of 4 pictures" in record["protocol"]["interval"]
    assert "0.299 R + 0.587 G + 0.114 B" in record["protocol"]["grey"]


def test_eight_bit_is_what_outputs_are_scored_in(folders):
    (scene, _) = made(pair_outputs(*folders), "theirs")
    assert torch.equal(scene.reference, eight_bit(scene.reference))
