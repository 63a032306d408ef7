"""Film: what flickers, what is kept of the file, and what an interruption leaves."""

import os
import subprocess
import sys
import time
from fractions import Fraction
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import llflow as package
from llflow import cli
from llflow.enhancement import enhance
from llflow.film import naming
from llflow.film.calm import Calm, noise_of
from llflow.film.cuts import coarse, is_cut
from llflow.film.frames import Frames
from llflow.film.source import FilmError, turn
from llflow.film.steady import Steady
from llflow.picture.files import read

av = pytest.importorskip("av")

ROOT = Path(__file__).parents[2]
TICKS = 90000
TIMES = [3600 * number + 300 * (number % 3) for number in range(200)]  # of a variable rate
HEIGHT, WIDTH = 48, 64


@pytest.fixture(scope="module")
def shipped():
    return package.load().fold()


def scene(count, name="rocket.jpg", *, level=0.1, noise=0.015):
    """A darkened photograph under a slow pan and a ramp of light, with noise, in 8 bits."""
    drawn = np.random.default_rng(0)
    photograph = read(ROOT / "examples" / name).image[None]
    wide = F.interpolate(photograph, (HEIGHT, WIDTH + count), mode="bilinear")[0].numpy()
    frames = []
    for number in range(count):
        frame = level * (1 + 0.5 * number / count) * wide[:, :, number : number + WIDTH]
        frame = (frame + drawn.normal(0, noise, frame.shape)).clip(0, 1)
        frames.append(torch.from_numpy((frame * 255).round() / 255).float())
    return frames


def write(
    path, frames, *, codec="libx264", pixels="yuv420p", sound=True, full_range=False, metadata=()
):
    """A film of frames (3, H, W) at TIMES, with BT.709's matrix, and a second of noise to hear."""
    drawn = np.random.default_rng(1)
    options = {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as out:
        out.metadata.update(dict(metadata))
        quiet = {"x265-params": "log-level=error:lossless=1"} if codec == "libx265" else {"qp": "0"}
        video = out.add_stream(codec, rate=25, options=quiet)
        video.height, video.width = frames[0].shape[1:]
        video.pix_fmt = pixels
        context = video.codec_context
        context.time_base = Fraction(1, TICKS)
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 2 if full_range else 1
        audio = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for pts, frame in zip(TIMES, frames, strict=False):
            rgb = (frame * 65535).round().numpy().astype(np.uint16).transpose(1, 2, 0)
            stored = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb48le").reformat(
                format=pixels,
                dst_colorspace=1,
                src_color_range=2,
                dst_color_range=2 if full_range else 1,
            )
            stored.pts, stored.time_base = pts, Fraction(1, TICKS)
            out.mux(video.encode(stored))
        out.mux(video.encode(None))
        for start in range(0, 16000 if sound else 0, 1024):
            heard = drawn.normal(0, 0.1, (1, 1024)).astype(np.float32)
            stored = av.AudioFrame.from_ndarray(heard, "fltp", "mono")
            stored.sample_rate, stored.pts = 16000, start
            out.mux(audio.encode(stored))
        if audio:
            out.mux(audio.encode(None))
    return path


def times(path):
    with av.open(str(path)) as film:
        base = film.streams.video[0].time_base
        return [frame.pts * base for frame in film.decode(video=0)]


def shown(path):
    """Frames (H, W, 3) in [0, 1], by the color tags of the file."""
    with av.open(str(path)) as film:
        context = film.streams.video[0].codec_context
        return [
            frame.reformat(
                format="rgb48le",
                src_colorspace=context.colorspace,
                src_color_range=context.color_range,
                dst_color_range=2,
            ).to_ndarray()
            / 65535
            for frame in film.decode(video=0)
        ]


def packets(path, kind):
    with av.open(str(path)) as film:
        stream = next(stream for stream in film.streams if stream.type == kind)
        found = [p for p in film.demux(stream) if p.dts is not None]
        return [(p.pts * stream.time_base, bytes(p)) for p in found]


