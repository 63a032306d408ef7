"""Steps that aren't finite: skipped, survived by going back, and given up on in the end."""

import math
from dataclasses import replace

import pytest
import torch
from short_runs import assert_same_run, events, records, same, state

from llflow import LLFlow, data
from llflow.network.model import SIZES
from llflow.training.guard import GIVE_UP_BELOW, ROLL_BACK_AFTER, Diverged


def spoil(monkeypatch, steps, how="loss"):
    """The loss, or only its gradient, isn't finite at these steps, counted from 0."""
    read, nll = data.Crops.__getitem__, LLFlow.nll

    def read_spoiled(self, step):
        samples = read(self, step)
        factor = math.nan if step in steps else 1
        return samples._replace(bright=samples.bright * factor)

    def nll_of_spoiled(self, bright, *args):
        if how == "loss" or not bright.isnan().any():
            return nll(self, bright, *args)
        value = nll(self, torch.zeros_like(bright), *args)
        return value + (value - value.detach()).abs().sqrt()  # 0, with an infinite slope

    monkeypatch.setattr(data.Crops, "__getitem__", read_spoiled)
    monkeypatch.setattr(LLFlow, "nll", nll_of_spoiled)


def stop_at(monkeypatch, step):
    """Interrupt the run when this step's batch is needed; save it at the steps before."""
    read = data.Crops.__getitem__

    def read_or_stop(self, index):
        if index == step:
            raise KeyboardInterrupt
        if index == step - 1:  # which is read ahead
            monkeypatch.setattr("llflow.training.run.SAVE_AFTER", 0)
        return read(self, index)

    monkeypatch.setattr(data.Crops, "__getitem__", read_or_stop)


@pytest.mark.parametrize(
    ("how", "keep"), [("loss", "all"), ("gradient", "all"), ("loss", "inputs"), ("loss", "nothing")]
)
def test_steps_that_are_not_finite_are_skipped(run, tmp_path, monkeypatch, how, keep):
    spoil(monkeypatch, range(1, 4), how)
    run("before", steps=1, keep=keep, warmup=0)
    run(steps=4, keep=keep, warmup=0)
    before, skipped = state(tmp_path / "before"), state(tmp_path / "run")
    for name in ("model", "averaged"):
        assert same(before[name], skipped[name])
    assert same(before["optimizer"]["state"], skipped["optimizer"]["state"])
    assert skipped["progress"]["bad_steps"] == 3
    told = events(tmp_path / "run")
    assert [event.split(":")[0] for event in told] == [f"step {n} skipped" for n in (2, 3, 4)]
    expected = "loss nan" if how == "loss" else "gradient norm nan"
    assert all(expected in event for event in told)
    run(steps=6, keep=keep, warmup=0)
    after = state(tmp_path / "run")
    assert after["progress"]["bad_steps"] == 0
    assert not same(after["model"], skipped["model"])
    assert all(tensor.isfinite().all() for tensor in after["model"].values())


def test_after_five_in_a_row_it_goes_back_at_half_the_rate(run, tmp_path, monkeypatch, caplog):
    assert ROLL_BACK_AFTER == 5
    changes = {"warmup": 0, "steps": 100, "learning_rate": 1e-3, "validate_every": 1000}
    spoil(monkeypatch, {3, *range(6, 9), *range(12, 17)})
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            run(save_every=5, **changes)
    at_five = state(tmp_path / "run")
    assert at_five["progress"] | {"best": 0} == {
        "step": 5,
        "best": 0,
        "caution": 1.0,
        "bad_steps": 0,
        "usual": at_five["progress"]["usual"],
        "went_back_at": 0,
        "anchored_at": 0,
        "planned": 0,
        "seconds": 0.0,
    }
    with monkeypatch.context() as patch:
        stop_at(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            run(save_every=5, **changes)
    back = state(tmp_path / "run")
    message = "5 steps in a row were skipped: back to the weights of step 10, at 0.5 of the"
    assert events(tmp_path / "run")[-1].startswith(message)
    assert caplog.messages[-1].startswith(message)
    assert (back["progress"]["caution"], back["progress"]["step"]) == (0.5, 17)
    assert back["progress"]["anchored_at"] == 10
    for name in ("model", "averaged", "optimizer"):
        assert same(back[name], back["anchor"][name])
        assert not same(back[name], at_five[name])
    with monkeypatch.context() as patch:
        stop_at(patch, 20)
        with pytest.raises(KeyboardInterrupt):
            run(save_every=5, **changes)
    on = state(tmp_path / "run")
    assert not same(on["model"], back["model"])
    (record,) = (r for r in records(tmp_path / "run") if "loss" in r)
    assert record["learning_rate"] == 0.5e-3


def test_the_weights_gone_back_to_are_proven(run, tmp_path, monkeypatch):
    """The newest ones may be what isn't finite, also where every step is saved."""
    spoil(monkeypatch, range(4, 9))
    whole = {"steps": 60, "warmup": 0, "save_every": 1, "validate_every": 1000}
    states = []
    for step in (3, 9):
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            with pytest.raises(KeyboardInterrupt):
                run(**whole)
        states.append(state(tmp_path / "run"))
    proven, back = states
    assert back["progress"]["anchored_at"] == proven["progress"]["step"] == 3
    assert same(proven["model"], back["model"])


@pytest.mark.parametrize("step", [8, 10])
def test_going_on_across_a_roll_back_is_exact(run, tmp_path, monkeypatch, step):
    """Interrupted between the steps that lead to it, and just then."""
    spoil(monkeypatch, range(5, 10))
    changes = {"steps": 13, "save_every": 4, "validate_every": 8, "warmup": 0}
    run("whole", **changes)
    assert sum("back to the weights of step 4" in e for e in events(tmp_path / "whole")) == 1
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **changes)
    saved = state(tmp_path / "parts")["progress"]
    assert saved["step"] == step
    run("parts", **changes)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_giving_up_when_going_back_does_not_help(run, tmp_path, monkeypatch):
    assert GIVE_UP_BELOW == 1 / 32
    spoil(monkeypatch, range(4, 1000))
    message = "up to step 34, 5 steps in a row weren't finite or were wild, and going"
    with pytest.raises(Diverged, match=message):
        run(steps=1000, validate_every=1000)  # 4 + 6·5
    told = [event for event in events(tmp_path / "run") if "back to" in event]
    assert [event.split("at ")[1].split()[0] for event in told] == [
        f"{0.5**n:g}" for n in range(1, 6)
    ]
    last = state(tmp_path / "run")
    assert last["progress"]["step"] == 33
    for name in ("model", "averaged"):
        assert all(tensor.isfinite().all() for tensor in last[name].values())


def test_a_network_like_the_released_one_survives_its_recipe(run, tmp_path, monkeypatch, nano):
    """Scales down to 1e-4, 5e-4 from the first step on: finite, and the loss falls."""
    released = replace(nano.config, scale_floor=1e-4, steps=2)
    monkeypatch.setitem(SIZES, "tiny", released)
    run(steps=40, warmup=0, learning_rate=5e-4, validate_every=20)
    logged = [r["loss"] for r in records(tmp_path / "run") if "loss" in r]
    assert all(math.isfinite(loss) for loss in logged)
    assert logged[-1] < logged[0] - 0.5
    assert all(tensor.isfinite().all() for tensor in state(tmp_path / "run")["model"].values())
    scores = [r["psnr"] for r in records(tmp_path / "run") if "psnr" in r]
    assert len(scores) == 2
    assert None not in scores
