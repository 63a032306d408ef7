"""What is measured of real photographs is what the words say."""

import json

import brightness
import photographs
import pytest
import torch
from PIL import Image

from llflow.picture.light import factor_of_stops

STOPS = brightness.STOPS


def night():
    """A noisy sky of 4 levels above a brighter half of squares."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.full((3, 96, 96), 4 / 255)
    checkers = torch.rand(6, 12, generator=generator).kron(torch.ones(8, 8))
    picture[:, 48:] = 0.1 + 0.15 * checkers
    grain = 1.5 / 255 * torch.randn(96, 96, generator=generator)
    return (picture + grain).clamp(1 / 255, 1)


def test_what_stays_has_nothing_clipped_no_brighter_sky_and_its_own_noise():
    row = photographs.figures(night(), night())
    assert (row["white"], row["black"]) == (0, 0)
    assert row["sky before"] == row["sky after"] == pytest.approx(4 / 255, rel=0.1)
    assert row["noise"] == pytest.approx(1)
    assert row["same"] is None  # too dark to be asked
    assert photographs.figures(night(), night(), bright=0.05)["same"] == 99


def test_newly_clipped_values_are_counted():
    picture = 0.1 + 0.5 * torch.rand(3, 32, 32)
    picture[:, :8] = 1.0
    after = picture.clone()
    after[:, 16:24] = 1.0
    after[0, 24:] = 0.0
    row = photographs.figures(picture, after)
    assert row["white"] == pytest.approx(1 / 4)
    assert row["black"] == pytest.approx(1 / 12)


def test_grain_above_its_gain_is_noise_and_a_gain_alone_is_not():
    generator = torch.Generator().manual_seed(1)
    picture = night()
    assert photographs.figures(picture, 3 * picture)["noise"] == pytest.approx(1, abs=0.05)
    grain = 0.05 * torch.randn(96, 96, generator=generator)
    assert photographs.figures(picture, (3 * picture + grain).clamp(0.001, 0.9))["noise"] > 1.3
    smooth = torch.nn.functional.avg_pool2d(3 * picture, 5, 1, 2)
    assert photographs.figures(picture, smooth)["noise"] < 0.6


def test_a_lifted_sky_is_seen():
    after = night()
    after[:, :48] += 0.2
    row = photographs.figures(night(), after)
    assert row["sky after"] - row["sky before"] == pytest.approx(0.2, abs=0.01)


def test_what_is_measured_of_a_folder_is_written(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for index in range(2):
        picture = Image.linear_gradient("L").resize((40, 24)).convert("RGB")
        picture.point(lambda v, k=index: v // (2 + 6 * k)).save(tmp_path / "in" / f"{index}.png")
    photographs.main([str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "photographs.json").read_text())
    assert record["pictures"] == ["0.png", "1.png"]
    assert set(record["figures"]) == {"tiny", photographs.EQUALISED}
    assert "| tiny |" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "photographs.jpg").width == 4 * (420 + 4)


def test_a_folder_without_pictures_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="has no files"):
        photographs.main([str(tmp_path)])
    with pytest.raises(SystemExit):
        photographs.main([str(tmp_path / "none")])
    assert "expected a folder of photographs" in capsys.readouterr().err


def stops_of(factor):
    picture = 0.5 + 0.1 * torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    return {stops: (picture * factor(stops)).clamp(0, 1) for stops in STOPS}


def test_stops_are_seen_to_be_so_and_others_not():
    row = brightness.figures(stops_of(factor_of_stops))
    assert row["monotone"]
    # sRGB's curve is a power of 2.2 only about, and 8 bits are coarse in the dark
    assert abs(row["deviation"]) < 0.15
    assert row["+0.5"] == pytest.approx(2**0.5 * row["+0"], rel=0.15)
    assert abs(brightness.figures(stops_of(lambda s: 2 ** (s / 3)))["deviation"]) > 0.15
    assert not brightness.figures(stops_of(lambda s: 1.0))["monotone"]


def test_brightness_of_a_folder(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.linear_gradient("L").resize((40, 24)).convert("RGB").save(tmp_path / "in" / "a.png")
    code = brightness.main([str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert code in (0, 1)
    assert "strictly monotone" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "brightness.json",
        "brightness.md",
        "brightness.png",
    ]


def test_the_contact_sheet_darkens_by_four_stops():
    pytest.importorskip("skimage")
    contact_sheet = pytest.importorskip("examples.contact_sheet")
    dark = contact_sheet.darkened(torch.full((3, 64, 64), 0.8))
    assert dark.mean().item() == pytest.approx(0.8 * factor_of_stops(-4), abs=0.01)
    assert torch.equal(dark * 255, (dark * 255).round())
    assert dark.std() > 0
