"""A batch ends every picture once: from folders, lists and shards, into files and shards, whatever
happens on the way."""

import errno
import io
import json
import os
import tarfile

import fsspec
import pytest
from batches import (
    Here,
    batch,
    dark,
    members_of,
    recipe_of,
    results,
    shard_of,
    tar_of,
    write_folder,
)
from PIL import Image

from llflow import enhancement
from llflow.batch import source as sources
from llflow.batch.lead import BatchStopped, Lead
from llflow.batch.lock import Taken, alone
from llflow.batch.manifest import ManifestError
from llflow.batch.part import CannotWrite, Died, Part, Stopped
from llflow.batch.pins import Different, pin, require_same
from llflow.batch.place import Place, PlaceError
from llflow.batch.record import Record, RecordError
from llflow.batch.results import Shard
from llflow.batch.worker import OtherWeights, Worker
from llflow.errors import UsageError
from llflow.network import checkpoint
from llflow.picture import files
from llflow.settings import Settings


@pytest.fixture(scope="module")
def folded(nano):
    return nano.fold()


@pytest.fixture
def recipe(weights, folded, monkeypatch):
    """Workers have their weights at once."""
    monkeypatch.setattr(checkpoint, "load", lambda _: folded)
    return recipe_of(weights)


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


def status_of(lines):
    return {line["key"]: line["status"] for line in lines}


def whole_record(out, name="pictures"):
    path = out / ".batch" / "record" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_as_enhance_makes_it(folded, recipe, tmp_path):
    source = write_folder(tmp_path / "in", 3)
    (source / "a" / "notes.txt").write_text("not a picture")
    (source / "a" / ".hidden.png").write_bytes(dark(9))
    lines, _ = batch(source, tmp_path / "out", recipe)
    made = results(tmp_path / "out")
    assert list(made) == ["a/0000.png", "a/0002.png", "b/0001.png"]
    bright = enhancement.brighten(folded, files.read(source / "b" / "0001.png"))
    files.write(tmp_path / "alone.png", bright)
    assert made["b/0001.png"] == (tmp_path / "alone.png").read_bytes()
    assert whole_record(tmp_path / "out") == lines
    assert {line["status"] for line in lines} == {"done"}
    assert [len(made[line["target"]]) for line in lines] == [line["bytes"] for line in lines]