def restless(values):
    return (values[2:] - 2 * values[1:-1] + values[:-2]).abs().mean().item()


@pytest.mark.parametrize("name", ["rocket.jpg", "coffee_dark.jpg"])
def test_a_film_flickers_less_than_half_as_much_as_its_frames_alone(shipped, name):
    dark = scene(14, name)
    film = Frames(shipped)
    steady = torch.stack([film.next(frame, 0.04) for frame in dark])
    alone = torch.stack([enhance(shipped, frame) for frame in dark])
    for measure in (lambda x: x.mean((1, 2, 3)), lambda x: F.avg_pool2d(x, 8)):
        assert restless(measure(steady)) < 0.5 * restless(measure(alone))
    # As bright, but for what the flicker of single frames and half a second to follow make.
    assert (steady.mean() / alone.mean() - 1).abs() < 0.1


def test_nothing_goes_across_a_cut(shipped):
    first, second = scene(6), scene(4, "coffee_dark.jpg", level=0.5)
    film, fresh = Frames(shipped), Frames(shipped)
    for frame in first:
        film.next(frame, 0.04)
    for frame in second:
        assert torch.equal(film.next(frame, 0.04), fresh.next(frame, 0.04))
    # exp(log x) is x within float32's rounding
    one = Frames(shipped).next(second[0], 0.04)
    assert (one - enhance(shipped, second[0])).abs().max() < 1e-5


def test_a_cut_is_told_from_a_pan_and_from_a_ramp():
    dark = [coarse(frame) for frame in scene(12)]
    assert not any(is_cut(*pair) for pair in zip(dark, dark[3:], strict=False))
    other = [coarse(frame) for frame in scene(2, "coffee_dark.jpg", level=0.3)]
    assert is_cut(dark[-1], other[0])


def test_means_follow_by_the_time_that_passes():
    steady = Steady()
    steady.follow({"x": torch.tensor(0.0)}, 0.04)
    one = steady.follow({"x": torch.tensor(1.0)}, 0.5)["x"]
    assert one.item() == pytest.approx(1 - np.exp(-1), abs=1e-6)
    again = Steady()
    again.follow({"x": torch.tensor(0.0)}, 0)
    for _ in range(10):
        last = again.follow({"x": torch.tensor(1.0)}, 0.05)["x"]
    assert last.item() == pytest.approx(one.item(), abs=1e-6)


def test_noise_is_averaged_where_nothing_moves_and_what_moves_leaves_no_trail():
    drawn, calm = torch.Generator().manual_seed(0), Calm()
    for number in range(12):
        frame = torch.full((3, 64, 96), 0.1)
        frame[:, 20:40, 4 * number : 4 * number + 20] = 0.16
        frame += 0.02 * torch.randn(3, 64, 96, generator=drawn)
        result = calm.next(frame)
    assert noise_of(frame) ** 0.5 == pytest.approx(0.02, rel=0.1)
    assert result[:, 45:].std() < 0.5 * 0.02
    # 480 pixels of 3 channels of noise 0.02: their mean is within 0.002 by four deviations
    assert result[:, 22:38, 10:40].mean().item() == pytest.approx(0.1, abs=0.003)
    assert result[:, 22:38, 46:62].mean().item() == pytest.approx(0.16, abs=0.003)


def test_a_black_film_and_one_pixel(shipped):
    for size in ((1, 1), (2, 3), (8, 8)):
        film = Frames(shipped)
        for level in (0.0, 0.0, 0.5):
            assert film.next(torch.full((3, *size), level), 0.04).isfinite().all()


