"""`llflow data`: every planted fault is named, and a split is by scene."""

import json

import numpy as np
import pytest
from PIL import Image

from llflow import cli, data
from llflow.commands import data as data_commands
from llflow.training.recipe import Recipe


@pytest.fixture
def llflow(capsys):
    """Run the command line in this process; returns exit code, stdout, stderr without progress."""

    def call(*argv):
        try:
            code = cli.main([str(arg) for arg in argv])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        lines = captured.err.replace("\r", "\n").splitlines()
        messages = [line for line in lines if line.strip() and "|" not in line]
        return code, captured.out.splitlines(), messages

    return call


def scene(seed, size=(60, 40)):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 250, (12, 18, 3), dtype=np.uint8))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))


def write(path, picture, share=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * share).astype(np.uint8)).save(path)


@pytest.fixture
def pairs(tmp_path):
    """Eight pairs; 0, 1 and 2 show one scene, 3 and 4 another."""
    for index, seed in enumerate([0, 0, 0, 1, 1, 2, 3, 4]):
        write(tmp_path / "pairs" / "low" / f"{index}.png", scene(seed), 0.1)
        write(tmp_path / "pairs" / "high" / f"{index}.png", scene(seed), 1 - 0.05 * index)
    return tmp_path / "pairs"


# --- check -----------------------------------------------------------------------------------


def test_all_is_well(llflow, pairs):
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert (code, err) == (0, [])
    assert out == [
        f"pairs: 8, {pairs}/low and high/, by equal names",
        "sizes: 60×40 (8)",
        "scenes: 5, 2 of them of several pairs, the largest 0, 1, 2",
        "problems: none",
    ]


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


FAULTS = {
    "low/0.png: no partner in high/": lambda f: (f / "high/0.png").unlink(),
    "high/new.png: no partner in low/": lambda f: write(f / "high/new.png", scene(9)),
    "low: 1.jpg and 1.png have one name": lambda f: write(f / "low/1.jpg", scene(0), 0.1),
    "low/2.png: truncated or damaged": lambda f: cut(f / "low/2.png"),
    "high/3.png: not a picture": lambda f: (f / "high/3.png").write_text("text"),
    "4: the dark picture is 60×40, the bright one 40×60": lambda f: write(
        f / "high/4.png", scene(1, (40, 60))
    ),
    "5: the dark picture is brighter": lambda f: write(f / "low/5.png", 255 - 0 * scene(2)),
    "6: the dark and the bright picture are the same": lambda f: write(
        f / "low/6.png", np.asarray(Image.open(f / "high/6.png"))
    ),
    "7: 60×31 is smaller than a crop of 32": lambda f: [
        write(f / part / "7.png", scene(4, (60, 31)), share)
        for part, share in (("low", 0.1), ("high", 1))
    ],
}


@pytest.mark.parametrize("named", FAULTS)
def test_a_fault_is_named(llflow, pairs, named):
    FAULTS[named](pairs)
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert (code, len(err)) == (1, 1)
    assert named in err[0]
    assert err[0].startswith("llflow: ")
    assert out[-1] == "problems: 1"


def test_pairs_that_show_other_things_are_named(llflow, pairs):
    for one, other in (("5", "7"), ("7", "5")):
        write(pairs / f"low/{one}.png", scene({"5": 2, "7": 4}[other]), 0.1)
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert (code, out[-1]) == (1, "problems: 2")
    for name, line in zip("57", err, strict=True):
        assert line.startswith(f"llflow: {name}: dark and bright show other things, or are shifted")


def test_a_picture_without_detail_tells_nothing(llflow, pairs):
    write(pairs / "low/7.png", np.full((40, 60, 3), 100), 0.1)
    assert llflow("data", "check", pairs, "--crop", 32)[0] == 0


def test_all_faults_are_named_at_once(llflow, pairs):
    for plant in FAULTS.values():
        plant(pairs)
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert (code, out[-1]) == (1, f"problems: {len(FAULTS)}")
    for named in FAULTS:
        assert sum(named in line for line in err) == 1


