"""Two thousand pictures, while whoever leads the batch, its workers and machines are killed."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batches import members_of, results, shard_of, write_folder

pytestmark = pytest.mark.slow
PICTURES = 2000
SETTINGS = ["--precision", "float32"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("dark") / "in", PICTURES)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("bright") / "out"
    assert start(source, out, "--processes", "1").wait() == 0
    return results(out)


def start(source, out, *options):
    call = [sys.executable, "-m", "llflow", "batch", source, out, "--quiet", *SETTINGS, *options]
    return subprocess.Popen([str(argument) for argument in call])


def lines_of(out):
    """Whole lines of all records."""
    content = b"".join(
        path.read_bytes().rpartition(b"\n")[0] + b"\n"
        for path in (out / ".batch" / "record").rglob("*.jsonl")
        if path.name != "shards.jsonl"
    )
    return [json.loads(line) for line in content.splitlines() if line]


def count_of(out):
    folder = out / ".batch" / "record"
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


def called(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def disturbed(begin, victims, out, seed):
    """Start a batch again and again, and kill at random moments.

    Args:
        begin: starts who leads it.
        victims: what kills one, and how often, by who is killed; and says if it did. Leaders are
            among them without it.

    Returns: how often each was killed.
    """
    chance = random.Random(seed)
    order = [who for who, (_, times) in victims.items() for _ in range(times)]
    chance.shuffle(order)
    killed = dict.fromkeys(victims, 0)
    leader = begin()
    for who in order:
        # A leader dies early now and then, before there is a worker.
        early = who == "leader" and chance.random() < 0.25
        wanted = count_of(out) + (0 if early else chance.randrange(1, PICTURES // 25))
        while count_of(out) < wanted and leader.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.random() * (3 if early else 0.2))
        assert leader.poll() is None, "it ended before it was killed so often"
        if who == "leader":
            killed[who] += kill(leader.pid)
            leader.wait()
            leader = begin()
        else:
            killed[who] += victims[who][0](leader, chance)
    assert leader.wait() == 0
    return killed


def kill_worker(leader, chance):
    """One of a local engine."""
    there = [pid for pid in children(leader.pid) if b"spawn_main" in called(pid)]
    return bool(there) and kill(chance.choice(there))


def require_each_once(out, undisturbed):
    """Each picture has one line, each line is true, and nothing else is left."""
    lines = lines_of(out)
    assert len({line["key"] for line in lines}) == len(lines) == PICTURES
    assert {line["status"] for line in lines} == {"done"}
    made = results(out)
    assert made == undisturbed
    for line in lines:
        assert hashlib.sha256(made[line["target"]]).hexdigest() == line["sha256"]
    assert [*(out / ".batch").rglob("*.tmp")] == []


def test_processes(source, undisturbed, tmp_path):
    victims = {"leader": (None, 8), "worker": (kill_worker, 12)}
    out = tmp_path / "out"
    killed = disturbed(lambda: start(source, out, "--processes", "2"), victims, out, seed=1)
    assert killed["leader"] == 8
    assert killed["worker"] > 6  # there may have been none at the time
    require_each_once(out, undisturbed)


@pytest.fixture
def cluster(monkeypatch):
    """Ray's, of three machines of one processor."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else it takes what others leave
    pytest.importorskip("ray", reason="pip install 'flowkit[ray]'")
    from ray.cluster_utils import Cluster

    few = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args=few)
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80_000_000)
    yield made
    made.shutdown()


def kill_actor(cluster, chance):
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    there = [pid for raylet in raylets for pid in children(raylet) if b"ray::Hand" in called(pid)]
    return bool(there) and kill(chance.choice(there))


def lose_machine(cluster):
    """One is gone without a word."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    return True


def test_ray(source, undisturbed, cluster, tmp_path):
    victims = {
        "leader": (None, 8),
        "worker": (lambda _, chance: kill_actor(cluster, chance), 12),
        "machine": (lambda *_: lose_machine(cluster), 1),
    }
    out = tmp_path / "out"
    ray = ["--engine", "ray", "--ray-address", cluster.address]
    killed = disturbed(lambda: start(source, out, *ray), victims, out, seed=2)
    assert (killed["leader"], killed["machine"]) == (8, 1)
    assert killed["worker"] > 6  # there may have been none at the time
    require_each_once(out, undisturbed)


def test_shards(undisturbed, source, tmp_path):
    """Of fifty pictures each, into shards."""
    for number in range(0, PICTURES, 50):
        shard = shard_of(range(number, number + 50))
        (tmp_path / f"train-{number:04}.tar").write_bytes(shard)
    victims = {"leader": (None, 3), "worker": (kill_worker, 6)}
    out = tmp_path / "out"
    shards = tmp_path / "train-*.tar"
    disturbed(lambda: start(shards, out, "--processes", "2"), victims, out, seed=3)
    lines = lines_of(out)
    assert len({line["key"] for line in lines}) == len(lines) == PICTURES
    bright = {path.rpartition("/")[2]: content for path, content in undisturbed.items()}
    for number in range(0, PICTURES, 50):
        held = members_of(results(out)[f"train-{number:04}.tar"])
        names = [
            f"{n:04}.{ending}" for n in range(number, number + 50) for ending in ("png", "txt")
        ]
        assert list(held) == names
        assert all(held[name] == bright[name] for name in names[::2])
    assert [*(out / ".batch" / "partial").iterdir()] == []
