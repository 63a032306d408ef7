"""The paper's experiments measure what they say, on a tiny random network."""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import calibration
import document
import experiment
import figure6
import figure8
import numpy as np
import pytest
import ranking
import table4
import table5
import table6
import torch
import trainings

from llflow import data, enhance
from llflow.evaluation.metrics import eight_bit, psnr
from llflow.network import checkpoint
from llflow.network.model import SIZES
from llflow.network.prior import squeeze_map
from llflow.picture import preprocess, retinex
from llflow.picture.files import Picture, read, write
from llflow.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
OF_WEIGHTS = (table4, figure6, figure8, ranking, calibration)
EXPERIMENTS = (*OF_WEIGHTS, table5, table6)
ROWS = (*table5.ROWS, *table6.ROWS)


@pytest.fixture
def experience(pairs_folder, weights, tmp_path, capsys):
    """Run an experiment on the six scenes; its record, and what it printed."""

    def go(module, *options):
        out = tmp_path / "results"
        argv = ["--data", str(pairs_folder), "--out", str(out), "--device", "cpu", *options]
        if module in OF_WEIGHTS:
            argv += ["--weights", str(weights)]
        code = module.main(argv)
        printed = capsys.readouterr()
        assert code == 0, printed.err
        assert read(out / f"{module.__name__}.png").image.shape[0] == 3
        record = json.loads((out / f"{module.__name__}.json").read_text())
        assert record["table"] in printed.out
        return record

    return go


@pytest.fixture
def pair(pairs_folder):
    return data.read_pair(data.find_pairs(pairs_folder)[0])


def pictures_of(pair):
    return [x.float() / 255 for x in (pair.dark, pair.equalized, pair.bright)]


def test_a_record_says_what_was_measured(experience, weights, tmp_path):
    record = experience(table4, "--limit", "3")
    assert record["data"]["names"] == ["0", "2", "4"]
    assert record["weights"]["name"] == weights.name
    assert record["weights"]["sha256"] == experiment.of_weights(str(weights))["sha256"]
    assert record["settings"]["limit"] == 3
    assert record["versions"]["torch"] == torch.__version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", record["commit"])
    assert str(tmp_path) not in json.dumps(record)


def test_the_data_is_known_by_its_content(pairs_folder):
    files = data.find_pairs(pairs_folder)
    before = experiment.of_pictures(files)
    assert experiment.of_pictures(files) == before
    files[0].bright.write_bytes(files[1].bright.read_bytes())
    assert experiment.of_pictures(files)["sha256"] != before["sha256"]


def test_a_split_takes_the_held_out_pairs(experience, tmp_path):
    split = tmp_path / "split.json"
    split.write_text('{"training": ["0", "1"], "validation": ["3", "5"]}')
    assert experience(table4, "--split", str(split))["data"]["names"] == ["3", "5"]


def test_degradations_differ_from_the_reference_by_20():
    bright = torch.full((3, 200, 200), 0.5)
    made = table4.degraded(bright, np.random.default_rng(0))
    differences = {name: (255 * (x - bright)).double() for name, x in made.items()}
    assert not differences["reference"].any()
    assert differences["brightness reduced by 20"].mean() == pytest.approx(-20, abs=1e-4)
    assert differences["brightness increased by 20"].mean() == pytest.approx(20, abs=1e-4)
    for name in ("noise, uniform", "noise, gaussian"):
        # Five standard errors of 120,000 values whose standard deviation is 25.1 at most.
        assert differences[name].mean() == pytest.approx(0, abs=5 * 25.1 / math.sqrt(120_000))
        assert differences[name].abs().mean() == pytest.approx(20, abs=5 * 16 / math.sqrt(120_000))
    uniform, gaussian = (differences[f"noise, {name}"] for name in ("uniform", "gaussian"))
    assert 39 < uniform.abs().max() <= 40.0001
    assert gaussian.abs().max() > 80
    assert not torch.equal(uniform, gaussian)


