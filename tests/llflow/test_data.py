"""Pairs: found, split by scenes, darkened, cut into batches."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llflow import data
from llflow.data import Crops, DataError, Pair, PairFiles
from llflow.picture import preprocess, retinex


def picture(path, size=(6, 4), color=(50, 60, 70)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


# --- found -----------------------------------------------------------------------------------


@pytest.mark.parametrize("folders", [("low", "high"), ("Low", "Normal"), ("input", "target")])
def test_pairs_by_stem(tmp_path, folders):
    dark, bright = (tmp_path / name for name in folders)
    for name in ("10", "9", "a.b"):
        picture(dark / f"{name}.png")
        picture(bright / f"{name}.jpg")
    (dark / ".DS_Store").touch()
    (dark / "folder").mkdir()
    assert data.find_pairs(tmp_path) == [
        PairFiles(name, dark / f"{name}.png", bright / f"{name}.jpg") for name in ("10", "9", "a.b")
    ]


def test_pictures_without_a_partner_are_named(tmp_path):
    for name in ("low/1", "low/2", "high/1", "high/3"):
        picture(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="2 pictures have no partner of the same name: 2, 3"):
        data.find_pairs(tmp_path)


def test_two_pictures_of_one_name_are_named(tmp_path):
    for name in ("low/1.png", "low/1.jpg", "high/1.png"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match=r"low: 1\.jpg and 1\.png have one name"):
        data.find_pairs(tmp_path)


@pytest.mark.parametrize("present", [[], ["low/1.png"], ["high/1.png"], ["dark/1.png"]])
def test_no_pairs(tmp_path, present):
    for name in present:
        picture(tmp_path / name)
    with pytest.raises(DataError, match="expected pictures in both low/ and high/, or Low/"):
        data.find_pairs(tmp_path)


# --- split -----------------------------------------------------------------------------------

NAMES = [str(number) for number in range(20)]


def files(names):
    return [PairFiles(name, None, None) for name in names]


@st.composite
def clusterings(draw):
    """Some of the names, each in one cluster."""
    labels = draw(st.lists(st.none() | st.integers(0, 5), min_size=20, max_size=20))
    clusters = [[n for n, label in zip(NAMES, labels, strict=True) if label == i] for i in range(6)]
    return clusters if any(clusters) else []


@given(clusters=clusterings(), share=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_scenes_are_never_split(clusters, share, seed):
    training, validation = data.hold_out(files(NAMES), clusters, share, seed)
    sides = [{pair.name for pair in side} for side in (training, validation)]
    assert sides[0] | sides[1] == set(NAMES)
    assert not sides[0] & sides[1]
    scenes = [set(names) for names in clusters if names]
    scenes += [{name} for name in set(NAMES).difference(*scenes)]
    assert all(scene <= sides[0] or scene <= sides[1] for scene in scenes)
    assert sum(scene <= sides[1] for scene in scenes) == round(share * len(scenes))
    again = data.hold_out(files(reversed(NAMES)), clusters, share, seed)
    assert {pair.name for pair in again[1]} == sides[1]


def test_another_seed_holds_out_others():
    held = [{p.name for p in data.hold_out(files(NAMES), [], 0.5, seed)[1]} for seed in range(5)]
    assert len(set(map(frozenset, held))) > 1


def test_a_name_in_two_clusters_is_refused():
    with pytest.raises(DataError, match="3 is in two clusters"):
        data.hold_out(files(NAMES), [["1", "3"], ["3", "4"]], 0.5, 0)


def test_clusters_of_other_data_are_refused():
    with pytest.raises(DataError, match=r"no pair has a name .* such as '1.png'"):
        data.hold_out(files(NAMES), [["1.png", "2.png"]], 0.5, 0)


def test_clusters_in_a_file(tmp_path):
    path = tmp_path / "scenes.json"
    path.write_text('{"clusters": [["1", 2], ["3"]], "note": "x"}')
    assert data.read_clusters(path) == [["1", "2"], ["3"]]
    assert data.read_clusters(None) == []


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "{}", "3", "null", "\udcff"]
    + [f'{{"clusters": {value}}}' for value in ("1", "[1]", '["ab"]', '{"a": ["1"]}')],
)
def test_no_clusters_in_a_file(tmp_path, text):
    path = tmp_path / "scenes.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r'scenes.json: expected JSON like \{"clusters"'):
        data.read_clusters(path)


def test_a_split_by_name(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"training": ["1"], "validation": ["2", "0"]}))
    split = data.read_split(path)
    assert [pair.name for pair in data.named(files(NAMES), split["validation"])] == ["2", "0"]
    with pytest.raises(DataError, match=r"1 pairs of the split aren't in the data.*'x'"):
        data.named(files(NAMES), ["1", "x"])


@pytest.mark.parametrize("text", [None, "", "[]", '{"training": []}', '{"training": 1}'])
def test_no_split(tmp_path, text):
    if text is not None:
        (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"expected a split.json of a training run"):
        data.read_split(tmp_path / "split.json")


# --- read ------------------------------------------------------------------------------------


def pair_files(folder):
    return PairFiles("1", folder / "low.png", folder / "high.png")


def test_a_pair_is_read_at_8_bits(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    for part, image in zip(("low", "high"), levels, strict=True):
        Image.fromarray(image).save(tmp_path / f"{part}.png")
    pair = data.read_pair(pair_files(tmp_path))
    dark, bright = torch.from_numpy(levels).permute(0, 3, 1, 2)
    assert torch.equal(pair.dark, dark)
    assert torch.equal(pair.bright, bright)
    equalized = (retinex.equalize(dark / 255) * 255).round().to(torch.uint8)
    assert torch.equal(pair.equalized, equalized)
    assert not torch.equal(pair.equalized, pair.dark)


def test_sizes_that_differ(tmp_path):
    picture(tmp_path / "low.png", (6, 4))
    picture(tmp_path / "high.png", (7, 4))
    with pytest.raises(DataError, match="1: the dark picture is 6×4, the bright one 7×4"):
        data.read_pair(pair_files(tmp_path))


@pytest.mark.parametrize("read", [data.read_pair, lambda files: data.synthetic_pair(files, 0)])
def test_a_bad_picture_is_named(tmp_path, read):
    picture(tmp_path / "low.png")
    (tmp_path / "high.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"high.png: not a picture"):
        read(pair_files(tmp_path))


# --- darkened --------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
def test_darkening(seed):
    bright = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1
    dark, again = (data.darken(bright, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(dark, again)
    assert dark.shape == bright.shape
    assert dark.dtype == torch.float32
    assert 0 <= dark.min() <= dark.max() <= 1
    assert torch.equal((dark * 255).round() / 255, dark)
    assert dark.mean() < bright.mean() + 0.01  # the noise's share at a dimming of next to nothing


def test_darkening_covers_five_stops():
    bright = torch.full((3, 32, 32), 0.9)
    darks = [data.darken(bright, np.random.default_rng(seed)).double() for seed in range(200)]
    stops = [float(-(dark**2.2).mean().log2() + (bright[0, 0, 0] ** 2.2).log2()) for dark in darks]
    assert -0.2 < min(stops) < 0.5
    assert 4.5 < max(stops) < 5.2
    # Uniform in [0, 5] has mean 2.5; of 200 draws it strays by 0.1 (one standard deviation).
    assert 2.1 < np.mean(stops) < 2.9


def test_a_synthetic_pair_has_the_real_bright_picture(tmp_path):
    picture(tmp_path / "high.png", (16, 16), (200, 180, 160))
    one, again, other = (data.synthetic_pair(pair_files(tmp_path), seed) for seed in (1, 1, 2))
    assert one.bright[:, 0, 0].tolist() == [200, 180, 160]
    assert torch.equal(one.dark, again.dark)
    assert not torch.equal(one.dark, other.dark)
    expected = (retinex.equalize(one.dark / 255) * 255).round().to(torch.uint8)
    assert torch.equal(one.equalized, expected)


# --- cut into batches ------------------------------------------------------------------------


def coded_pair(name, height, width):
    """Red is the pixel's row, green its column; blue tells the pictures apart."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    dark, equalized, bright = (
        torch.stack([rows, columns, torch.full_like(rows, blue)]).to(torch.uint8)
        for blue in (10, 20, 30)
    )
    return Pair(name, dark, equalized, bright)


