"""Which pictures `llflow train` takes: split by scene, as another run did, photographs besides."""

import json
import shutil

import pytest
from PIL import Image
from short_runs import arguments, state

from llflow import data


def again(pairs_folder, name, other):
    """One more pair that shows the scene of another."""
    for part in ("low", "high"):
        shutil.copy(pairs_folder / part / f"{other}.png", pairs_folder / part / f"{name}.png")


def split_of(folder):
    return data.read_split(folder / "split.json")


def write_split(path, training, validation):
    path.write_text(json.dumps({"training": training, "validation": validation}))


def test_scenes_are_found_and_not_split(llflow, nano_size, pairs_folder, tmp_path):
    for index in range(6):
        again(pairs_folder, f"{index}b", index)
    assert llflow(*arguments(pairs_folder, tmp_path / "run", steps=1))[0] == 0
    split = split_of(tmp_path / "run")
    assert len(split["training"]) + len(split["validation"]) == 12
    for part in split.values():
        assert {name[0] for name in part} == {name[0] for name in part if name.endswith("b")}


def test_a_split_that_leaks_is_refused(llflow, nano_size, pairs_folder, tmp_path):
    again(pairs_folder, "0b", "0")
    write_split(tmp_path / "split.json", ["0", "1", "2", "3"], ["0b", "4"])
    call = arguments(pairs_folder, tmp_path / "run", steps=1)
    code, out, err = llflow(*call, "--split", tmp_path / "split.json")
    assert (code, out) == (1, "")
    assert "1 pictures of validation show the same scene as one of training: 0b as 0" in err
    assert not (tmp_path / "run").exists()
    assert llflow(*call, "--split", tmp_path / "split.json", "--allow-leaks")[0] == 0


def test_going_on_it_keeps_its_split(llflow, nano_size, pairs_folder, tmp_path, monkeypatch):
    write_split(tmp_path / "split.json", ["0", "1", "2"], ["3", "4", "5"])
    call = arguments(pairs_folder, tmp_path / "run", steps=2)
    assert llflow(*call, "--split", tmp_path / "split.json")[0] == 0
    monkeypatch.setattr("llflow.data.scenes.find_scenes", lambda _: pytest.fail("looked again"))
    more = arguments(pairs_folder, tmp_path / "run", steps=3)
    assert llflow(*more)[0] == 0
    assert state(tmp_path / "run")["progress"]["step"] == 3
    again(pairs_folder, "6", "0")
    code, _, err = llflow(*more)
    assert code == 1
    assert "has pairs that the run in" in err


def test_photographs_join_the_synthetic_samples(llflow, nano_size, pairs_folder, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    Image.new("RGB", (40, 30), (90, 120, 200)).save(photographs / "sky.jpg")
    ends = []
    for name, options in (("without", ()), ("with", ("--photographs", photographs))):
        call = arguments(pairs_folder, tmp_path / name, steps=2, synthetic_share=0.9)
        assert llflow(*call, *options)[0] == 0
        ends.append(state(tmp_path / name)["model"]["encoder.conv_first.weight"])
    assert not ends[0].equal(ends[1])
    call = arguments(pairs_folder, tmp_path / "none", steps=2)
    code, _, err = llflow(*call, "--photographs", photographs)
    assert code == 1
    assert "photographs only count in a recipe with synthetic_share > 0" in err