def test_table_4_is_the_models_likelihood(experience, nano, pairs_folder):
    record = experience(table4)
    files = data.find_pairs(pairs_folder)
    for shift, name in ((0, "reference"), (20 / 255, "brightness increased by 20")):
        expected = []
        for pair_files in files:
            dark, equalized, bright = pictures_of(data.read_pair(pair_files))
            low = preprocess.network_input(dark, equalized)[None]
            expected.append(nano.nll(bright[None] + shift, low).item())
        of_pictures = [of[name]["nll"] for of in record["pictures"].values()]
        # fold() rounds weights anew in float32
        assert of_pictures == pytest.approx(expected, abs=1e-3)
        assert record["figures"][name]["nll"] == pytest.approx(np.mean(expected), abs=1e-3)
        assert f"| {name} | {np.mean(of_pictures):.2f} |" in record["table"]
        assert record["figures"][name]["l1"] == pytest.approx(255 * shift, abs=1e-4)
    noise = [
        of["noise, gaussian"]["nll"] > max(list(of.values())[index]["nll"] for index in (1, 2))
        for of in record["pictures"].values()
    ]
    assert record["figures"]["noise less likely than both"]["gaussian"] == sum(noise)


def test_noise_depends_on_seed_and_picture_alone(nano, pairs_folder):
    first, second, *_ = map(data.read_pair, data.find_pairs(pairs_folder))

    def noise(pair, seed):
        return table4.measure(nano, pair, seed=seed, clip=False)["noise, uniform"]

    expected = noise(second, 0)
    noise(first, 0)
    assert noise(second, 0) == expected
    assert noise(second, 1) != expected
    assert noise(replace(second, name="other"), 0) != expected


def test_clipping_makes_the_difference_smaller(nano, pair):
    whole, clipped = (table4.measure(nano, pair, seed=0, clip=clip) for clip in (False, True))
    name = "brightness increased by 20"
    assert whole[name]["l1"] == pytest.approx(20, abs=1e-4)
    bright = pair.bright.double()
    expected = ((bright + 20).clamp(max=255) - bright).mean().item()
    assert expected < 19.99
    assert clipped[name]["l1"] == pytest.approx(expected, abs=1e-4)
    assert clipped["reference"] == whole["reference"]


def test_the_constant_is_added_to_the_latent(nano, pair):
    dark, equalized, _ = pictures_of(pair)
    constants = [-0.3, 0.0, 0.2]
    results = list(figure6.shifted(nano, dark, equalized, constants))
    low = preprocess.network_input(dark, equalized)[None]
    with torch.no_grad():
        cond = nano.condition(low)
        for constant, result in zip(constants, results, strict=True):
            z = squeeze_map(cond["color_map"] + constant)
            bright = nano.flow.bijection.inverse(z, cond)[0][0].clamp(0, 1)
            assert torch.allclose(result, bright, atol=1e-5)  # prepared conditions, float32
    assert torch.allclose(results[1], enhance(nano, dark), atol=1e-5)
    assert not torch.allclose(results[0], results[2], atol=1e-2)


@pytest.mark.parametrize(
    ("brightness", "expected"),
    [
        ([1, 2, 3], "rising"),
        ([3, 2.9, 1], "falling"),
        ([1, 2, 2], "neither"),
        ([1, 2, 1.9], "neither"),
        ([1, 1], "neither"),
    ],
)
def test_direction(brightness, expected):
    assert figure6.direction(brightness) == expected


def test_figure_6(experience, pairs_folder, tmp_path):
    dark = pairs_folder / "low" / "0.png"
    record = experience(figure6, "--step", "0.15", "--picture", str(dark))
    constants = record["figures"]["constants"]
    assert constants == pytest.approx([-0.4, -4 / 15, -2 / 15, 0, 2 / 15, 4 / 15, 0.4])
    brightness = np.array(list(record["pictures"].values()))
    assert brightness.shape == (6, 7)
    assert record["figures"]["brightness"] == pytest.approx(brightness.mean(0).tolist())
    counts = record["figures"]["pictures"]
    directions = [figure6.direction(row) for row in brightness]
    assert counts == {name: directions.count(name) for name in ("rising", "falling", "neither")}
    nearer = [figure6.direction(row) for row in brightness[:, 2:5]]
    assert record["figures"]["monotone up to"] == {"0.13": 6 - nearer.count("neither")}
    sheet = read(tmp_path / "results" / "figure6_picture.png").image
    assert len(sheet.flatten(1).unique(dim=1).T) > 100  # pictures, not empty axes


