"""Which file goes where, and going on past the bad ones."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llflow.enhancement import NotFinite
from llflow.jobs import Job, Outcome, PlanError, inputs_and_out, plan, run
from llflow.picture import files


def picture(path, color=(10, 20, 30), size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, format="PNG")
    return path


def targets(jobs, below):
    return [str(job.target.relative_to(below)) for job in jobs]


def negative(dark):
    return dark.with_image(1 - dark.image)


def level(path):
    return np.asarray(Image.open(path))[0, 0].tolist()


# --- which file goes where -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        (None, "photo_bright.png"),
        ("new.jpg", "new.jpg"),
        ("new", "new/photo.png"),
        ("there", "there/photo.png"),
        ("a/b/new.tif", "a/b/new.tif"),
    ],
)
def test_one_picture(tmp_path, out, expected):
    source = picture(tmp_path / "photo.png")
    (tmp_path / "there").mkdir()
    assert plan([source], out and tmp_path / out, recursive=False) == [
        Job(source, tmp_path / expected)
    ]


def test_a_name_without_suffix(tmp_path):
    source = picture(tmp_path / "photo")
    assert plan([source], None, recursive=False) == [Job(source, tmp_path / "photo_bright")]


@pytest.mark.parametrize("out", ["out", "p/out", "out.jpg/"])
def test_a_folder_keeps_its_structure(tmp_path, out):
    for name in ("a.png", "b/c.png", "b/d/e.jpg", "b/.hidden", ".git/config"):
        picture(tmp_path / "p" / name)
    if out.endswith("/"):
        (tmp_path / out).mkdir()
    jobs = plan([tmp_path / "p"], tmp_path / out, recursive=True)
    assert targets(jobs, tmp_path / out) == ["a.png", "b/c.png", "b/d/e.jpg"]
    flat = plan([tmp_path / "p"], tmp_path / out, recursive=False)
    assert targets(flat, tmp_path / out) == ["a.png"]


def test_results_among_the_inputs_are_not_enhanced_again(tmp_path):
    picture(tmp_path / "p" / "a.png")
    picture(tmp_path / "p" / "out" / "a.png")
    jobs = plan([tmp_path / "p"], tmp_path / "p" / "out", recursive=True)
    assert [job.source for job in jobs] == [tmp_path / "p" / "a.png"]


@pytest.mark.parametrize("folder", ["p", ".", "../p", "sub/.."])
def test_without_out_a_folder_lies_beside_its_input(tmp_path, monkeypatch, folder):
    picture(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "sub").mkdir()
    monkeypatch.chdir(tmp_path if folder == "p" else tmp_path / "p")
    (job,) = plan([Path(folder)], None, recursive=False)
    assert job.target.resolve() == tmp_path / "p_bright" / "a.png"


def test_above_the_current_folder(tmp_path, monkeypatch):
    picture(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "p" / "sub")
    (job,) = plan([Path("..")], None, recursive=False)
    assert job.target.resolve() == tmp_path / "p_bright" / "a.png"


def test_several_inputs(tmp_path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b" / "c.png")
    jobs = plan([a, tmp_path / "b"], tmp_path / "out", recursive=False)
    assert jobs == [Job(a, tmp_path / "out" / "a.png"), Job(b, tmp_path / "out" / "c.png")]


def test_the_same_picture_twice_is_one_job(tmp_path):
    a = picture(tmp_path / "a.png")
    assert plan([a, a], tmp_path / "out", recursive=False) == [Job(a, tmp_path / "out" / "a.png")]


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        (["nothing.png"], "out", "nothing.png: no such file or folder"),
        (["empty"], "out", r"no files in this folder \(--recursive"),
        (["a.png", "b.png"], "b.png", "several results need a folder as OUT; this is a file"),
        (["a.png", "b.png"], "new.png", "need a folder as OUT; this doesn't exist, and names a p"),
        (["p"], "new.png", "several results need a folder"),
        (["a.png"], "new.gif", "expected a name in .png, .jpg"),
        (["a.png"], "text", "expected a name in .png, .jpg"),
        (["a.png"], "a.png", "would replace an input"),
        (["a.png"], ".", "would replace an input"),
        (["a.png"], "link.png", "would replace an input"),
        (["a.png"], "hard.png", "would replace an input"),
        (["p"], "linked", "would replace an input"),
        (["p"], "p", "would replace an input"),
        (["p"], "p/../p", "would replace an input"),
        (["p", "a.png"], "p", "would replace an input"),
        (["a.png", "p"], "out", r"out/a.png: both .*a.png and .*p/a.png would be written here"),
    ],
)
def test_refused(tmp_path, inputs, out, message):
    for name in ("a.png", "b.png", "p/a.png"):
        picture(tmp_path / name)
    (tmp_path / "empty" / "within").mkdir(parents=True)
    (tmp_path / "text").write_text("no suffix")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "a.png")
    (tmp_path / "linked").symlink_to(tmp_path / "p")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(PlanError, match=message):
        plan([tmp_path / name for name in inputs], tmp_path / out, recursive=False)


@pytest.mark.parametrize(
    ("paths", "out"),
    [
        (["a.png"], None),
        (["new"], None),
        (["p"], None),
        (["a.png", "b.png"], None),
        (["a.png", "link.png"], None),
        (["a.png", "loop.png"], None),
        (["a.png", "text"], None),
        (["p", "b.png"], None),
        (["a.png", "p"], "p"),
        (["a.png", "linked"], "linked"),
        (["a.png", "b.png", "p"], "p"),
        (["a.png", "new.png"], "new.png"),
        (["p", "new"], "new"),
    ],
)
def test_what_may_be_anybodys_only_copy_is_an_input(tmp_path, monkeypatch, paths, out):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "p/a.png"):
        picture(tmp_path / name)
    (tmp_path / "text").write_text("no suffix")
    (tmp_path / "link.png").symlink_to("b.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "linked").symlink_to("p")
    expected = paths if out is None else paths[:-1]
    found = inputs_and_out([Path(name) for name in paths])
    assert found == ([Path(name) for name in expected], out and Path(out))


NAMES = st.sampled_from(["a", "b", "a.png", "a_bright", "a_bright.png", "out", "x.jpg"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: Path(*parts))


@given(
    files=st.lists(PATHS, min_size=1, max_size=6),
    chosen=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=3),
    out=st.none() | PATHS,
    recursive=st.booleans(),
)
def test_no_result_replaces_an_input_or_another_result(
    tmp_path_factory, files, chosen, out, recursive
):
    root = tmp_path_factory.mktemp("plan")
    for file in files:
        parents = (root / file).parents
        if not (root / file).exists() and not any(parent.is_file() for parent in parents):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(b"")
    inputs = [Path(*files[index % len(files)].parts[:depth]) for index, depth in chosen]
    try:
        jobs = plan([root / name for name in inputs], out and root / out, recursive=recursive)
    except PlanError:
        return
    assert jobs
    results = {job.target.resolve() for job in jobs}
    assert len(results) == len(jobs)
    assert results.isdisjoint(job.source.resolve() for job in jobs)
    assert all(job.source.is_file() for job in jobs)


def test_links_that_lead_in_a_circle(tmp_path):
    picture(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "up").symlink_to(tmp_path / "p")
    (tmp_path / "p" / "self").symlink_to(tmp_path / "p" / "self")
    jobs = plan([tmp_path / "p"], tmp_path / "out", recursive=True)
    problems = {outcome.job.source.name: outcome.problem for outcome in run(jobs, negative)}
    assert problems == {"a.png": None, "self": os.strerror(errno.ELOOP)}


def test_a_named_link_to_nothing_is_a_bad_file_like_others(tmp_path):
    loop, gone = tmp_path / "loop.png", tmp_path / "gone.png"
    loop.symlink_to(loop)
    gone.symlink_to(tmp_path / "nothing")
    jobs = plan([loop, gone, picture(tmp_path / "a.png")], None, recursive=False)
    assert [outcome.problem for outcome in run(jobs, negative)] == [
        os.strerror(errno.ELOOP),
        os.strerror(errno.ENOENT),
        None,
    ]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "p" / "a.png")
    picture(tmp_path / "p" / "locked" / "b.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    jobs = plan([tmp_path / "p"], tmp_path / "out", recursive=True)
    problems = {outcome.job.source.name: outcome.problem for outcome in run(jobs, negative)}
    assert problems == {"a.png": None, "locked": "Permission denied"}


# --- going on past the bad ones --------------------------------------------------------------


def whole_and_truncated(folder):
    picture(folder / "good1.png")
    picture(folder / "zgood2.png")
    Image.effect_noise((40, 40), 50).save(folder / "short.jpg")
    content = (folder / "short.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(content[: len(content) // 2])
    (folder / "note.txt").write_text("no picture")
    (folder / "empty.png").touch()


def test_one_bad_file_does_not_stop_the_rest(tmp_path):
    whole_and_truncated(tmp_path / "p")
    jobs = plan([tmp_path / "p"], tmp_path / "out", recursive=False)
    outcomes = list(run(jobs, negative))
    assert [o.job.source.name for o in outcomes if o.status == "other"] == ["note.txt"]
    problems = {o.job.source.name: o.problem for o in outcomes if o.status != "other"}
    assert problems.pop("good1.png") is problems.pop("zgood2.png") is None
    assert problems.pop("empty.png") == "the file is empty"
    assert problems.pop("short.jpg").startswith("truncated or damaged")
    assert problems == {}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good1.png", "zgood2.png"]
    assert level(tmp_path / "out" / "good1.png") == [245, 235, 225]


DENIED = PermissionError(errno.EACCES, "Permission denied")
FROM_FILES = [DENIED, OSError("odd"), files.PictureError("odd")]
FROM_NETWORK = [
    NotFinite("odd"),
    OverflowError("math range error"),
    ValueError("odd"),
    MemoryError(),
    RuntimeError("out of memory\nand more"),
]


@pytest.mark.parametrize(
    ("where", "error"),
    [(where, error) for where in ("read", "write") for error in FROM_FILES]
    + [("brighten", error) for error in FROM_NETWORK],
)
def test_every_kind_of_failure_is_an_outcome(tmp_path, monkeypatch, where, error):
    jobs = plan(
        [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")],
        tmp_path / "out",
        recursive=False,
    )
    steps = {"read": files.read, "brighten": negative, "write": files.write}
    original, calls = steps[where], []

    def fail_once(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise error
        return original(*args, **options)

    steps[where] = fail_once
    monkeypatch.setattr(files, "read", steps["read"])
    monkeypatch.setattr(files, "write", steps["write"])
    bad, good = run(jobs, steps["brighten"])
    assert bad.problem
    assert "\n" not in bad.problem
    assert good.problem is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def test_what_a_result_does_not_hold_is_in_its_outcome(tmp_path):
    exif = Image.Exif()
    exif[0x10F] = "Maker"
    source = tmp_path / "a.jpg"
    Image.new("RGB", (4, 3)).save(source, exif=exif)
    kept, lost = (
        outcome
        for name in ("b.png", "b.bmp")
        for outcome in run([Job(source, tmp_path / name)], negative)
    )
    assert (kept.problem, kept.lost) == (None, ())
    assert (lost.problem, lost.lost) == (None, ("BMP can't hold EXIF",))


def test_what_is_named_is_a_picture_or_a_failure(tmp_path):
    (tmp_path / "note.txt").write_text("no picture")
    (outcome,) = run(plan([tmp_path / "note.txt"], None, recursive=False), negative)
    assert outcome.status == "failed"
    assert outcome.problem.startswith("not a picture")
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "photograph.jpg").write_text("no picture, and says that it is one")
    (outcome,) = run(plan([folder], None, recursive=False), negative)
    assert outcome.status == "failed"


@pytest.mark.parametrize(
    ("out", "suffix", "file_format", "expected"),
    [
        (None, "_2", None, "a_2.png"),
        (None, None, "TIFF", "a_bright.tif"),
        ("out", None, "JPEG", "out/a.jpg"),
        ("out", "_2", "PNG", "out/a_2.png"),
    ],
)
def test_names_by_suffix_and_format(tmp_path, out, suffix, file_format, expected):
    source = picture(tmp_path / "p" / "a.png")
    asked = {"recursive": False, "suffix": suffix, "file_format": file_format}
    (job,) = plan([source], out and tmp_path / "p" / out, **asked)
    assert job.target == tmp_path / "p" / expected
    (job,) = plan([tmp_path / "p"], None, **asked)
    assert job.target.parent == tmp_path / f"p{suffix or '_bright'}"
    assert job.target.stem == "a"


def test_a_suffix_that_names_a_folder_is_refused(tmp_path):
    with pytest.raises(PlanError, match="expected a suffix"):
        plan([picture(tmp_path / "a.png")], None, recursive=False, suffix="/../b")


def test_a_suffix_is_not_for_a_name_that_is_given_whole(tmp_path):
    source = picture(tmp_path / "a.png")
    with pytest.raises(PlanError, match="is the result's whole name"):
        plan([source], tmp_path / "b.png", recursive=False, suffix="_2")
    (job,) = plan([source], tmp_path / "b.png", recursive=False, suffix="")
    assert job.target == tmp_path / "b.png"


def test_linked_folders_are_followed_once(tmp_path):
    picture(tmp_path / "elsewhere" / "b.png")
    picture(tmp_path / "p" / "a.png")
    (tmp_path / "p" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "p" / "up").symlink_to(tmp_path / "p")
    jobs = plan([tmp_path / "p"], tmp_path / "out", recursive=True)
    assert targets(jobs, tmp_path / "out") == ["a.png", "link/b.png"]


def test_a_mistake_in_the_program_is_not_swallowed(tmp_path):
    def brighten(dark):
        raise AttributeError("typo")

    jobs = plan([picture(tmp_path / "a.png")], None, recursive=False)
    with pytest.raises(AttributeError):
        list(run(jobs, brighten))


def test_a_write_error_names_the_result(tmp_path):
    source = picture(tmp_path / "a.png")
    (tmp_path / "file").touch()
    (outcome,) = run([Job(source, tmp_path / "file" / "a.png")], negative)
    assert str(tmp_path / "file" / "a.png") in outcome.problem


@pytest.mark.parametrize("folder", ["file", "file/within"])
def test_a_folder_that_cannot_be_is_known_before_the_work(tmp_path, folder):
    def brighten(dark):
        raise AssertionError("the result can't be kept")

    (tmp_path / "file").touch()
    job = Job(picture(tmp_path / "a.png"), tmp_path / folder / "a.png")
    (outcome,) = run([job], brighten)
    assert outcome.problem == f"{job.target} can't be written: {os.strerror(errno.ENOTDIR)}"


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("RGBA", {}, "JPEG can't hold transparency"),
        ("RGB", {"bits": 16}, "JPEG holds 8 bits a channel, and 16 were asked for"),
    ],
)
def test_what_a_format_cannot_hold_is_known_before_the_work(tmp_path, mode, options, message):
    def brighten(dark):
        raise AssertionError("the result can't be kept")

    source = tmp_path / "a.png"
    Image.new(mode, (4, 3)).save(source)
    (outcome,) = run([Job(source, tmp_path / "out" / "a.jpg")], brighten, **options)
    assert outcome.problem.startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_name_that_gets_too_long(tmp_path):
    long, short = picture(tmp_path / ("x" * 250 + ".png")), picture(tmp_path / "a.png")
    jobs = plan([long, short], None, recursive=False)
    bad, good = run(jobs, negative)
    assert os.strerror(errno.ENAMETOOLONG) in bad.problem
    assert good.problem is None


@pytest.mark.parametrize("existing", ["file", "folder", "dangling link"])
def test_what_exists_stays(tmp_path, existing):
    job = Job(picture(tmp_path / "a.png"), tmp_path / "b.png")
    if existing == "file":
        picture(job.target)
    elif existing == "folder":
        job.target.mkdir()
    else:
        job.target.symlink_to(tmp_path / "nothing")
    before = job.target.lstat()
    (outcome,) = run([job], negative)
    assert "b.png exists (--overwrite or --skip-existing)" in outcome.problem
    assert not outcome.skipped
    (outcome,) = run([job], negative, skip_existing=True)
    assert outcome == Outcome(job, None, skipped=True)
    assert job.target.lstat() == before


@pytest.mark.parametrize("skip", [False, True])
def test_a_result_that_another_process_wrote_meanwhile_stays(tmp_path, skip):
    job = Job(picture(tmp_path / "a.png"), tmp_path / "b.png")

    def slowly(dark):
        picture(job.target, color=(1, 2, 3))
        return negative(dark)

    (outcome,) = run([job], slowly, skip_existing=skip)
    assert outcome.status == ("skipped" if skip else "failed")
    assert skip or outcome.problem == f"{job.target} exists (--overwrite or --skip-existing)"
    assert level(job.target) == [1, 2, 3]
    (outcome,) = run([job], slowly, overwrite=True)
    assert level(job.target) == [245, 235, 225]


def test_overwrite(tmp_path):
    job = Job(picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))
    (outcome,) = run([job], negative, overwrite=True)
    assert outcome == Outcome(job)
    assert level(job.target) == [245, 235, 225]
    assert level(job.source) == [10, 20, 30]


def test_overwriting_spares_a_link_to_the_input(tmp_path):
    source = picture(tmp_path / "a.png")
    os.link(source, tmp_path / "hard.png")
    (outcome,) = run([Job(source, tmp_path / "hard.png")], negative, overwrite=True)
    assert outcome.problem is None
    assert level(source) == [10, 20, 30]
    assert level(tmp_path / "hard.png") == [245, 235, 225]


def test_pictures_are_done_one_at_a_time(tmp_path):
    jobs = plan(
        [picture(tmp_path / f"{name}.png") for name in "abc"], tmp_path / "out", recursive=False
    )
    for count, _ in enumerate(run(jobs, negative), start=1):
        assert len(list((tmp_path / "out").iterdir())) == count


def test_the_pixel_limit_is_passed_on(tmp_path):
    (outcome,) = run(
        plan([picture(tmp_path / "a.png")], None, recursive=False), negative, max_pixels=11
    )
    assert outcome.problem == "too large: 4×3 pixels, the limit is 11 in all (--max-pixels)"
