"""What a run tells: records, pictures, and TensorBoard."""

import json
import math

import pytest
import torch
from PIL import Image
from short_runs import records

from llflow import data
from llflow.enhancement import NotFinite, enhance
from llflow.picture import files
from llflow.training import log
from llflow.training.log import Log, side_by_side


def test_records_are_lines_of_json(tmp_path):
    run = Log(tmp_path, 0)
    run.write(3, loss=0.5, gradient=math.inf, event="a\nb")
    run.write(4, psnr=-math.inf)
    assert records(tmp_path) == [
        {"step": 3, "loss": 0.5, "gradient": None, "event": "a\nb"},
        {"step": 4, "psnr": None},
    ]


def test_what_comes_after_the_step_gone_on_from_is_dropped(tmp_path):
    lines = [{"step": step, "loss": 1.0} for step in (0, 3, 4, 5)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for step, kept in ((5, [0, 3, 4, 5]), (4, [0, 3, 4]), (1, [0]), (0, [])):
        (tmp_path / "log.jsonl").write_text(text)
        Log(tmp_path, step)
        assert [record["step"] for record in records(tmp_path)] == kept


@pytest.mark.parametrize(
    "cut",
    ["", '{"step', '{"step": 3, "loss": 1.', '{"step": 3}', "[3]\n", '{"step": "x"}\n', "{}\n"],
)
def test_lines_that_were_cut_off_are_dropped(tmp_path, cut):
    """Also one that lacks nothing but its end, since the next would be put behind it."""
    (tmp_path / "log.jsonl").write_text('{"step": 2}\n' + cut)
    Log(tmp_path, 9).write(10, loss=1.0)
    assert [record["step"] for record in records(tmp_path)] == [2, 10]


def test_a_full_disk_is_named(tmp_path):
    run = Log(tmp_path, 0)
    run.path = type(tmp_path)("/dev/full")
    if not run.path.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left") as raised:
        run.write(1, loss=0.5)
    assert raised.value.filename == "/dev/full"


# --- pictures --------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    """Six scenes of two sizes: dark ones at 40 of 255, bright ones at 200."""
    for index in range(6):
        size = (48, 40) if index % 2 else (33, 56)
        for part, level in (("low", 40), ("high", 200)):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.new("RGB", size, (level,) * 3).save(tmp_path / part / f"{index}.png")
    return data.find_pairs(tmp_path)


def test_rows_are_dark_result_and_reference(nano, scenes):
    picture = side_by_side(nano, scenes)
    rows, columns = 3, 3  # scenes 0, 2 and 4: every second of six makes at most four
    assert picture.shape == (3, rows * 28, columns * 16)
    result = enhance(nano, torch.full((3, 56, 33), 40 / 255))
    expected = torch.nn.functional.avg_pool2d(result, 2)
    for row in range(rows):
        dark, ours, bright = picture[:, row * 28 : (row + 1) * 28].chunk(3, dim=2)
        torch.testing.assert_close(dark, torch.full_like(dark, 40 / 255))
        torch.testing.assert_close(bright, torch.full_like(bright, 200 / 255))
        torch.testing.assert_close(ours, expected)


def test_pictures_of_other_sizes_are_padded(nano, scenes):
    picture = side_by_side(nano, scenes[:2])
    assert picture.shape == (3, 2 * 28, 3 * 24)
    second = picture[:, 28:]  # 20 of 28 pixels high, as wide as there is room
    assert (second[:, 20:] == 0).all()
    torch.testing.assert_close(second[:, :20, :24], torch.full((3, 20, 24), 40 / 255))
    assert (picture[:, :28, 16:24] == 0).all()  # 16 of 24 wide


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 4), (5, 3), (6, 3)])
def test_at_most_four_scenes(nano, scenes, count, rows):
    assert side_by_side(nano, scenes[:count]).shape[1] == rows * 28


def test_an_overflow_is_grey(nano, scenes, monkeypatch):
    def overflow(*args):
        raise NotFinite

    monkeypatch.setattr(log, "enhance", overflow)
    picture = side_by_side(nano, scenes[1:2])
    assert (picture[:, :, 24:48] == 0.5).all()


def test_pictures_are_named_by_their_step(tmp_path):
    picture = torch.rand(3, 8, 24)
    Log(tmp_path, 0).show(1200, picture)
    written = files.read(tmp_path / "pictures" / "001200.png").image
    torch.testing.assert_close(written, picture, rtol=0, atol=0.5 / 255)  # 8 bits


# --- TensorBoard -----------------------------------------------------------------------------


def accumulated(folder):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return module.EventAccumulator(str(folder / "tensorboard")).Reload()


def test_tensorboard_gets_the_same(tmp_path):
    pytest.importorskip("tensorboard")
    run = Log(tmp_path, 0, tensorboard=True)
    for step in (20, 40, 60):
        run.write(step, loss=step / 10, gradient=math.nan)
    run.write(40, event="step 40 skipped")
    run.show(60, torch.full((3, 8, 24), 0.5))
    run.close()
    found = accumulated(tmp_path)
    assert [(s.step, s.value) for s in found.Scalars("loss")] == [(20, 2.0), (40, 4.0), (60, 6.0)]
    assert all(math.isnan(s.value) for s in found.Scalars("gradient"))
    (picture,) = found.Images("validation")
    assert (picture.step, picture.width, picture.height) == (60, 24, 8)
    (text,) = found.Tensors("event/text_summary")
    assert b"step 40 skipped" in text.tensor_proto.string_val[0]

    again = Log(tmp_path, 40, tensorboard=True)
    again.write(60, loss=1.0)
    again.close()
    found = accumulated(tmp_path)
    assert [(s.step, s.value) for s in found.Scalars("loss")] == [(20, 2.0), (40, 4.0), (60, 1.0)]


def test_a_run_writes_events_if_asked(run, tmp_path):
    pytest.importorskip("tensorboard")
    run(steps=20, validate_every=10, tensorboard=True)
    found = accumulated(tmp_path / "run")
    logged = records(tmp_path / "run")
    for name in ("loss", "nll", "gradient", "learning_rate", "psnr"):
        expected = [record[name] for record in logged if name in record]
        # TensorBoard keeps float32.
        assert [s.value for s in found.Scalars(name)] == pytest.approx(expected, rel=1e-6)
    assert [picture.step for picture in found.Images("validation")] == [10, 20]
    assert sorted(p.name for p in (tmp_path / "run" / "pictures").iterdir()) == [
        "000010.png",
        "000020.png",
    ]
