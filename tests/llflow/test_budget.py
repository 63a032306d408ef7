"""A run with a budget of hours: its steps are fixed once, and it is exact from there on."""

import math
import time

import pytest
from short_runs import assert_same_run, events, interrupt_at, records, same, state

from llflow.training import run as running

SETTINGS = {"hours": 1.0, "save_every": 4, "validate_every": 8, "warmup": 0, "annealing": "cosine"}


class Clock:
    """Every look at it takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def measured(monkeypatch):
    """A plan after three steps."""
    monkeypatch.setattr(running, "MEASURED", 3)


def plan(monkeypatch, steps):
    monkeypatch.setattr(running, "steps_within", lambda *args: steps)


def test_the_steps_fit_the_time(run, tmp_path, monkeypatch, measured):
    monkeypatch.setattr(time, "monotonic", Clock())
    asked = []
    within = running.steps_within
    monkeypatch.setattr(
        running, "steps_within", lambda *args: asked.append(args) or min(within(*args), 9)
    )
    run(**SETTINGS)
    ((schedule, done, seconds, per_step, validating),) = asked
    assert math.isinf(schedule.steps)
    assert done == 3
    assert 1 <= per_step <= 5  # looks at the clock in a step
    assert validating >= 1 / 8
    assert 3600 - 40 < seconds < 3600 - 10
    saved = state(tmp_path / "run")["progress"]
    assert (saved["step"], saved["planned"]) == (9, 9)
    assert saved["seconds"] > 3600 - seconds
    (event,) = events(tmp_path / "run")
    assert event.startswith("9 steps in 1 hours, ")
    assert [r["step"] for r in records(tmp_path / "run") if "psnr" in r] == [3, 8, 9]


@pytest.mark.parametrize("step", [4, 6])
def test_from_the_plan_on_going_on_is_exact(run, tmp_path, monkeypatch, measured, step):
    plan(monkeypatch, 10)
    run("whole", **SETTINGS)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **SETTINGS)
    before = state(tmp_path / "parts")["progress"]
    assert before["planned"] == 10
    plan(monkeypatch, 99)  # isn't asked again
    run("parts", **SETTINGS)
    for name in ("whole", "parts"):  # what a clock says is never the same
        folder = tmp_path / name
        last = state(folder)
        assert last["progress"].pop("seconds") > 0
        assert last["progress"]["step"] == 10
    whole, parts = (state(tmp_path / name) for name in ("whole", "parts"))
    for part in ("model", "averaged", "optimizer", "anchor"):
        assert same(whole[part], parts[part])
    assert (tmp_path / "whole" / "best.safetensors").read_bytes() == (
        tmp_path / "parts" / "best.safetensors"
    ).read_bytes()


def test_before_the_plan_it_measures_anew(run, tmp_path, monkeypatch, measured):
    plan(monkeypatch, 6)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(**SETTINGS | {"save_every": 1})
    before = state(tmp_path / "run")["progress"]
    assert (before["step"], before["planned"]) == (2, 0) or before["step"] == 1
    run(**SETTINGS | {"save_every": 1})
    assert state(tmp_path / "run")["progress"]["step"] == 6


def test_the_time_of_earlier_parts_counts(run, tmp_path, monkeypatch, measured):
    monkeypatch.setattr(time, "monotonic", Clock())
    plan(monkeypatch, 6)
    run(**SETTINGS)
    used = state(tmp_path / "run")["progress"]["seconds"]
    plan(monkeypatch, 8)
    with pytest.raises(ValueError, match=r"that run has hours = 1\.0, this one 2\.0"):
        run(**SETTINGS | {"hours": 2.0})
    run(**SETTINGS)  # finished: nothing is saved anew
    assert state(tmp_path / "run")["progress"]["seconds"] == used


def test_without_a_budget_no_time_is_kept(run, tmp_path):
    run(steps=2)
    progress = state(tmp_path / "run")["progress"]
    assert (progress["planned"], progress["seconds"]) == (0, 0.0)
    run("again", steps=2)
    assert_same_run(tmp_path / "run", tmp_path / "again")