def test_two_results_of_one_name_in_a_folder(recipe, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    Image.open(io.BytesIO(dark(0))).save(source / "x.bmp")
    (source / "x.png").write_bytes(dark(1))
    lines, _ = batch(source, tmp_path / "out", recipe_like(recipe, format="PNG"))
    assert status_of(lines) == {"x.bmp": "done", "x.png": "failed"}
    assert "both be x.png" in lines[1]["reason"]


def recipe_like(recipe, **settings):
    changed = recipe.settings.model_copy(update=settings)
    return type(recipe)(**{**vars(recipe), "settings": changed})


def write_list(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="Parquet takes flowkit[batch]")
        pyarrow.parquet = pytest.importorskip("pyarrow.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_list(ending, recipe, tmp_path):
    source = write_folder(tmp_path / "in", 2)
    there = str(source / "b" / "0001.png")
    rows = [
        {"source": "in/a/0000.png", "key": None, "label": 3},
        {"source": there, "key": "x/y.png", "label": 4},
        {"source": f"file://{there}", "key": "z.png", "label": 4},
        {"source": "gone.png", "key": None, "label": 5},
    ]
    lines, _ = batch(write_list(tmp_path / f"list{ending}", rows), tmp_path / "out", recipe)
    assert list(results(tmp_path / "out")) == ["in/a/0000.png", "x/y.png", "z.png"]
    assert lines[3]["reason"] == "No such file or directory"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"source": "a.png"}\n{"source"', "row 2: not JSON"),
        ('{"key": "a.png"}', "row 1: expected a path or address as 'source', got None"),
        ('{"source": "../a.png"}', "without '.', '..'"),
        ('{"source": "/a.png"}', "row 1: expected a name below OUT"),
        ('{"source": "s3://b/a.png"}', "row 1: expected a name below OUT"),
        ('{"source": "a.png", "key": ".batch/x.png"}', "has the record"),
        ('{"source": "a.png", "key": 3}', "got 3"),
        ('{"source": "a.png"}\n{"source": "b.png", "key": "a.png"}', "rows 1 and 2 would both be"),
        ("[1]", "expected an object"),
    ],
)
def test_a_list_that_is_wrong_is_refused_before_the_work(text, words, tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text(text)
    with pytest.raises(ManifestError, match=words):
        sources.listing(sources.source_of(str(path), None, to_shards=False))


@pytest.mark.parametrize("as_shards", [True, False])
def test_shards(as_shards, recipe, tmp_path):
    for number in range(2):
        shard = shard_of(range(3 * number, 3 * number + 3))
        (tmp_path / f"train-{number}.tar").write_bytes(shard)
    lines, _ = batch(tmp_path / "train-*.tar", tmp_path / "out", recipe, as_shards=as_shards)
    alone = tmp_path / "alone"
    batch(write_folder(tmp_path / "in", 6), alone, recipe)
    bright = {path.rpartition("/")[2]: content for path, content in results(alone).items()}
    made = results(tmp_path / "out")
    assert len(lines) == 6
    if not as_shards:
        assert made == {f"train-{name > '0002.png':d}/{name}": bright[name] for name in bright}
        return
    assert list(made) == ["train-0.tar", "train-1.tar"]
    held = members_of(made["train-1.tar"])
    names = [f"{number:04}.{ending}" for number in (3, 4, 5) for ending in ("png", "txt")]
    assert list(held) == names
    assert held["0004.png"] == bright["0004.png"]
    assert held["0004.txt"] == b"picture 4"
    assert [line["pictures"] for line in whole_record(tmp_path / "out", "shards")] == [[3, 0]] * 2


def test_shards_of_a_folder(recipe, tmp_path):
    source = write_folder(tmp_path / "in", 5)
    batch(source, tmp_path / "out", recipe, as_shards=True, per_shard=2)
    made = results(tmp_path / "out")
    assert [list(members_of(content)) for content in made.values()] == [
        ["a/0000.png", "a/0002.png"],
        ["a/0004.png", "b/0001.png"],
        ["b/0003.png"],
    ]


@pytest.fixture(params=["folder", "shards", "folder to shards", "shards to files"])
def kind(request, tmp_path):
    """A source of six pictures, one of them broken, and how `batch` is to take it."""
    bad = b"\x89PNG\r\n\x1a\n" + bytes(40)
    if request.param.startswith("folder"):
        source = write_folder(tmp_path / "in", 6)
        (source / "a" / "0002.png").write_bytes(bad)
        shards = {"as_shards": True, "per_shard": 4} if request.param != "folder" else {}
        return source, shards, "a/0002.png"
    files = members_of(shard_of(range(6))) | {"0002.png": bad}
    (tmp_path / "train.tar").write_bytes(tar_of(files))
    how = {} if request.param == "shards" else {"as_shards": False}
    return tmp_path / "train.tar", how, "0002.png"


def test_interrupted_after_every_picture(kind, recipe, tmp_path):
    source, how, broken = kind
    once, _ = batch(source, tmp_path / "once", recipe, **how)
    status = status_of(once)
    assert [key for key, value in status.items() if value == "failed"] == [broken]
    begun = []
    for _ in range(6):
        lines, keys = batch(source, tmp_path / "out", recipe, stop=1, **how)
        assert len(lines) == 1
        begun += keys
    lines, keys = batch(source, tmp_path / "out", recipe, **how)
    assert (lines, keys) == ([], [])
    assert begun == list(status)  # each of them once
    assert results(tmp_path / "out") == results(tmp_path / "once")


def test_what_failed_is_done_again_when_asked(kind, recipe, tmp_path):
    source, how, broken = kind
    out = tmp_path / "out"
    batch(source, out, recipe, **how)
    _, begun = batch(source, out, recipe, retry=True, **how)
    assert begun == [broken]
    if source.is_dir():
        (source / broken).write_bytes(dark(2))
    else:
        source.write_bytes(shard_of(range(6)))
    lines, begun = batch(source, out, recipe, retry=True, **how)
    assert begun == [broken]
    assert status_of(lines) == {broken: "done"}
    assert batch(source, out, recipe, retry=True, **how) == ([], [])
    batch(source, tmp_path / "once", recipe, **how)
    assert results(out) == results(tmp_path / "once")


def test_a_picture_at_which_workers_die(kind, recipe, tmp_path):
    source, how, broken = kind
    keys = list(status_of(batch(source, tmp_path / "once", recipe, **how)[0]))
    once, twice = keys[0], keys[-1]
    lines, begun = batch(source, tmp_path / "out", recipe, dies={once: 1, twice: 2}, **how)
    ended = {line["key"]: line for line in lines}
    assert status_of(lines) == dict.fromkeys(keys, "done") | {broken: "failed", twice: "failed"}
    assert ended[twice]["reason"] == "workers die of it: killed, 2 times"
    assert sorted(begun) == sorted([*keys, once, twice])
    lines, _ = batch(source, tmp_path / "out", recipe, retry=True, **how)
    assert status_of(lines)[twice] == "done"
    assert results(tmp_path / "out") == results(tmp_path / "once")


def test_a_worker_that_dies_after_its_picture(kind, recipe, tmp_path):
    source, how, broken = kind
    keys = list(status_of(batch(source, tmp_path / "once", recipe, **how)[0]))
    dies = dict.fromkeys((keys[0], keys[-1], broken), "after")
    lines, begun = batch(source, tmp_path / "out", recipe, dies=dies, **how)
    assert sorted(begun) == sorted(line["key"] for line in lines) == sorted(keys)
    assert results(tmp_path / "out") == results(tmp_path / "once")


def test_killed_between_the_rename_and_the_record(recipe, tmp_path, monkeypatch):
    source, out = tmp_path / "train.tar", tmp_path / "out"
    source.write_bytes(shard_of(range(3)))
    batch(source, tmp_path / "once", recipe)
    with monkeypatch.context() as patched:
        patched.setattr(Lead, "_close", lambda self, work: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            batch(source, out, recipe)
    assert (out / "train.tar").exists()
    assert batch(source, out, recipe) == ([], [])
    assert results(out) == results(tmp_path / "once")


def test_a_worker_that_lives_on_does_no_harm(recipe, tmp_path):
    """It is at the same shard as the one that is believed, before and after that has ended."""
    source, out = tmp_path / "train.tar", tmp_path / "out"
    source.write_bytes(shard_of(range(4)))
    batch(source, tmp_path / "once", recipe)
    part = Part("train", shard=str(source), result="train.tar")
    early, late = (Worker(recipe, str(out)).work(part) for _ in range(2))
    next(early), next(early), next(late)
    batch(source, out, recipe, stop=2)
    list(early)
    lines, _ = batch(source, out, recipe)
    assert len(lines) == 2
    with pytest.raises(CannotWrite):
        list(late)
    assert results(out) == results(tmp_path / "once")


def test_a_record_whose_last_line_is_cut(recipe, tmp_path):
    source, out = write_folder(tmp_path / "in", 4), tmp_path / "out"
    batch(source, out, recipe)
    path = out / ".batch" / "record" / "pictures.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    lines, _ = batch(source, out, recipe)
    assert [line["key"] for line in lines] == ["b/0003.png"]
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [
        json.loads(line)["key"] for line in whole.decode().splitlines()
    ]
    path.write_bytes(b'{"key": 1}\n' + whole)
    with pytest.raises(RecordError, match=r"pictures\.jsonl:1: not a line"):
        batch(source, out, recipe)


def test_a_shard_that_is_cut_off_is_never_taken_for_whole(recipe, tmp_path):
    whole = shard_of(range(3))
    end = len(whole.rstrip(b"\0"))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        headers = [member.offset for member in tar][1:]
    cuts = [headers[1], headers[1] + 100, headers[2] + 512 + 10, end, -(-end // 512) * 512]
    (tmp_path / "none.tar").write_bytes(b"")
    (tmp_path / "wrong.tar").write_bytes(b"no tar at all" * 100)
    for number, cut in enumerate(cuts):
        (tmp_path / f"{number}.tar").write_bytes(whole[:cut])
    lines, _ = batch(tmp_path / "*.tar", tmp_path / "out", recipe)
    failed = {line["key"] for line in lines if line["status"] == "failed"}
    assert {*map(str, range(len(cuts))), "none", "wrong"} <= failed
    assert len(members_of(results(tmp_path / "out")["0.tar"])) == 2
    assert batch(tmp_path / "*.tar", tmp_path / "out", recipe) == ([], [])


def test_odd_members_of_a_shard(recipe, tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, kind in [
            ("folder", tarfile.DIRTYPE),
            ("0.png", tarfile.REGTYPE),
            ("link.png", tarfile.SYMTYPE),
            ("0.png", tarfile.REGTYPE),
            ("../out.png", tarfile.REGTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            content = dark(0) if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (tmp_path / "x.tar").write_bytes(archive.getvalue())
    lines, _ = batch(tmp_path / "x.tar", tmp_path / "out", recipe, as_shards=False)
    assert {line["key"]: line["reason"] for line in lines} == {
        "0.png": None,
        "link.png": "it is a link, not a file",
        "0.png#2": "the shard has this name twice",
        "../out.png": "expected a name below OUT, without '.', '..' and empty parts",
    }
    assert list(results(tmp_path / "out")) == ["x/0.png"]


def test_shards_with_the_same_names_give_each_its_files(recipe, tmp_path):
    for number, name in enumerate(["a.tar", "b.tar", ".batch.tar"]):
        (tmp_path / name).write_bytes(tar_of({"0.png": dark(number)}))
    lines, _ = batch(tmp_path / "*.tar", tmp_path / "out", recipe, as_shards=False)
    assert [line["reason"] for line in lines] == [".batch/ has the record", None, None]
    made = results(tmp_path / "out")
    assert list(made) == ["a/0.png", "b/0.png"] == [line["target"] for line in lines[1:]]
    assert made["a/0.png"] != made["b/0.png"]


def test_in_an_object_store(recipe, memory):
    for number in range(4):
        memory.pipe(f"/in/a/{number:04}.png", dark(number))
    memory.pipe("/in/notes.txt", b"")
    memory.pipe("/shards/x/train-0.tar", shard_of(range(3)))
    lines, _ = batch("memory://in", "memory://out", recipe, stop=2)
    more, begun = batch("memory://in", "memory://out", recipe)
    assert [line["key"] for line in lines + more] == [f"a/{n:04}.png" for n in range(4)]
    assert len(begun) == 2
    assert len(memory.find("/out/a")) == 4
    pieces = [
        json.loads(line)
        for line in memory.cat("/out/.batch/record/pictures.00000001.jsonl").splitlines()
    ]
    assert pieces == lines
    lines, _ = batch("memory://shards/*/*.tar", "memory://out2", recipe)
    assert len(lines) == 3
    held = members_of(memory.cat("/out2/x/train-0.tar"))
    assert held["0002.png"] == memory.cat("/out/a/0002.png")
    assert batch("memory://shards/*/*.tar", "memory://out2", recipe) == ([], [])


def test_a_shard_in_an_object_store_is_done_when_it_is_there(recipe, memory):
    memory.pipe("/in/train.tar", shard_of(range(3)))
    lines, begun = batch("memory://in/train.tar", "memory://out", recipe, dies={"0002.png": 1})
    assert len(lines) == 3
    assert begun == [f"{n:04}.png" for n in (0, 1, 2, 0, 1, 2)]
    assert len(members_of(memory.cat("/out/train.tar"))) == 6


def test_an_address_that_nothing_knows():
    with pytest.raises(PlaceError, match="nosuch://x"):
        Place("nosuch://x")


def test_what_has_to_stay_the_same(recipe, tmp_path):
    out = Place(str(tmp_path / "out"))
    assert not require_same(out, recipe.pins())
    pin(out, recipe.pins())
    assert require_same(out, recipe.pins())
    with pytest.raises(Different, match=r"began with brightness 0\.0, and now it is 1\.0"):
        require_same(out, recipe_like(recipe, brightness=1.0).pins())
    other = type(recipe)(**{**vars(recipe), "sha256": "abc"})
    with pytest.raises(Different, match="weights' SHA-256"):
        require_same(out, other.pins())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jpg").touch()
    with pytest.raises(Different, match="has files"):
        require_same(Place(str(tmp_path / "mine")), recipe.pins())


def test_other_weights_on_a_machine(recipe, tmp_path):
    with pytest.raises(OtherWeights, match="on every machine"):
        Worker(type(recipe)(**{**vars(recipe), "sha256": "abc"}), str(tmp_path))


def test_one_leader_at_a_time(tmp_path):
    out = Place(str(tmp_path))
    with alone(out), pytest.raises(Taken), alone(out):
        pass
    with alone(out):
        pass


def test_a_full_disk_is_no_pictures_fault(recipe, tmp_path, monkeypatch):
    source = write_folder(tmp_path / "in", 2)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Place, "take", full)
        with pytest.raises(CannotWrite, match="No space left on device"):
            batch(source, tmp_path / "out", recipe)
    lines, _ = batch(source, tmp_path / "out", recipe)
    assert set(status_of(lines).values()) == {"done"}


def test_a_name_that_is_too_long_is(recipe, tmp_path):
    source = write_folder(tmp_path / "in", 1)
    rows = [{"source": "in/a/0000.png", "key": f"{'x' * 300}.png"}]
    lines, _ = batch(write_list(tmp_path / "list.jsonl", rows), tmp_path / "out", recipe)
    assert source.exists()
    assert "File name too long" in lines[0]["reason"]


def test_a_limit_is_named_as_its_option(recipe, tmp_path):
    source = write_folder(tmp_path / "in", 1)
    small = type(recipe)(**{**vars(recipe), "max_pixels": 100})
    lines, _ = batch(source, tmp_path / "out", small)
    reason = "too large: 16×16 pixels, the limit is 100 in all (--max-pixels)"
    assert lines[0]["reason"] == reason


class Dying(Here):
    """Its workers die before they begin, or can't."""

    def __init__(self, event):
        super().__init__(None)
        self.event = event

    def give(self, number, part):
        self._at = number, part

    def events(self):
        number, _ = self._at
        self._at = None
        return [(number, self.event)]


@pytest.mark.parametrize("event", [Died("killed"), Stopped("no memory")])
def test_workers_that_never_begin_end_the_batch(event, tmp_path):
    source = sources.source_of(str(write_folder(tmp_path / "in", 2)), None, to_shards=False)
    lead = Lead(sources.parts(source, None), Place(str(tmp_path / "out")))
    with pytest.raises(BatchStopped, match=event.reason):
        list(lead.run(Dying(event)))


def test_a_shard_has_neither_time_nor_owner(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    shard = Shard(Place(str(tmp_path / "out")), Part("x", result="x.tar"), tmp_path)
    shard.copy("n" * 200 + "ü.txt", tmp_path / "a")
    shard.finish()
    with tarfile.open(tmp_path / "out" / "x.tar") as tar:
        (member,) = tar.getmembers()
    assert (member.name, member.mtime, member.uid) == ("n" * 200 + "ü.txt", 0, 0)


def test_a_records_pieces_in_an_object_store(memory):
    out = Place("memory://out")
    for number in range(2):
        record = Record(out, "pictures")
        record.add({"key": str(number), "status": "done"})
        record.close()
    assert Record(out, "pictures").ended == {"0": "done", "1": "done"}
    assert Record(out, "other").ended == {}


def test_sources_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="expected a folder, a list"):
        sources.source_of(str(tmp_path / "gone"), None, to_shards=False)
    with pytest.raises(UsageError, match="no such shard"):
        sources.source_of(str(tmp_path / "*.tar"), None, to_shards=False)
    with pytest.raises(FileNotFoundError):
        sources.source_of(str(tmp_path / "gone.jsonl"), None, to_shards=False)
    with pytest.raises(UsageError, match="taken for pictures"):
        sources.require_apart(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(UsageError, match="taken for pictures"):
        sources.require_apart(str(tmp_path), f"file://{tmp_path}/out")
    sources.require_apart(str(tmp_path / "out"), str(tmp_path / "out2"))


def test_results_of_shards_are_none_of_the_next_start(tmp_path):
    for within in ("**/*.tar", "*/s.tar"):
        with pytest.raises(UsageError, match="taken for pictures"):
            sources.require_apart(str(tmp_path / within), str(tmp_path / "out"))
    sources.require_apart(str(tmp_path / "s*.tar"), str(tmp_path / "out"))
    sources.require_apart(str(tmp_path / "in" / "*" / "s.tar"), str(tmp_path / "out"))


def test_who_only_reads_a_record_leaves_it_alone(tmp_path):
    out = Place(str(tmp_path))
    record = Record(out, "pictures")
    record.add({"key": "a", "status": "done"})
    record.close()
    path = tmp_path / ".batch" / "record" / "pictures.jsonl"
    path.write_bytes(path.read_bytes() + b'{"key": "b"')  # as one is that is just being written
    before = path.read_bytes()
    assert Lead(iter(()), out).counts() == (1, 0)
    assert path.read_bytes() == before


def test_the_command(llflow, weights, tmp_path):
    """One process beside this one."""
    source, out = write_folder(tmp_path / "in", 2), tmp_path / "out"
    (source / "a" / "bad.png").write_bytes(b"no")
    call = ["batch", source, out, "--weights", weights, "--precision", "float32"]
    assert llflow(*call, "--dry-run") == (0, "3 pictures in all, 3 to do\n", "")
    assert not out.exists()
    code, said, _ = llflow(*call, "--processes", 1, "--json")
    *lines, summary = map(json.loads, said.splitlines())
    assert code == 1
    assert summary["summary"] | {"seconds": 0} == {
        "done": 2,
        "failed": 1,
        "seconds": 0,
        "all done": 2,
        "all failed": 1,
    }
    assert lines == whole_record(out)
    code, said, _ = llflow(*call, "--dry-run")
    assert said == "3 pictures in all, 2 done and 1 failed before, 0 to do\n"
    code, said, _ = llflow(*call, "--dry-run", "--retry-failed")
    assert said == "3 pictures in all, 2 done and 1 failed before, 1 to do\n"
    (source / "a" / "bad.png").rename(source / "a" / "other.png")
    code, said, _ = llflow(*call, "--dry-run")
    assert said == "3 pictures in all, 2 done and 1 failed before, 1 to do\n"
    code, _, problem = llflow(*call, "--brightness", "0.5")
    assert code == 2
    assert "began with brightness 0.0, and now it is 0.5" in problem
    assert (
        Settings(precision="float32").record().items()
        <= json.loads((out / ".batch" / "run.json").read_text()).items()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone", "out"], "expected a folder, a list"),
        (["in", "in/out"], "taken for pictures"),
        (["in", "in"], "taken for pictures"),
        (["in", "used"], "has files"),
        (["empty", "out"], "empty: no pictures; of shards, say '"),
        (["empty.jsonl", "out"], "empty.jsonl: no pictures. "),
        (["in", "out", "--per-shard", "2"], "--per-shard is for --as shards"),
        (["in", "out", "--format", "jpeg", "--depth", "16"], "JPEG holds 8 bits a channel"),
        (["in", "out", "--format", "png", "--quality", "90"], "PNG has no quality"),
        (["in", "-"], "expected a path"),
        (["in", "nosuch://bucket"], "nosuch"),
        (["in", "out", "--weights", "gone.safetensors"], "no such file"),
        (["in", "out", "--engine", "ray"], "ray"),
    ],
)
def test_what_the_command_refuses(arguments, words, llflow, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.jpg").touch()
    before = sorted(tmp_path.rglob("*"))
    given = arguments if "--weights" in arguments else [*arguments, "--weights", weights]
    code, said, problem = llflow("batch", *given)
    assert (code != 0, said, len(problem.splitlines())) == (True, "", 1)
    assert words in problem
    assert sorted(tmp_path.rglob("*")) == before
