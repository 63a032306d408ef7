"""Several processes under `torchrun`: the same weights as one, also after one was killed."""

import contextlib
import math
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from nano import NANO
from short_runs import PROGRAM, SHORT, arguments, assert_same_run, events, start, state, write_pairs

from llflow import data
from llflow.network.model import SIZES
from llflow.training.processes import Processes, joined
from llflow.training.recipe import Recipe
from llflow.training.train import train

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="PyTorch has no gloo here"
)
SETTINGS = {"steps": 10, "batch": 4, "warmup": 0, "reference_prior": 0.5, "loss": "nll+l1"}
SETTINGS |= {"save_every": 2, "validate_every": 5}
TOGETHER = SETTINGS | {"accumulate": 2, "keep": "nothing"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two processes, each of which takes its half of a batch in two parts."""
    folder = tmp_path_factory.mktemp("two")
    write_pairs(folder / "pairs")
    finish(start(*TORCHRUN, PROGRAM, *arguments(folder / "pairs", folder / "run", **TOGETHER)))
    return folder / "run"


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def test_a_process_alone_is_the_first():
    with joined(torch.device("cpu")) as (processes, device):
        assert (processes, device) == (Processes(0, 1), torch.device("cpu"))
    value = torch.tensor(3.0)
    assert processes.is_first
    assert torch.equal(processes.part(torch.arange(4)), torch.arange(4))
    assert processes.mean(value) is value
    assert processes.from_first(5.0) == 5.0


def test_parts_make_up_the_batch():
    batch = torch.arange(6)
    parts = [Processes(rank, 3).part(batch) for rank in range(3)]
    assert torch.equal(torch.cat(parts), batch)


def flat(model):
    return torch.cat([tensor.double().flatten() for tensor in model.values()])


def test_two_processes_train_to_the_weights_of_one(run, tmp_path, two):
    """Initialisation included, which is from data, too."""
    run("start", **SETTINGS | {"steps": 1, "learning_rate": 1e-30})
    run("one", **SETTINGS)
    start, one, both = (
        flat(state(folder)["model"]) for folder in (tmp_path / "start", tmp_path / "one", two)
    )
    assert (one - start).norm() > 0.01
    # Sums in another order round by 1e-7, which Adam's quotients raise where gradients are small.
    # Half a batch in place of the whole, say, would make a difference of the order of 1.
    assert (one - both).norm() < 1e-3 * (one - start).norm()


def test_one_of_them_is_killed_and_they_go_on(two, tmp_path):
    write_pairs(tmp_path / "pairs")
    call = arguments(tmp_path / "pairs", tmp_path / "run", **TOGETHER)
    restarting = [*TORCHRUN, "--max-restarts=1", "--monitor-interval=0.1"]
    process = start(*restarting, PROGRAM, *call)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("which processes it has started can't be seen here")
    last, seen = tmp_path / "run" / "last.pt", set()
    while len(seen) < 3:  # at 0, 2 and 4
        assert process.poll() is None, process.communicate()[0]
        seen |= {last.stat().st_mtime_ns} if last.exists() else set()
        time.sleep(0.005)
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    output = finish(process)
    assert "going on at step" in output
    assert_same_run(two, tmp_path / "run")


def trained(rank, ports, folder):
    """One of two processes: a run with a sample that isn't finite, and one of an encoder alone."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": str(rank)}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0"}
    SIZES["tiny"] = NANO
    pairs = data.hold_out(data.find_pairs(folder / "pairs"), (), 0.34, 3)
    encoder = Recipe(**SHORT | {"steps": 3, "encoder_only": True, "loss": "l1"})
    os.environ["MASTER_PORT"] = str(ports[0])
    train(encoder, *pairs, folder / "encoder")
    read = data.Crops.__getitem__

    def spoiled(self, step):
        samples = read(self, step)
        samples.bright[-1] *= math.nan if step == 1 else 1  # the second process's
        return samples

    data.Crops.__getitem__ = spoiled
    os.environ["MASTER_PORT"] = str(ports[1])
    train(Recipe(**SHORT | {"steps": 3, "keep": "nothing"}), *pairs, folder / "spoiled")


def test_what_is_not_finite_in_one_is_skipped_by_all_and_encoders_train(tmp_path):
    write_pairs(tmp_path / "pairs")
    with contextlib.ExitStack() as servers:
        free = [servers.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [server.getsockname()[1] for server in free]
    torch.multiprocessing.spawn(trained, (ports, tmp_path), nprocs=2)
    for name in ("encoder", "spoiled"):
        assert state(tmp_path / name)["progress"]["step"] == 3
        assert all(x.isfinite().all() for x in state(tmp_path / name)["model"].values())
    assert [event.split(":")[0] for event in events(tmp_path / "spoiled")] == ["step 2 skipped"]
    assert events(tmp_path / "encoder") == []
