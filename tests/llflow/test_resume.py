"""A run that was stopped, by an exception or by force, ends as if it hadn't been."""

import math
import os
import random
import signal
import time

import pytest
import torch
from short_runs import (
    PROGRAM,
    arguments,
    assert_same_run,
    events,
    interrupt_at,
    records,
    same,
    start,
    state,
)

from llflow import data
from llflow.training.interruption import noticed
from llflow.training.state import State


@pytest.mark.parametrize(
    ("step", "changes"),
    [(1, {}), (4, {"synthetic_share": 0.5, "loss": "nll+l1"}), (5, {"average": 0.5})],
    ids=str,
)
def test_interrupted_and_started_again_it_ends_the_same(run, tmp_path, monkeypatch, step, changes):
    changes = {"steps": 6} | changes
    run("whole", **changes)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **changes)
    run("parts", **changes)
    assert state(tmp_path / "whole")["progress"]["step"] == 6
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_interrupted_as_a_user_does_it_loses_nothing(run, tmp_path, monkeypatch, capsys):
    run("whole", save_every=100)
    read = data.Crops.__getitem__

    def read_and_signal(self, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, step)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(data.Crops, "__getitem__", read_and_signal)
        with pytest.raises(KeyboardInterrupt):
            run("parts", save_every=100)
    assert "finishing this step and saving" in capsys.readouterr().err
    assert state(tmp_path / "parts")["progress"]["step"] in (3, 4, 5)
    assert signal.getsignal(signal.SIGINT) is before
    run("parts", save_every=100)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_before_the_steps_and_a_second_time_it_ends_at_once():
    with noticed(alone=True) as interruption:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interruption.deferred = True
        signal.raise_signal(signal.SIGINT)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def stop(*args, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "with_weights"),
    [
        ("run.write_atomically", False),
        ("run.State.save", False),
        ("run.State.save", True),
        ("run.checkpoint.save", True),
        ("batches._selector", True),
    ],
)
def test_interrupted_before_the_first_step_it_goes_on(
    run, tmp_path, monkeypatch, weights, where, with_weights
):
    options = {"steps": 1, "learning_rate": 1e-9} | (
        {"weights": str(weights)} if with_weights else {}
    )
    run("whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(f"llflow.training.{where}", stop)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **options)
    run("parts", **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_what_was_being_written_is_removed(run, tmp_path):
    run(steps=1)
    cut_off = [
        tmp_path / "run" / f".{16 * '0'}.tmp",
        tmp_path / "run" / "pictures" / f".{16 * 'f'}.tmp",
    ]
    for path in cut_off:
        path.write_bytes(b"half")
    run(steps=2)
    assert not any(path.exists() for path in cut_off)


def test_records_of_steps_taken_again_are_dropped(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)  # validated at 4, saved at 3
        with pytest.raises(KeyboardInterrupt):
            run()
    assert [record["step"] for record in records(tmp_path / "run")] == [4]
    run()
    assert [record["step"] for record in records(tmp_path / "run")] == [4, 8]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        "truncated",
        {"step": 1},
        "without a model",
        "of another network",
        "with text for a number",
    ],
    ids=str,
)
def test_a_damaged_state_is_named(run, tmp_path, content):
    run(steps=2)
    last = tmp_path / "run" / "last.pt"
    saved = state(tmp_path / "run")
    if content == "truncated":
        last.write_bytes(last.read_bytes()[:-1000])
    elif isinstance(content, bytes):
        last.write_bytes(content)
    else:
        changes = {
            "without a model": {"model": None},
            "of another network": {"model": {"weight": torch.zeros(3)}},
            "with text for a number": {"progress": saved["progress"] | {"step": "two"}},
        }
        torch.save(saved | changes[content] if isinstance(content, str) else content, last)
    with pytest.raises(ValueError, match=rf"^{last}: damaged, or of another version; without it"):
        run(steps=4)


def test_a_state_that_cannot_be_read_is_not_called_damaged(run, tmp_path):
    run(steps=2)
    last = tmp_path / "run" / "last.pt"
    last.unlink()
    last.mkdir()
    with pytest.raises(IsADirectoryError):
        run(steps=4)


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


def test_a_state_cannot_run_code(run, tmp_path, capsys):
    run(steps=2)
    torch.save(state(tmp_path / "run") | {"x": Bomb()}, tmp_path / "run" / "last.pt")
    with pytest.raises(ValueError, match="damaged"):
        run(steps=4)
    assert "executed" not in capsys.readouterr().out


def test_a_state_holds_no_more_than_it_needs(run, tmp_path, monkeypatch):
    """The anchor is a copy of its own: training on doesn't move it."""
    anchors = []
    drop = State.drop_anchor
    monkeypatch.setattr(
        State, "drop_anchor", lambda self: drop(self) or anchors.append(self.anchor["model"])
    )
    run(steps=4, save_every=2)
    first = {name: tensor.clone() for name, tensor in anchors[-1].items()}
    last = state(tmp_path / "run")
    assert same(first, last["anchor"]["model"])
    assert not same(first, last["model"])


# --- killed ----------------------------------------------------------------------------------


def kill(process, folder, saves, rng):
    """SIGKILL at a random moment between so many new saves of last.pt and the next."""
    last, times = folder / "last.pt", []
    seen = last.stat().st_mtime_ns if last.exists() else None
    while len(times) < saves:
        assert process.poll() is None, process.communicate()[0]
        at = last.stat().st_mtime_ns if last.exists() else None
        if at != seen:
            seen = at
            times.append(time.monotonic())
        time.sleep(0.002)
    time.sleep(rng.random() * (times[-1] - times[-2] if saves > 1 else 0.1))
    ended = process.poll() is not None
    process.kill()
    process.communicate()
    assert not ended, "it was over before it could be killed: more steps are needed"


def test_killed_at_random_moments_it_ends_the_same(run, pairs_folder, tmp_path):
    """Also where it goes back, as it has to at 600 times the usual learning rate."""
    settings = {"steps": 30, "warmup": 0, "learning_rate": 0.3, "clip": math.inf}
    settings |= {"save_every": 2, "validate_every": 10}
    run("whole", **settings)
    assert any("back to the weights" in event for event in events(tmp_path / "whole"))
    parts, rng = tmp_path / "parts", random.Random(0)
    call = arguments(pairs_folder, parts, **settings)
    for saves in (1, 2, 3, 1):
        kill(start(PROGRAM, *call), parts, saves, rng)
    output, _ = (process := start(PROGRAM, *call)).communicate()
    assert process.returncode == 0, output
    assert "going on at step" in output
    assert_same_run(tmp_path / "whole", parts)