def unpack(bright, low):
    """The three pictures of a batch, in levels of 8 bits."""
    log_dark, equalized = low.split(3, dim=1)
    dark = log_dark.exp() - retinex.DARKEST
    return [(picture * 255).round().int() for picture in (dark, equalized, bright)]


@given(seed=st.integers(0, 1000), step=st.integers(0, 10_000))
def test_the_three_pictures_show_one_window(seed, step):
    crops = Crops([coded_pair("a", 40, 56), coded_pair("b", 24, 24)], size=16, batch=4, seed=seed)
    bright, low, *_ = crops[step]
    assert bright.shape == (4, 3, 16, 16)
    assert low.shape == (4, 6, 16, 16)
    assert bright.dtype == low.dtype == torch.float32
    pictures = unpack(bright, low)
    for picture, blue in zip(pictures, (10, 20, 30), strict=True):
        assert (picture[:, 2] == blue).all()
        assert torch.equal(picture[:, :2], pictures[0][:, :2])
    for row, column in pictures[0][:, :2]:
        neighbours = {
            (int((a[1:] - a[:-1]).abs().max()), int((a[:, 1:] - a[:, :-1]).abs().max()))
            for a in (row, column)
        }
        assert neighbours == {(1, 0), (0, 1)}  # a whole window, at most mirrored and turned


