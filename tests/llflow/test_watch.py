"""A watched folder: each picture once, none by halves, whatever comes how and when."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image
from short_runs import PROGRAM

from llflow import jobs
from llflow.watch import Changed, require_apart, watch

QUICK = {"settled": 0.05, "stuck": 0.4, "look": 0.01}


def encoded(seed=0, size=(24, 16), file_format="PNG"):
    levels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, file_format)
    return file.getvalue()


class Folder:
    """A watch that copies pictures, in a thread."""

    def __init__(self, folder, out, brighten=lambda picture: picture, **options):
        self.outcomes, self.ended = [], threading.Event()
        self.plan = partial(jobs.plan, [folder], out, recursive=True, more_to_come=True, **options)
        self.brighten = brighten

        def do(job, safely):
            (outcome,) = jobs.run([job], safely(self.brighten))
            return outcome

        def plan():
            if self.ended.is_set():
                raise InterruptedError
            return self.plan()

        def go():
            try:
                for outcome in watch(plan, do, **QUICK):
                    self.outcomes.append(outcome)
            except InterruptedError:
                pass

        self.thread = threading.Thread(target=go)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(20)

    def wait(self, number, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(self.outcomes) < number:
            time.sleep(0.01)
        time.sleep(0.2)  # for one too many
        return [(outcome.job.source.name, outcome.status) for outcome in self.outcomes]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_pictures_as_they_come(folder, tmp_path):
    (folder / "first.png").write_bytes(encoded(1))
    with Folder(folder, tmp_path / "out") as watched:
        assert watched.wait(1) == [("first.png", "done")]
        (folder / "within").mkdir()
        (folder / "within" / "second.png").write_bytes(encoded(2))
        os.rename(folder / "within" / "second.png", folder / "within" / "third.png")
        assert watched.wait(2) == [("first.png", "done"), ("third.png", "done")]
    assert (tmp_path / "out" / "within" / "third.png").exists()


def test_a_slow_copy_is_waited_for(folder, tmp_path):
    content = encoded(size=(200, 100))
    with Folder(folder, tmp_path / "out") as watched, (folder / "slow.png").open("wb") as file:
        for start in range(0, len(content), len(content) // 5 + 1):
            file.write(content[start : start + len(content) // 5 + 1])
            file.flush()
            time.sleep(0.15)  # longer than it takes to be tried
            assert start + len(content) // 5 + 1 >= len(content) or not watched.outcomes
        assert watched.wait(1) == [("slow.png", "done")]
    expected = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "slow.png")), expected)


def test_a_file_that_is_never_finished_is_named_once_and_then_done(folder, tmp_path):
    content = encoded()
    (folder / "half.png").write_bytes(content[: len(content) // 2])
    with Folder(folder, tmp_path / "out") as watched:
        assert watched.wait(1) == [("half.png", "failed")]
        assert "truncated" in watched.outcomes[0].problem
        assert watched.wait(2, seconds=1) == [("half.png", "failed")]
        (folder / "half.png").write_bytes(content)
        assert watched.wait(2) == [("half.png", "failed"), ("half.png", "done")]


def test_a_file_that_changes_meanwhile_is_begun_anew(folder, tmp_path):
    source = folder / "a.png"
    source.write_bytes(encoded(1))
    changes = iter([True])

    def brighten(picture):
        if next(changes, False):
            source.write_bytes(encoded(2))
        return picture

    with Folder(folder, tmp_path / "out", brighten) as watched:
        assert watched.wait(1) == [("a.png", "done")]
    result = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert np.array_equal(result, np.asarray(Image.open(io.BytesIO(encoded(2)))))
    assert issubclass(Changed, ValueError)


def test_results_and_what_is_hidden_or_no_picture_are_left_alone(folder):
    (folder / "a.png").write_bytes(encoded())
    (folder / ".b.png").write_bytes(encoded())
    (folder / "notes.txt").write_text("no picture")
    with Folder(folder, folder / "out") as watched:
        assert watched.wait(2) == [("a.png", "done"), ("notes.txt", "other")]
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


def test_what_would_be_written_to_one_place_is_named(folder, tmp_path):
    (folder / "a.png").write_bytes(encoded(1))
    (folder / "a.jpg").write_bytes(encoded(2, file_format="JPEG"))
    with Folder(folder, tmp_path / "out", file_format="TIFF") as watched:
        assert sorted(watched.wait(2)) == [("a.jpg", "done"), ("a.png", "failed")]
    assert "would be written here" in next(o.problem for o in watched.outcomes if o.problem)


def test_after_a_restart_what_is_done_stays(folder, tmp_path):
    for name in "abc":
        (folder / f"{name}.png").write_bytes(encoded())
    with Folder(folder, tmp_path / "out") as watched:
        assert len(watched.wait(3)) == 3
    (folder / "d.png").write_bytes(encoded())
    with Folder(folder, tmp_path / "out") as watched:
        assert watched.wait(1) == [("d.png", "done")]


def test_results_need_another_place(folder, tmp_path):
    with pytest.raises(jobs.PlanError, match="is the folder that is watched"):
        require_apart(folder, folder / ".." / "in")
    with pytest.raises(jobs.PlanError, match="expected a folder to watch"):
        require_apart(tmp_path / "none", None)


def test_wrong_usage(llflow, folder, tmp_path):
    (folder / "a.png").write_bytes(encoded())
    for more, words in (
        (["--overwrite"], "none of --overwrite"),
        (["--dry-run"], "none of --overwrite"),
        ([folder / "a.png"], "one folder"),
        (["-o", folder], "is the folder that is watched"),
    ):
        code, _, err = llflow("enhance", folder, "--watch", *more)
        assert code == 2
        assert words in err


def command(folder, out, weights, said):
    """`llflow enhance --watch` in a process of its own, which says what it does in a file."""
    argv = [sys.executable, PROGRAM, "enhance", folder, "-o", out, "--weights", weights]
    argv += ["--device", "cpu", "--recursive", "--watch", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with said.open("a") as file:
        return subprocess.Popen(argv, stdout=file, env=environment)


@pytest.mark.slow
def test_300_files_slowly_by_rename_and_in_bursts_with_restarts(weights, folder, tmp_path):
    """Killed and started again three times meanwhile; each result there once, and whole."""
    out = tmp_path / "out"
    contents = {f"{index:03}.png": encoded(index, (40, 30)) for index in range(300)}
    names = [*contents]
    writing = threading.Thread(target=_fill, args=(folder, tmp_path, contents, names))
    writing.start()
    said = tmp_path / "said"
    for _ in range(3):
        process = command(folder, out, weights, said)
        time.sleep(20)
        process.kill()
        process.wait()
    process = command(folder, out, weights, said)
    writing.join()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and len([*out.glob("[!.]*.png")]) < len(names):
        time.sleep(0.5)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    process.wait()
    assert process.returncode == 130
    assert sorted(path.name for path in out.glob("[!.]*")) == names
    for name in names:
        assert Image.open(out / name).size == (40, 30)
        Image.open(out / name).load()
    said = said.read_text().splitlines()
    done = [line for line in said if '"status": "done"' in line]
    assert len(done) <= len(names)  # one that was killed may not have said so
    assert len(done) == len(set(done))
    assert not [line for line in said if '"failed"' in line]


def _fill(folder, elsewhere, contents, names):
    for name in names[:40]:  # slowly, in place
        with (folder / name).open("wb") as file:
            half = len(contents[name]) // 2
            file.write(contents[name][:half])
            file.flush()
            time.sleep(0.5)
            file.write(contents[name][half:])
    for name in names[40:120]:  # by rename
        (elsewhere / name).write_bytes(contents[name])
        os.rename(elsewhere / name, folder / name)
        time.sleep(0.2)
    for name in names[120:]:  # in bursts
        (folder / name).write_bytes(contents[name])
        if int(name[:3]) % 60 == 0:
            time.sleep(4)