def test_an_exposure_that_is_asked_for_and_strength_0(shipped):
    dark = scene(3)
    film = Frames(shipped, exposure=0.4)
    assert film.next(dark[0], 0.04).mean().item() == pytest.approx(0.4, abs=1e-3)
    assert not film.next(torch.zeros_like(dark[0]), 0.04).any()
    assert torch.equal(Frames(shipped, strength=0.0).next(dark[0], 0.04), dark[0])


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx265", "yuv420p10le"),
        (".mov", "libx264", "yuv444p"),
    ],
)
def test_what_a_file_has_is_kept(llflow, weights, tmp_path, suffix, codec, pixels):
    about = {"title": "A night", "creation_time": "2024-05-06T07:08:09.000000Z"}
    source = write(
        tmp_path / f"dark{suffix}", scene(8), codec=codec, pixels=pixels, metadata=about.items()
    )
    target = tmp_path / f"bright{suffix}"
    code, out, err = llflow("enhance", source, target, "--weights", weights)
    assert (code, out, err) == (0, f"1 enhanced, 0 failed -> {target}\n", "")
    assert times(target) == times(source)
    assert len(times(source)) == 8
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert about.items() <= dict(after.metadata).items()
        one, other = (film.streams.video[0].codec_context for film in (before, after))
        for tag in ("name", "pix_fmt", "color_range", "colorspace", "color_trc", "color_primaries"):
            assert getattr(one, tag) == getattr(other, tag), tag
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"bright{suffix}", f"dark{suffix}"]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv444p10le"])
def test_colors_are_those_of_the_file(llflow, weights, tmp_path, pixels, full_range):
    frame = torch.zeros(3, HEIGHT, WIDTH)
    frame[0, :, :16], frame[1, :, 16:32], frame[2, :, 32:48], frame[:, :, 48:] = 0.8, 0.7, 0.6, 1
    source = write(
        tmp_path / "dark.mkv", [frame] * 2, pixels=pixels, full_range=full_range, sound=False
    )
    code, *_ = llflow("enhance", source, tmp_path / "same.mkv", "--strength", 0, *W(weights))
    assert code == 0
    before, after = shown(source)[1], shown(tmp_path / "same.mkv")[1]
    # a lossy codec at its finest; the wrong matrix or range is off by 0.05 and more
    assert np.abs(after - before).mean() < 0.01
    places = np.s_[20:28, 4:64:16]
    assert np.abs(after[places] - frame.permute(1, 2, 0).numpy()[places]).max() < 0.03


def W(weights):
    return "--weights", weights