def test_the_network_reads_what_enhancement_gives_it():
    pair = coded_pair("a", 16, 16)
    low = Crops([pair], size=16, batch=1, seed=0)[0].low
    expected = preprocess.network_input(pair.dark / 255, pair.equalized / 255)
    turned = [torch.rot90(expected, k, (1, 2)) for k in range(4)]
    assert any(torch.equal(low[0], x) for t in turned for x in (t, t.flip(2)))


def test_a_batch_depends_on_seed_and_step_alone():
    pairs = [coded_pair("a", 40, 56)]
    crops = Crops(pairs, size=16, batch=4, seed=1)
    first, second = crops[7], crops[8]
    assert all(map(torch.equal, first, crops[7]))
    assert all(map(torch.equal, first, Crops(pairs, size=16, batch=4, seed=1)[7]))
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], Crops(pairs, size=16, batch=4, seed=2)[7][0])


def test_every_window_and_every_turn_comes_up():
    crops = Crops([coded_pair("a", 18, 18)], size=16, batch=64, seed=0)
    corners = set()
    for step in range(10):
        place = unpack(*crops[step][:2])[2][:, :2]
        corners |= {(tuple(p[:, 0, 0].tolist()), tuple(p[:, 0, 1].tolist())) for p in place}
    # The window's own corner and direction: 3×3 windows, 4 turns, mirrored or not.
    assert len(corners) == 9 * 8


def test_synthetic_pairs_get_their_share():
    real, synthetic = coded_pair("a", 16, 16), coded_pair("a", 16, 16)
    synthetic.bright[2] = 99
    crops = Crops([real], [synthetic], synthetic_share=0.3, size=16, batch=400, seed=0)
    share = (unpack(*crops[0][:2])[2][:, 2, 0, 0] == 99).float().mean()
    assert 0.21 < share < 0.39  # four standard deviations
    alone = Crops([real], synthetic_share=0.3, size=16, batch=4, seed=0)
    assert (unpack(*alone[0][:2])[2][:, 2] == 30).all()


def test_pictures_smaller_than_the_crop_are_named():
    pairs = [coded_pair("small", 15, 40), coded_pair("large", 40, 40)]
    with pytest.raises(DataError, match=r"smaller than the crop of 16: small$"):
        Crops(pairs, size=16, batch=1, seed=0)