def test_stitched_halves():
    reference, damaged = torch.zeros(3, 2, 5), torch.ones(3, 2, 5)
    left = figure8.stitched(reference, damaged, "left")
    right = figure8.stitched(reference, damaged, "right")
    assert left[0, 0].tolist() == [1, 1, 0, 0, 0]
    assert right[0, 0].tolist() == [0, 0, 1, 1, 1]


def test_figure_8_credits_each_half(nano, pair, monkeypatch):
    """With a norm that is 4 where the picture is damaged and 1 elsewhere."""

    def planted(model, dark, picture):
        return torch.where((picture == reference).all(0), 1.0, 4.0)

    *_, reference = pictures_of(pair)
    monkeypatch.setattr(figure8, "gradient_norm", planted)
    monkeypatch.setattr(figure8, "enhance", lambda model, dark: torch.full_like(dark, 2.0))
    for measured in figure8.measure(nano, nano, pair).values():
        assert measured["norm"] == {"damaged": 4.0, "reference": 1.0}
        assert measured["map"] == {"damaged": 1.0, "reference": 0.5}


def test_figure_8(experience, pairs_folder, weights, tmp_path):
    files = data.find_pairs(pairs_folder)[0]
    pair = ("--picture", str(files.dark), str(files.bright))
    record = experience(figure8, "--limit", "2", *pair)
    assert record["damaged_weights"] is None
    for name in ("norm", "map"):
        of = [of[side][name] for of in record["pictures"].values() for side in ("left", "right")]
        figures = record["figures"][name]
        assert len(of) == 4
        assert figures["damaged"] == pytest.approx(np.mean([x["damaged"] for x in of]))
        assert figures["reference"] == pytest.approx(np.mean([x["reference"] for x in of]))
        assert figures["damaged higher"] == sum(x["damaged"] > x["reference"] for x in of)
    sheet = read(tmp_path / "results" / "figure8_picture.png").image
    assert len(sheet.flatten(1).unique(dim=1).T) > 100
    other = experience(figure8, "--limit", "2", "--damaged-weights", str(weights))
    assert other["damaged_weights"] == record["weights"]
    assert other["figures"] != record["figures"]


def test_the_default_damage_is_the_equalised_picture(nano, pair, monkeypatch):
    seen = []

    def planted(model, dark, picture):
        seen.append(picture)
        return torch.ones(picture.shape[1:])

    monkeypatch.setattr(figure8, "gradient_norm", planted)
    figure8.measure(nano, None, pair)
    dark, _, bright = pictures_of(pair)
    assert torch.equal(seen[0][..., :24], retinex.equalize(dark)[..., :24])
    assert torch.equal(seen[1][..., :24], bright[..., :24])


def test_what_is_degraded_is_that_alone():
    bright = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    made = ranking.degraded(bright, np.random.default_rng(0))
    levels = {name: 255 * picture for name, picture in made.items()}
    for picture in levels.values():
        torch.testing.assert_close(picture, picture.round(), rtol=0, atol=1e-4)  # of float32
    inside = (bright > 0.2) & (bright < 0.8)
    noise = (levels["noise 8/255"] - levels["clean"])[inside]
    assert noise.std() == pytest.approx(8, rel=0.05)  # some 3,600 draws: 1.2 %
    assert levels["blur 2 px"].std() < levels["blur 1 px"].std() < levels["clean"].std()
    red, green, blue = (levels["color cast 10 %"] / levels["clean"].clamp(min=1)).unbind()
    assert (green == 1).float().mean() > 0.99
    assert red[inside[0]].mean() == pytest.approx(1.1, rel=0.01)
    assert blue[inside[2]].mean() == pytest.approx(0.9, rel=0.01)


def test_the_cleaner_one_is_first_where_its_score_is_lower():
    names = {name for _, *two in ranking.comparisons() for name in two}
    measured = [{name: dict.fromkeys(ranking.MEASURES, 1.0) for name in names} for _ in range(2)]
    measured[0]["clean"]["bits"] = 0.5
    assert ranking.first(measured, "clean", "blur 1 px", "bits") == 1
    assert ranking.first(measured, "clean", "blur 1 px", "mismatch") == 0  # a tie is none
    rows = {title: cells for title, *cells in ranking.table(measured, "pictures")}
    assert rows["blur 1 px, or clean"] == ["50 [9, 91]", *["0 [0, 66]"] * 3]
    assert rows["blur 2 px, or blur 1 px"] == ["0 [0, 66]"] * 4