def turned(path, matrix):
    """The film with another matrix in its tkhd."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0, ISO/IEC 14496-12, 8.3.2
    a, b, c, d = (int(value * 65536).to_bytes(4, "big", signed=True) for value in matrix)
    unit = (1 << 30).to_bytes(4, "big")
    data[at : at + 36] = a + b + bytes(4) + c + d + bytes(4) + bytes(8) + unit
    path.write_bytes(data)


def test_a_turned_film_is_upright(llflow, weights, tmp_path):
    frame = torch.full((3, HEIGHT, WIDTH), 0.1)
    frame[:, :16, :16] = 0.9  # top left as it is stored, top right once turned clockwise
    source = write(tmp_path / "dark.mp4", [frame] * 2, sound=False)
    turned(source, (0, 1, -1, 0))
    code, _, err = llflow("enhance", source, tmp_path / "same.mp4", "--strength", 0, *W(weights))
    assert (code, err) == (0, "")
    result = shown(tmp_path / "same.mp4")[0]
    assert result.shape == (WIDTH, HEIGHT, 3)
    assert result[4:12, -12:-4].min() > 0.8
    assert result[4:12, :24].max() < 0.2


def test_matrices_that_are_no_quarter_turns():
    stored = np.arange(6).reshape(2, 3)[..., None]
    assert turn(stored, (1, 0, 0, 1))[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert turn(stored, (-1, 0, 0, -1))[..., 0].tolist() == [[5, 4, 3], [2, 1, 0]]
    assert turn(stored, (0, 1, -1, 0))[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert turn(stored, (0, -1, 1, 0))[..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert turn(stored, (-1, 0, 0, 1))[..., 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    with pytest.raises(FilmError, match="turned or stretched"):
        turn(stored, (2, 0, 0, 1))


def test_killed_and_started_again(llflow, weights, tmp_path, monkeypatch):
    source = write(tmp_path / "dark.mp4", scene(100))
    target, whole = tmp_path / "bright.mp4", tmp_path / "whole.mp4"
    assert llflow("enhance", source, whole, *W(weights))[0] == 0
    line = [sys.executable, "-m", "llflow", "enhance", source, "-o", target, *W(weights)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL)
    part = tmp_path / ".bright.mp4.unfinished" / "000000.npz"
    until = time.monotonic() + 100
    while not part.exists() and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    assert part.exists()
    assert not target.exists()
    computed, next_frame = [], Frames.next
    monkeypatch.setattr(Frames, "next", lambda *frame: computed.append(frame) or next_frame(*frame))
    assert llflow("enhance", source, target, *W(weights))[0] == 0
    assert 0 < len(computed) <= 100 - 48
    assert target.read_bytes() == whole.read_bytes()
    assert not part.parent.exists()


def test_a_run_with_other_settings_begins_anew(llflow, weights, tmp_path, monkeypatch):
    from llflow.film import work

    source = write(tmp_path / "dark.mp4", scene(9), sound=False)
    target = tmp_path / "bright.mp4"
    monkeypatch.setattr(work, "PART", 4)
    calls, next_frame = [], Frames.next

    def interrupted(self, frame, seconds):
        calls.append(seconds)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return next_frame(self, frame, seconds)

    monkeypatch.setattr(Frames, "next", interrupted)
    code, _, err = llflow("enhance", source, target, *W(weights))
    assert (code, err.splitlines()[-1]) == (130, "llflow: interrupted")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".bright.mp4.unfinished", "dark.mp4"]
    code, *_ = llflow("enhance", source, target, "--brightness", 1, *W(weights))
    assert code == 0
    assert len(calls) == 7 + 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bright.mp4", "dark.mp4"]


def test_a_film_that_another_process_makes_or_has_made(llflow, weights, tmp_path, monkeypatch):
    from llflow.film.unfinished import alone

    source, target = write(tmp_path / "dark.mp4", scene(3), sound=False), tmp_path / "bright.mp4"
    with alone(target):
        code, _, err = llflow("enhance", source, target, *W(weights))
    assert (code, err.splitlines()[-1]) == (
        1,
        f"llflow: {source}: another process is making this film",
    )
    next_frame = Frames.next

    def slowly(self, frame, seconds):
        target.write_bytes(b"another's")
        return next_frame(self, frame, seconds)

    monkeypatch.setattr(Frames, "next", slowly)
    code, _, err = llflow("enhance", source, target, *W(weights))
    assert code == 1
    assert err.splitlines()[-1].endswith("bright.mp4 exists (--overwrite or --skip-existing)")
    assert target.read_bytes() == b"another's"
    assert not (tmp_path / ".bright.mp4.lock").exists()


def test_what_is_refused(llflow, weights, tmp_path):
    source = write(tmp_path / "dark.mp4", scene(2))
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "there.mp4").write_bytes(b"somebody's")
    (tmp_path / "picture.png").write_bytes((ROOT / "examples" / "rocket.jpg").read_bytes())

    def refused(*argv):
        code, _, err = llflow("enhance", *argv, *W(weights))
        return code, err.splitlines()[-1].split(" (see")[0].removeprefix("llflow: ")

    there = tmp_path / "there.mp4"
    assert refused(source, "-o", there) == (
        1,
        f"{source}: {there} exists (--overwrite or --skip-existing)",
    )
    assert there.read_bytes() == b"somebody's"
    assert refused(source, "-o", source, "--overwrite") == (
        2,
        f"{source}: the result would replace its film; choose another OUT",
    )
    assert refused(tmp_path / "text.mp4") == (
        1,
        f"{tmp_path / 'text.mp4'}: Invalid data found when processing input",
    )
    assert refused(source, "--samples", 3, "--depth", 16) == (
        2,
        "films have no --samples, --depth.",
    )
    assert refused(source, "--record") == (2, "films have no --record.")
    code, said = refused(source, tmp_path / "picture.png", "-o", tmp_path / "out")
    assert (code, "films and pictures in one call" in said) == (2, True)
    code, said = refused(source, tmp_path / "new.avi")
    assert (code, "expected a name in .mp4" in said) == (2, True)
    code, said = refused(source, tmp_path / "new.webm")
    assert (code, "expected a result in .mkv" in said) == (1, True)
    assert refused(source, tmp_path / "new.mp4", "--max-pixels", 1000) == (
        1,
        f"{source}: frames of 64×48, more than 0.001 megapixels (--max-pixels)",
    )
    assert not (tmp_path / "new.mp4").exists()
    assert not list(tmp_path.glob(".*"))


def test_without_the_package(llflow, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "find_spec", lambda name: None)
    (tmp_path / "dark.mp4").touch()
    code, _, err = llflow("enhance", tmp_path / "dark.mp4", *W(weights))
    assert (code, err) == (1, "llflow: film needs another package: pip install 'flowkit[film]'")


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"\0\0\0\x18ftypisom", "a", True),
        (b"\0\0\0\x18ftypavif", "a", False),
        (b"\0\0\0\x18ftypheic", "a.heic", False),
        (b"\x1aE\xdf\xa3", "a.bin", True),
        (b"RIFF\0\0\0\0WEBP", "a.webp", False),
        (b"", "a.MOV", True),
    ],
)
def test_films_are_told_by_name_and_content(tmp_path, content, name, expected):
    (tmp_path / name).write_bytes(content)
    assert naming.is_film(tmp_path / name) == expected
    assert not naming.is_film(tmp_path)


@pytest.fixture
def pipe(weights, monkeypatch):
    """`llflow pipe ARGV...` in this process; returns exit code, stdout as bytes, stderr."""

    def call(*argv, given):
        streams = {name: TextIOWrapper(BytesIO()) for name in ("stdout", "stderr")}
        with monkeypatch.context() as patched:
            for name, stream in (streams | {"stdin": TextIOWrapper(BytesIO(given))}).items():
                patched.setattr(sys, name, stream)
            code = cli.main(["pipe", *map(str, argv), "--weights", str(weights)])
        out, err = (streams[name] for name in ("stdout", "stderr"))
        err.flush()
        return code, out.buffer.getvalue(), err.buffer.getvalue().decode()

    return call


@pytest.mark.parametrize(
    ("depth", "kind", "largest"), [("8", np.uint8, 255), ("16", np.uint16, 65535)]
)
def test_raw_frames_through_a_pipe(pipe, weights, depth, kind, largest):
    dark = scene(3)
    levels = [(frame * largest).round().permute(1, 2, 0).numpy().astype(kind) for frame in dark]
    given = b"".join(frame.tobytes() for frame in levels)
    said = (WIDTH, HEIGHT, "--depth", depth, "--rate", 50, "--precision", "float32")
    code, out, err = pipe(*said, given=given)
    assert (code, err) == (0, "")
    film = Frames(package.load(weights).fold())
    expected = np.stack([film.next(frame, 1 / 50).permute(1, 2, 0).numpy() for frame in dark])
    result = np.frombuffer(out, kind).reshape(3, HEIGHT, WIDTH, 3) / largest
    # half a level; the levels that come in are the frames' but for float32's rounding
    assert np.abs(result - expected).max() <= 0.5 / largest + 1e-4


def test_what_a_pipe_refuses(pipe):
    frame = WIDTH * HEIGHT * 3
    code, out, err = pipe(WIDTH, HEIGHT, given=bytes(frame + 5))
    assert (code, len(out)) == (1, frame)
    assert err == f"llflow: standard input ended within frame 2: 5 of {frame} bytes\n"
    assert pipe(WIDTH, HEIGHT, given=b"")[::2] == (1, "llflow: standard input holds no frame\n")
    assert pipe(0, HEIGHT, given=b"")[0] == 2