def test_swapped_folders(llflow, pairs):
    (pairs / "low").rename(pairs / "x")
    (pairs / "high").rename(pairs / "low")
    (pairs / "x").rename(pairs / "high")
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert (code, len(err)) == (1, 8)
    assert any(
        line.endswith("most dark pictures are brighter; are the folders swapped?") for line in out
    )


def test_a_split_that_leaks(llflow, pairs, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"training": list("0136"), "validation": ["2", "4", "5", "9"]}))
    code, out, err = llflow("data", "check", pairs, "--crop", 32, "--split", split)
    assert code == 1
    assert "split: 4 training, 4 validation, 1 pairs in neither" in out
    assert err[0] == "llflow: 9 of the split isn't in the data"
    assert err[1].startswith("llflow: validation 2 shows the same scene as training ")
    assert err[2:] == ["llflow: validation 4 shows the same scene as training 3"]
    split.write_text(json.dumps({"training": list("01267"), "validation": list("345")}))
    assert llflow("data", "check", pairs, "--crop", 32, "--split", split)[0] == 0


def test_against_other_pairs(llflow, pairs, tmp_path):
    other = tmp_path / "test"
    for name, seed in (("a", 2), ("b", 77)):
        write(other / "input" / f"{name}.png", scene(seed), 0.1)
        write(other / "gt" / f"{name}.png", scene(seed, (90, 60)), 0.9)
    code, out, err = llflow("data", "check", pairs, "--crop", 32, "--against", other)
    assert code == 1
    assert f"against: 2 pairs, {other}/input and gt/" in out
    leak = f"llflow: {other} a shows the same scene as {pairs} 5"
    assert err[-1] == leak
    assert sum("shows" in line for line in err) == 1
    assert sum("bright one 90×60" in line for line in err) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: expected pictures in both low/ and high/"),
        (["."], "expected one folder of dark and one of bright pictures, got again/low"),
        (["pairs", "--against", "nowhere"], "nowhere: expected pictures"),
        (["pairs", "--split", "no.json"], "no.json: expected a split.json"),
    ],
)
def test_check_refuses_in_one_line(llflow, pairs, monkeypatch, arguments, message):
    monkeypatch.chdir(pairs.parent)
    write(pairs.parent / "again" / "low" / "1.png", scene(0))
    write(pairs.parent / "again" / "high" / "1.png", scene(0))
    code, out, err = llflow("data", "check", *arguments)
    assert (code, out, len(err)) == (1, [], 1)
    assert message in err[0]


def test_names_can_neither_forge_lines_nor_command_the_terminal(llflow, pairs):
    name = "a\nllflow: forged \x1b[31m.png"
    write(pairs / "low" / name, scene(0))
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert (code, len(err)) == (1, 1)
    assert r"a\nllflow: forged \x1b[31m.png: no partner" in err[0]
    for part in ("low", "high"):
        (pairs / part / "0.png").rename(pairs / part / "0\x1b[31m\n.png")
    code, out, err = llflow("data", "check", pairs, "--crop", 32)
    assert "\x1b" not in "".join(out + err)


# --- split -----------------------------------------------------------------------------------


def test_a_split_by_scene(llflow, pairs, tmp_path):
    out = tmp_path / "split.json"
    held = set()
    for seed in range(6):
        code, text, err = llflow(
            *("data", "split", pairs, "--out", out, "--held-out", 0.4, "--seed", seed),
            *["--overwrite"] * (seed > 0),
        )
        assert (code, err) == (0, [])
        split = data.read_split(out)
        training, validation = split["training"], split["validation"]
        assert sorted(training + validation) == list("01234567")
        for together in ("012", "34"):
            assert len(set(together) & set(validation)) in (0, len(together))
        assert text == [
            f"{out}: {len(training)} training pairs of 3 scenes, "
            f"{len(validation)} validation pairs of 2"
        ]
        held.add(tuple(validation))
    assert len(held) > 2
    assert data.read_clusters(out) == [["0", "1", "2"], ["3", "4"], ["5"], ["6"], ["7"]]
    assert llflow("data", "check", pairs, "--crop", 32, "--split", out)[0] == 0