def test_one_picture_of_each_scene(pairs_folder, tmp_path):
    clusters = tmp_path / "scenes.json"
    clusters.write_text('{"clusters": [["0", "1", "4"], ["2", "3"]]}')
    files = data.find_pairs(pairs_folder)
    assert [p.name for p in ranking.one_of_each(files, clusters)] == ["0", "2", "5"]
    assert ranking.one_of_each(files, None) == files


def test_ranking(experience, monkeypatch):
    monkeypatch.setattr(ranking, "photographs", lambda folder: [])
    monkeypatch.setattr(ranking, "STRENGTHS", {"noise": [4], "blur": [1], "color cast": [10]})
    record = experience(ranking, "--limit", "2")
    assert len(record["pictures"]["references"]) == 2
    of = record["pictures"]["references"]["0"]
    assert set(of) == {
        *("clean", "noise 4/255", "blur 1 px", "color cast 10 %"),
        *("histogram equalisation", "llflow enhance"),
    }
    assert "| noise 4/255, or clean | " in record["table"]


def test_where_the_error_is_the_uncertainty_it_tells_all(nano, monkeypatch):
    bright = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(0)) / 2 + 0.2
    off = torch.zeros(64, 80)
    off[:8, :40] = 0.1
    off[:8, 40:] = -0.1  # the mean stays
    monkeypatch.setattr(calibration, "enhance", lambda model, dark: bright + off)
    monkeypatch.setattr(calibration, "uncertainty", lambda model, dark: off.abs())
    found = calibration.measure(nano, bright, bright, bright)
    assert found["error"] == pytest.approx(0.8, abs=0.02)  # the tenth is 8 of the 10 cells
    assert found["rank"] > 0.4  # 70 of 80 cells are nearly tied
    monkeypatch.setattr(calibration, "uncertainty", lambda model, dark: -off.abs())
    assert calibration.measure(nano, bright, bright, bright)["error"] < 0.01


def test_calibration(experience):
    record = experience(calibration, "--limit", "3")
    assert len(record["pictures"]) == 3
    assert "| rank correlation with the error | " in record["table"]


def test_free_photographs_are_there_and_darkened():
    found = ranking.photographs(ranking.SHIPPED)
    assert [pair.name for pair in found] == list(ranking.FREE)
    assert all(pair.dark.float().mean() <= pair.bright.float().mean() for pair in found)


@pytest.fixture
def short(monkeypatch, nano, tmp_path):
    """Options of trainings that take a second."""
    monkeypatch.setitem(SIZES, "tiny", nano.config)
    split = tmp_path / "split.json"
    split.write_text('{"training": ["0", "1", "2", "3"], "validation": ["4", "5"]}')
    runs = tmp_path / "runs"
    budget = {"steps": 4, "batch": 2, "crop": 16, "pretrain": 2, "seed": 5}
    options = [text for name, value in budget.items() for text in (f"--{name}", str(value))]
    return [*options, "--split", str(split), "--runs", str(runs)]


def test_tables_5_and_6_share_a_run_and_go_on(experience, short, tmp_path, pairs_folder):
    fifth, sixth = experience(table5, *short), experience(table6, *short)
    runs = tmp_path / "runs"
    assert {path.name for path in runs.iterdir()} == {
        "encoder_l1",
        "flow_l1",
        "nll",
        "standard",
        "p05",
    }
    shared = fifth["weights"]["whole flow, NLL"]
    assert sixth["weights"]["color map, p = 0.2"] == shared
    assert sixth["figures"]["color map, p = 0.2"] == fifth["figures"]["whole flow, NLL"]
    digests = {of["sha256"] for record in (fifth, sixth) for of in record["weights"].values()}
    assert len(digests) == 5
    before = {path: path.read_bytes() for path in runs.rglob("last.pt")}
    assert experience(table6, *short)["figures"] == sixth["figures"]
    assert {path: path.read_bytes() for path in runs.rglob("last.pt")} == before

    lines = (runs / "nll" / "log.jsonl").read_text().splitlines()
    assert sum("psnr" in json.loads(line) for line in lines) == 1  # nothing to select from

    # What is scored are the averaged weights of the last step, on the held-out pictures.
    model = checkpoint.load(runs / "nll" / "best.safetensors").fold()
    state = torch.load(runs / "nll" / "last.pt", weights_only=True)
    assert state["progress"]["step"] == 4
    averaged = state["averaged"]["module.encoder.conv_first.weight"]
    assert torch.equal(model.encoder.conv_first.weight, averaged)
    scores = []
    for pair_files in data.find_pairs(pairs_folder)[4:]:
        dark, _, bright = pictures_of(data.read_pair(pair_files))
        scores.append(psnr(eight_bit(enhance(model, dark)), bright))
    figures = fifth["figures"]["whole flow, NLL"]
    # Folding twice may move a value over the edge between two of the 8-bit steps.
    assert figures["raw_psnr"] == pytest.approx(np.mean(scores), abs=0.01)
    assert set(figures) == set(trainings.SHOWN)
    assert fifth["data"]["training pairs"] == 4


