"""Training on all pairs: nothing is held out, and the last averaged weights are kept."""

import json

import pytest
from short_runs import SHORT, arguments, assert_same_run, events, interrupt_at, records, same, state

from llflow import data
from llflow.network import checkpoint
from llflow.training.recipe import Recipe
from llflow.training.train import train


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_last_averaged_weights_of_all_pairs_are_the_result(
    llflow, nano_size, pairs_folder, tmp_path
):
    folder = tmp_path / "run"
    code, out, _ = llflow(*arguments(pairs_folder, folder, steps=6), "--split", "none")
    assert code == 0
    weights = folder / "last.safetensors"
    assert out.splitlines() == [
        f"{weights}: trained on all 6 pairs, none held out",
        f"use them: llflow enhance dark.jpg --weights {weights}",
    ]
    assert files(folder) == {"last.safetensors", "last.pt", "log.jsonl", "split.json"}
    assert data.read_split(folder / "split.json") == {
        "training": list("012345"),
        "validation": [],
    }
    averaged = {
        name.removeprefix("module."): value
        for name, value in state(folder)["averaged"].items()
        if name.startswith("module.")
    }
    assert same(dict(checkpoint.load(weights).state_dict()), averaged)
    assert checkpoint.trained(weights) == {"pairs": 6, "held_out": 0, "step": 6}
    assert events(folder) == ["nothing is held out: the last averaged weights are the result"]
    assert not any("psnr" in record for record in records(folder))


def test_it_goes_on_exactly(nano_size, pairs_folder, tmp_path, monkeypatch):
    def run(name):
        pairs = data.find_pairs(pairs_folder)
        return train(Recipe(**SHORT), pairs, None, tmp_path / name, validate_every=4, save_every=3)

    assert run("whole") is None
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    assert run("stopped") is None
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_is_known_by_its_split(llflow, nano_size, pairs_folder, tmp_path):
    call = arguments(pairs_folder, tmp_path / "run", steps=2)
    assert llflow(*call, "--split", "none")[0] == 0
    call = arguments(pairs_folder, tmp_path / "run", steps=4)
    code, out, _ = llflow(*call)  # goes on as it began
    assert code == 0
    assert "none held out" in out
    assert checkpoint.trained(tmp_path / "run" / "last.safetensors")["step"] == 4

    held = arguments(pairs_folder, tmp_path / "held", steps=2)
    assert llflow(*held)[0] == 0
    assert checkpoint.trained(tmp_path / "held" / "best.safetensors") == {
        "pairs": 4,
        "held_out": 2,
        "step": 2,
    }
    code, _, err = llflow(*held, "--split", "none")
    assert code == 1
    assert "that run has other pictures or scenes" in err


def test_an_empty_validation_is_still_refused(nano_size, pairs_folder, tmp_path):
    pairs = data.find_pairs(pairs_folder)
    for training, validation in ((pairs, []), ([], None), ([], pairs)):
        with pytest.raises(data.DataError, match="none left for training or for validation"):
            train(Recipe(**SHORT), training, validation, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_results_without_a_state_are_not_replaced(nano_size, pairs_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.safetensors").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match=r"has weights but no last\.pt"):
        train(Recipe(**SHORT), data.find_pairs(pairs_folder), None, tmp_path / "run")
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == b"somebody's"


def test_records_of_evaluation_say_so(llflow, nano_size, pairs_folder, tmp_path):
    call = arguments(pairs_folder, tmp_path / "run", steps=2)
    assert llflow(*call, "--split", "none")[0] == 0
    weights, record = tmp_path / "run" / "last.safetensors", tmp_path / "figures.json"
    options = ["--weights", weights, "--no-lpips", "--json", record]
    assert llflow("evaluate", "--data", pairs_folder, *options)[0] == 0
    (identified,) = json.loads(record.read_text())["weights"].values()
    assert identified["trained"] == {"pairs": 6, "held_out": 0, "step": 2}