def test_an_existing_split_stays_unless_told(llflow, pairs, tmp_path):
    out = tmp_path / "split.json"
    out.write_text("mine")
    code, text, err = llflow("data", "split", pairs, "--out", out)
    assert (code, text) == (1, [])
    assert err == [f"llflow: {out} exists (--overwrite replaces it)"]
    assert out.read_text() == "mine"
    code, text, err = llflow("data", "split", pairs, "--out", out, "--held-out", 0.2, "--overwrite")
    assert code == 0
    assert data.read_split(out)


def test_scenes_from_a_file(llflow, pairs, tmp_path):
    out, scenes = tmp_path / "split.json", tmp_path / "scenes.json"
    scenes.write_text('{"clusters": [["0", "1", "2", "5", "6"], ["3", "4", "7"]]}')
    arguments = ("data", "split", pairs, "--out", out, "--scenes", scenes, "--held-out", 0.5)
    assert llflow(*arguments)[0] == 0
    assert data.read_split(out)["validation"] in (list("01256"), list("347"))

    scenes.write_text('{"clusters": [["0", "3"], ["1", "4"], ["2", "5", "6", "7"]]}')
    code, text, err = llflow(*arguments, "--overwrite")
    assert (code, text, len(err)) == (1, [], 1)
    assert "pictures of validation show the same scene as one of training: " in err[0]
    code, _, err = llflow(*arguments, "--overwrite", "--allow-leaks")
    assert (code, err) == (0, [])
    assert data.read_clusters(out) == [["0", "3"], ["1", "4"], ["2", "5", "6", "7"]]


def test_too_few_scenes(llflow, pairs, tmp_path):
    out = tmp_path / "split.json"
    code, _, err = llflow("data", "split", pairs, "--out", out)
    message = "llflow: too few scenes: of 5, 0 would be held out and 5 left"
    assert (code, err) == (1, [message])
    code, _, err = llflow("data", "split", pairs, "--out", out, "--held-out", "0.95")
    assert code == 1
    assert "of 5, 5 would be held out" in err[0]
    assert not out.exists()


def test_out_below_a_file(llflow, pairs, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "split.json"
    code, _, err = llflow("data", "split", pairs, "--out", out, "--held-out", 0.4)
    assert (code, len(err)) == (1, 1)
    assert err[0].startswith("llflow: ")


# --- usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command."),
        (["chek"], "No such command 'chek'"),
        (["check"], "Missing argument 'DIR'"),
        (["check", ""], "expected a path, got an empty text"),
        (["check", "x", "--crop", "0"], "'--crop': 0 is not in the range x>=1"),
        (["split", "x"], "Missing option '-o' / '--out'"),
        (
            ["split", "x", "--out", "y", "--held-out", "1"],
            "'--held-out': 1.0 is not in the range 0<x<1",
        ),
        (["split", "x", "--out", "y", "--held-out", "nan"], "'nan' isn't a finite number"),
        (["split", "x", "--out", "y", "--held-out", "few"], "'few' is not a valid float"),
        (["split", "x", "--out", "y", "--seed", "-1"], "'--seed': -1 is not in the range x>=0"),
        (["split", "x", "--out", "y", "z"], "Got unexpected extra argument (z)"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(llflow, arguments, message):
    code, out, err = llflow("data", *arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]


@pytest.mark.parametrize("command", [["data"], ["data", "check"], ["data", "split"]])
def test_help_has_an_example(llflow, command):
    code, out, err = llflow(*command, "--help")
    assert (code, err) == (0, [])
    examples = out[[line.startswith("  example") for line in out].index(True) :]
    assert any(line.startswith(f"    llflow {' '.join(command)} ") for line in examples)
    assert max(map(len, out)) <= 80


def test_check_asks_for_no_more_than_fine_tuning_needs():
    (option,) = (p for p in data_commands.check.params if p.name == "crop")
    assert option.default == Recipe.read("fine-tune").crop
