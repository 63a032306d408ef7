"""Pictures averaged down for a share of the steps, and what a run makes of them."""

import pytest
import torch
from short_runs import SHORT, assert_same_run, interrupt_at, records, state

from llflow import data
from llflow.picture import preprocess, retinex
from llflow.training.batches import Batches
from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule

SIZES = ((2, 0.5, 8), (1, 0.5, 16, 4))


def test_a_pair_averaged_down_is_equalized_after_that(pairs_folder):
    pair = data.read_pair(data.find_pairs(pairs_folder)[0])
    small = data.averaged_down(pair, 4)
    for ours, whole in ((small.dark, pair.dark), (small.bright, pair.bright)):
        blocks = whole.double().unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4))
        # To the nearest of 255 levels; float32 may put a tie on either side.
        assert ((ours.double() - blocks).abs() <= 0.5 + 1e-4).all()
        assert ours.dtype == torch.uint8
    equalized = (retinex.equalize(small.dark.float() / 255) * 255).round()
    assert torch.equal(small.equalized.float(), equalized)
    assert data.averaged_down(pair, 1) is pair
    assert data.averaged_down(pair, 7).bright.shape == (3, 5, 6)  # of 40×48


def test_a_stage_has_its_pictures_and_crops(pairs_folder, nano_size):
    files = data.find_pairs(pairs_folder)
    schedule = Schedule(Recipe(**SHORT | {"sizes": SIZES}), 10)
    batches = Batches(schedule, files, None)
    small = [data.averaged_down(data.read_pair(pair), 2) for pair in files]
    expected = data.Crops(small, size=8, batch=2, seed=3)
    for step in (0, 4):
        batch = batches.at(schedule, step)
        assert batch.keys() == {"bright", "low", "from_reference"}
        assert torch.equal(batch["bright"], expected[step].bright)
        assert torch.equal(batch["low"], expected[step].low)
        assert batch["from_reference"].shape == (2,)
    dark = small[0].dark[:, :8, :8].float() / 255
    assert batch["low"].shape == (2, *preprocess.network_input(dark, dark).shape)
    assert batches.at(schedule, 5)["bright"].shape == (4, 3, 16, 16)


def test_batches_are_cut_ahead_in_order(pairs_folder, nano_size):
    schedule = Schedule(Recipe(**SHORT | {"sizes": SIZES}), 6)
    batches = Batches(schedule, data.find_pairs(pairs_folder), None)
    ahead = list(batches.ahead(schedule, range(1, 6)))
    for step, batch in enumerate(ahead, 1):
        expected = batches.at(schedule, step)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in batch)
    assert list(batches.ahead(schedule, range(6, 6))) == []


def test_pictures_too_small_for_a_stage_are_named(run, tmp_path):
    with pytest.raises(data.DataError, match=r"averaged down by 4.* smaller than the crop of 16"):
        run(sizes=((4, 0.5), (1, 0.5)))
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize("step", [2, 6])
def test_stages_go_on_exactly(run, tmp_path, monkeypatch, step):
    changes = {"sizes": SIZES, "annealing": "cosine", "loss": "nll+l1", "structure": 8.0}
    changes |= {"exposure_free": 0.5, "colors": 1.0}
    run("whole", **changes)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **changes)
    run("parts", **changes)
    assert state(tmp_path / "whole")["progress"]["step"] == 8
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_loss_falls_over_all_stages(run, tmp_path):
    settings = {"sizes": SIZES, "loss": "nll+l1", "exposure_free": 0.5, "structure": 8.0}
    settings |= {"annealing": "cosine", "colors": 2.0, "precision": "bf16", "beta2": 0.99}
    run(steps=60, learning_rate=3e-3, validate_every=100, save_every=100, **settings)
    first, _, last = (r for r in records(tmp_path / "run") if "loss" in r)
    assert last["loss"] < first["loss"] - 0.2
    assert {"nll", "l1", "exposure_free", "structure", "colors"} <= last.keys()


def test_auto_is_settled_when_a_run_begins(run, tmp_path, monkeypatch):
    """And stays what it was then, wherever the run goes on."""
    for computes, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr("llflow.network.precision.computes_in_bf16", lambda _, c=computes: c)
        run(expected, steps=2, precision="auto")
        assert state(tmp_path / expected)["recipe"]["precision"] == expected
    run("bf16", steps=4, precision="auto")
    assert state(tmp_path / "bf16")["recipe"]["precision"] == "bf16"
    with pytest.raises(ValueError, match="that run has precision = bf16, this one float32"):
        run("bf16", steps=6)