def test_rows_differ_in_what_they_are_about_alone(short):
    args = trainings.parser("table5", "").parse_args(["--data", ".", *short])
    recipes = {row.title: asdict(trainings.recipe_of(row, args)) for row in ROWS}
    ours = recipes["whole flow, NLL"]
    assert (ours["loss"], ours["prior"], ours["reference_prior"]) == ("nll", "color_map", 0.2)
    assert ours["pretrain"] == 0
    budget = {"size": "tiny", "steps": 4, "batch": 2, "crop": 16, "seed": 5}
    assert {name: ours[name] for name in budget} == budget
    different = {
        title: {name: value for name, value in recipe.items() if value != ours[name]}
        for title, recipe in recipes.items()
    }
    assert different == {
        "only encoder, l1": {"encoder_only": True, "loss": "l1"},
        "whole flow, l1": {"loss": "l1", "pretrain": 2},
        "whole flow, NLL": {},
        "without color map": {"prior": "standard"},
        "color map, p = 0.5": {"reference_prior": 0.5},
        "color map, p = 0.2": {},
    }


def test_the_papers_budget_has_the_recipes_average():
    parser = trainings.parser("table5", "")
    args = parser.parse_args(["--data", "."])
    assert trainings.recipe_of(table5.ROWS[-1], args) == Recipe()
    assert trainings.recipe_of(table5.ROWS[1], args) == Recipe(loss="l1", pretrain=1000)
    args = parser.parse_args(["--data", ".", "--steps", "300"])
    assert trainings.recipe_of(table5.ROWS[-1], args) == Recipe(steps=300, average=0.9)


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_help_has_an_example(module, capsys):
    with pytest.raises(SystemExit) as exit_:
        module.main(["--help"])
    assert exit_.value.code == 0
    assert f"python benchmarks/paper/{module.__name__}.py --data" in capsys.readouterr().out


def broken_picture(folder, tmp_path):
    (folder / "high" / "3.png").write_bytes(b"not a picture")
    return []


def missing_folder(folder, tmp_path):
    return ["--data", str(tmp_path / "nowhere")]


def other_size(folder, tmp_path):
    write(folder / "low" / "3.png", Picture(torch.rand(3, 16, 16)))
    return []


def file_for_a_folder(folder, tmp_path):
    (tmp_path / "file").write_text("")
    return ["--out", str(tmp_path / "file")]


def missing_split(folder, tmp_path):
    return ["--split", str(tmp_path / "nowhere.json")]


BAD = {
    broken_picture: "3.png: not a picture",
    missing_folder: "nowhere: ",
    other_size: "16×16",
    file_for_a_folder: "file: ",
    missing_split: "nowhere.json",
}


