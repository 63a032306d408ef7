"""Pictures of one scene are recognised, whatever the exposure, and kept on one side of a split."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from llflow import data
from llflow.data import DataError


def scene(seed, height=128, width=192):
    """(3, H, W) in [0, 1] with structure at several scales, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.randn(1, 3, n * 2, n * 3, generator=generator) * n**-0.5 for n in (1, 2, 4, 8, 16)
    ]
    total = sum(interpolate(layer, (height, width), mode="bicubic") for layer in layers)
    return (0.5 + 0.12 * total[0]).clamp(0, 1)


def noisy(picture):
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    return (picture + 0.05 * noise).clamp(0, 1)


def with_a_lamp(picture):
    lit = picture.clone()
    lit[:, :40, :50] = 1
    return lit


def like(a, b):
    return float(data.likeness(data.thumbnail(a)[None], data.thumbnail(b)[None]))


@pytest.mark.parametrize(
    "again",
    [
        lambda x: x,
        lambda x: x / 8,
        lambda x: (1.6 * x).clamp(max=1),
        lambda x: x**2.2,
        lambda x: (x * 255).round() / 255,
        noisy,
        with_a_lamp,
        lambda x: x.roll((1, 2), (1, 2)),
        lambda x: interpolate(x[None], (400, 600), mode="bilinear")[0],
        lambda x: interpolate(x[None], (40, 60), mode="area")[0],
    ],
)
def test_the_same_scene(again):
    for seed in range(5):
        picture = scene(seed)
        assert like(picture, again(picture)) > 0.75


def test_other_scenes():
    thumbnails = torch.stack([data.thumbnail(scene(seed)) for seed in range(60)])
    likeness = data.likeness(thumbnails, thumbnails)
    assert torch.allclose(likeness.diagonal(), torch.ones(60), atol=1e-5)  # float32 sums
    assert likeness.fill_diagonal_(0).max() < 0.5
    related = [blend(*thumbnails[:2], 0), blend(*thumbnails[:2], 1)]  # radians, so about cos 1
    assert 0.4 < data.likeness(*(picture[None] for picture in related)) < 0.65
    assert data.groups({"a": related[0], "b": related[1]}) == [["a"], ["b"]]


def test_bright_sky_over_dark_ground_is_no_likeness():
    ramp = torch.linspace(1, 0, 128)[:, None]
    a, b = (ramp + 0.05 * (scene(seed) - 0.5) for seed in (1, 2))
    flat = [x.mean(0).flatten() for x in (a, b)]
    assert torch.corrcoef(torch.stack(flat))[0, 1] > 0.98
    assert like(a, b) < 0.5


def test_a_picture_without_detail_is_like_none():
    flat, tiny = torch.full((3, 20, 30), 0.3), torch.full((3, 1, 1), 0.3)
    for a in (flat, tiny, scene(0)):
        assert abs(like(a, flat)) < 0.01
    names = {"a": data.thumbnail(flat), "b": data.thumbnail(flat)}
    assert data.groups(names) == [["a"], ["b"]]


def blend(a, b, angle):
    return 0.5 + 0.25 * (np.cos(angle) * (a - 0.5) + np.sin(angle) * (b - 0.5))


def test_what_is_like_the_like_is_of_the_scene():
    a, b = (data.thumbnail(scene(seed)) for seed in (1, 2))
    steps = {str(k): blend(a, b, np.deg2rad(30 * k)) for k in (3, 0, 2, 1)}
    stack = torch.stack([steps[str(k)] for k in range(4)])
    likeness = data.likeness(stack, stack)
    assert all(likeness[i, j] > 0.7 for i, j in pairwise(range(4)))
    assert likeness[0, 3] < 0.5
    assert data.groups(steps) == [["3", "0", "2", "1"]]


def test_groups_over_more_than_one_block():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 500, 1200)
    bases = torch.from_numpy(rng.random((500, 40, 56), dtype=np.float32))
    noise = torch.from_numpy(rng.random((1200, 40, 56), dtype=np.float32))
    pictures = dict(zip(map(str, range(1200)), bases[labels] + 0.2 * noise, strict=True))
    expected = {}
    for name, label in zip(pictures, labels, strict=True):
        expected.setdefault(label, []).append(name)
    assert data.groups(pictures) == list(expected.values())
    held, kept = ({n: pictures[n] for n in names} for names in (["3", "1100"], ["7", "1099"]))
    copies = {"copy": pictures["1100"] * 0.5}
    assert data.leaks(pictures, copies) == [("copy", "1100")]
    assert data.leaks(kept, held) == data.leaks({}, held) == data.leaks(kept, {}) == []


# --- in files --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Seven pairs; 1, 3 and 6 show one scene in three exposures, 2 and 5 another."""
    scenes = {"1": 1, "2": 2, "3": 1, "4": 4, "5": 2, "6": 1, "7": 7}
    for name, seed in scenes.items():
        exposure = 0.6 + 0.05 * int(name)
        for part, share in (("low", 0.1), ("high", exposure)):
            (tmp_path / part).mkdir(exist_ok=True)
            pixels = (scene(seed, 64, 96) * share * 255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / part / f"{name}.png")
    return tmp_path


def test_scenes_are_found(folder):
    pairs = data.find_pairs(folder)
    expected = [["1", "3", "6"], ["2", "5"], ["4"], ["7"]]
    assert data.find_scenes(pairs) == data.find_scenes(pairs[::-1]) == expected


def test_without_clusters_whole_scenes_are_held_out(folder):
    pairs = data.find_pairs(folder)
    scenes = [{"1", "3", "6"}, {"2", "5"}, {"4"}, {"7"}]
    sides = set()
    for seed in range(12):
        training, validation = data.hold_out(pairs, None, 0.5, seed)
        names = {pair.name for pair in validation}
        assert all(scene <= names or not scene & names for scene in scenes)
        assert sum(scene <= names for scene in scenes) == 2
        data.refuse_leaks(training, validation)
        sides.add(frozenset(names))
    assert len(sides) > 3  # of six


def test_leaks_are_refused_by_name(folder):
    pairs = {pair.name: pair for pair in data.find_pairs(folder)}
    training, validation = ([pairs[name] for name in names] for names in ("1247", "356"))
    with pytest.raises(DataError, match=r"3 pictures .*: 3 as 1, 5 as 2, 6 as 1; split by scene"):
        data.refuse_leaks(training, validation)
    data.refuse_leaks([pairs[name] for name in "136"], [pairs[name] for name in "2547"])


def test_a_bad_picture_is_named(folder):
    (folder / "high" / "4.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"4\.png: not a picture"):
        data.find_scenes(data.find_pairs(folder))


def test_a_split_is_written_and_read(folder, tmp_path):
    pairs, path = data.find_pairs(folder), tmp_path / "deep" / "split.json"
    data.write_split(path, pairs[2:], pairs[:2], [["1", "2"], ["3"]])
    assert data.read_split(path) == {"training": list("34567"), "validation": ["1", "2"]}
    assert data.read_clusters(path) == [["1", "2"], ["3"]]


def test_a_name_on_both_sides_is_refused(tmp_path):
    path = tmp_path / "split.json"
    path.write_text('{"training": ["1", "2"], "validation": ["3", "2"]}')
    with pytest.raises(DataError, match=r"split\.json: 2 is in training and in validation"):
        data.read_split(path)
