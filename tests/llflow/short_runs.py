"""Short runs of training: their pairs and settings, what they leave, and processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from llflow import data
from llflow.network.model import LeanConfig

SHORT = {"steps": 8, "batch": 2, "crop": 16, "warmup": 2, "held_out": 0.34, "seed": 3}
SHORT |= {"precision": "float32"}  # whatever the processor computes in
LEAN_NANO = LeanConfig(
    half=4, quarter=8, eighth=8, blocks=(1, 1, 1), thumbnail=4, steps=(1, 1, 1), hidden=(4, 4, 4)
)
PROGRAM = Path(__file__).with_name("nano.py")


def write_pairs(folder):
    """Six smooth scenes of 40×48, bright in high/ and at a fifth in low/."""
    rng = np.random.default_rng(0)
    for part in ("low", "high"):
        (folder / part).mkdir(parents=True)
    for index in range(6):
        coarse = Image.fromarray(rng.integers(60, 250, (5, 6, 3), dtype=np.uint8))
        bright = np.asarray(coarse.resize((48, 40), Image.Resampling.BICUBIC))
        Image.fromarray(bright).save(folder / "high" / f"{index}.png")
        Image.fromarray((bright * 0.2).astype(np.uint8)).save(folder / "low" / f"{index}.png")
    return folder


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def events(folder):
    return [record["event"] for record in records(folder) if "event" in record]


def state(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def same(a, b):
    """Equal bit by bit; the order of entries doesn't matter."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(folder, other):
    """Everything that two runs leave is the same, but for how long they took."""
    assert same(state(folder), state(other))
    logs = [
        [{key: value for key, value in record.items() if key != "seconds"} for record in log]
        for log in (records(folder), records(other))
    ]
    assert logs[0] == logs[1]
    names, other_names = (
        sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
        for run in (folder, other)
    )
    assert names == other_names
    for name in names:
        if name.name not in ("last.pt", "log.jsonl"):
            assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def arguments(data_folder, out, *, validate_every=4, save_every=3, **changes):
    """Of the program's train, for the run that the fixture `run` makes in this process."""
    settings = {"recipe": "small", "size": "tiny", "device": "cpu", **SHORT, **changes}
    settings |= {"validate_every": validate_every, "save_every": save_every}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    return ["train", f"--data={data_folder}", f"--out={out}", *options]


def start(*command, **options):
    """A process with one thread, as many as the tests have; its stderr is read from a pipe."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *command], env=environment, **pipes | options)


def interrupt_at(monkeypatch, step):
    """Let Ctrl-C come while the batch of this step is read."""
    read = data.Crops.__getitem__

    def read_or_stop(self, index):
        if index == step:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(data.Crops, "__getitem__", read_or_stop)