@pytest.mark.parametrize("spoil", BAD)
@pytest.mark.parametrize("module", [table4, figure8, table5])
def test_bad_input_is_told_in_one_line(
    module, spoil, pairs_folder, short, weights, tmp_path, capsys
):
    own = short if module is table5 else ["--weights", str(weights)]
    argv = ["--data", str(pairs_folder), "--out", str(tmp_path / "out"), *own]
    assert module.main([*argv, *spoil(pairs_folder, tmp_path)]) == 1
    # A bar's last state stands before the message, behind a carriage return.
    *_, line = re.split(r"[\r\n]+", capsys.readouterr().err.rstrip("\n"))
    assert line.startswith(f"{module.__name__}.py: ")
    assert BAD[spoil] in line
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (table4, ["--weights", "nowhere"], "no such file"),
        (figure6, ["--picture", "nowhere.jpg"], "nowhere.jpg"),
        (figure6, ["--picture", __file__], "not a picture"),
        (figure8, ["--damaged-weights", __file__], "not a safetensors file"),
        (figure8, ["--picture", __file__, __file__], "not a picture"),
        (table5, ["--lpips-trunk", __file__], "test_paper.py"),
        (table5, ["--learning-rate", "nan"], "learning_rate"),
        (table4, ["--split", "tiny440", "--weights", "tiny440"], "aren't in the data"),
        (table5, ["--split", "tiny440"], "aren't in the data"),
    ],
)
def test_bad_options_fail_in_one_line(module, options, message, pairs_folder, tmp_path, capsys):
    argv = ["--data", str(pairs_folder), "--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert module.main([*(argv if module is table5 else argv[:4]), *options]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert message in line


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (table4, ["--limit", "0"]),
        (table4, ["--seed", "-1"]),
        (table4, []),
        (figure6, ["--data", ".", "--step", "0"]),
        (figure6, ["--data", ".", "--step", "nan"]),
        (figure8, ["--data", ".", "--picture", "one.jpg"]),
        (table6, ["--data", ".", "--size", "huge"]),
    ],
)
def test_wrong_usage(module, options, capsys):
    with pytest.raises(SystemExit) as exit_:
        module.main(options)
    assert exit_.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_pretraining_leaves_steps_for_the_rest(pairs_folder, short, capsys):
    argv = ["--data", str(pairs_folder), *short, "--pretrain", "4"]
    assert table5.main([*argv, "--out", str(pairs_folder.parent)]) == 2
    assert "expected --pretrain below --steps" in capsys.readouterr().err


@pytest.mark.parametrize("module", OF_WEIGHTS)
def test_what_overflows_is_named(module, pairs_folder, weights, tmp_path, capsys, monkeypatch):
    """No mean over what is left: an experiment with a result that isn't finite fails."""
    load = experiment.load

    def load_broken(args, name):
        model = load(args, name)
        model.encoder.conv_first.weight.fill_(math.nan)
        return model

    monkeypatch.setattr(experiment, "load", load_broken)
    argv = ["--data", str(pairs_folder), "--out", str(tmp_path / "out")]
    assert module.main([*argv, "--weights", str(weights)]) == 1
    *_, line = re.split(r"[\r\n]+", capsys.readouterr().err.rstrip("\n"))
    assert line.startswith(f"{module.__name__}.py: 0: ")
    assert "finite" in line
    assert not list((tmp_path / "out").glob("*"))


def test_results_are_written_whole(monkeypatch, experience, weights, tmp_path):
    before = experience(table4, "--limit", "1")

    def fail(*args, **options):
        raise OSError(28, "No space left on device", "table4.json")

    monkeypatch.setattr("os.replace", fail)
    argv = ["--data", str(tmp_path / "pairs"), "--out", str(tmp_path / "results")]
    assert table4.main([*argv, "--weights", str(weights)]) == 1
    assert json.loads((tmp_path / "results" / "table4.json").read_text()) == before


PAGES = [page.read_text() for page in document.PAGES]


def test_the_pages_hold_the_results_tables():
    for page in PAGES:
        assert document.filled(page, document.RESULTS) == page
    for module in EXPERIMENTS:
        assert sum(f"<!-- {module.__name__} -->" in page for page in PAGES) == 1


def test_the_pages_show_what_is_there():
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page)
        assert len(links) > 3
        for link in links:
            assert (ROOT / "docs" / link).exists(), link


def test_a_stale_page_is_refreshed(tmp_path):
    weights = {"name": "tiny", "sha256": "0123456789abcdef"}
    (tmp_path / "a.json").write_text(json.dumps({"table": "| new |", "weights": weights}))
    text = "before\n<!-- a -->\n| old |\n\nsentence\n<!-- /a -->\nafter\n"
    block = "<!-- a -->\n| new |\n\nWeights: `tiny`, SHA-256 0123456789ab…\n<!-- /a -->"
    assert document.filled(text, tmp_path) == f"before\n{block}\nafter\n"
