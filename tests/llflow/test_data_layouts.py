"""Pairs in anybody's folders: found, or refused by name, and never guessed in silence."""

import pytest

from llflow import data
from llflow.data import DataError


@pytest.fixture
def make(tmp_path):
    """Empty files; what is in them isn't looked at."""

    def call(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return call


def found(folder):
    return [
        (p.name, *(str(f.relative_to(folder)) for f in (p.dark, p.bright)))
        for p in data.find_pairs(folder)
    ]


# --- folders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dark", "bright"),
    [
        ("low", "high"),
        ("LOW", "High"),
        ("Low", "Normal"),
        ("low", "normal"),
        ("input", "target"),
        ("input", "GT"),
        ("dark", "bright"),
        ("low_light", "normal-light"),
        ("our485/low", "our485/high"),
        ("Train/Low", "Train/Normal"),
        ("LOL-v2/Real_captured/Test/Low", "LOL-v2/Real_captured/Test/Normal"),
    ],
)
def test_layouts(make, dark, bright):
    folder = make(
        f"{dark}/1.png", f"{bright}/1.JPG", f"{dark}/2.webp", f"{bright}/2.tif", "READ.me"
    )
    expected = [
        ("1", f"{dark}/1.png", f"{bright}/1.JPG"),
        ("2", f"{dark}/2.webp", f"{bright}/2.tif"),
    ]
    assert found(folder) == expected


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (
            ["our485/low", "our485/high", "eval15/low", "eval15/high"],
            "eval15/low with high, our485",
        ),
        (["Train/Low", "Train/Normal", "Test/low", "Test/high"], "Test/low with high, Train/Low"),
        (
            ["Real/Train/Low", "Real/Train/Normal", "Synthetic/Low", "Synthetic/Normal"],
            "Real/Train",
        ),
        (["low", "high", "gt"], "low with gt, low with high"),
        (["low", "Low", "high"], "Low with high, low with high"),
    ],
)
def test_several_layouts_are_named(make, parts, named):
    folder = make(*(f"{part}/1.png" for part in parts))
    with pytest.raises(DataError, match=f"expected one folder of dark .* got {named}"):
        data.find_pairs(folder)


def test_one_of_several_can_be_given(make):
    folder = make("a/low/1.png", "a/high/1.png", "b/low/2.png", "b/high/2.png")
    assert found(folder / "b") == [("2", "low/2.png", "high/2.png")]


def test_the_folder_itself_comes_first(make):
    folder = make("low/1.png", "high/1.png", "test/low/2.png", "test/high/2.png")
    assert found(folder) == [("1", "low/1.png", "high/1.png")]


def test_empty_and_hidden_folders_do_not_count(make):
    folder = make(
        "low/.a", "high/1.png", ".old/low/1.png", ".old/high/1.png", "b/low/1", "b/high/1"
    )
    assert found(folder) == [("1", "b/low/1", "b/high/1")]


def test_four_folders_deeper_is_too_deep(make):
    make("a/b/c/low/1.png", "a/b/c/high/1.png")
    folder = make("a/b/c/low/1.png")
    assert len(data.find_pairs(folder)) == 1
    with pytest.raises(DataError, match="expected pictures in both"):
        data.find_pairs(make("x/a/b/c/low/1.png", "x/a/b/c/high/1.png") / "nothing")
    (folder / "a").rename(folder / "x" / "y")
    (folder / "x" / "a").rename(folder / "x" / "y" / "z")
    with pytest.raises(DataError, match="expected pictures in both"):
        data.find_pairs(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nothing: expected .* there is no such folder"):
        data.find_pairs(tmp_path / "nothing")


def test_links_in_a_circle_end(make):
    folder = make("a/b.txt")
    (folder / "a" / "again").symlink_to(folder)
    with pytest.raises(DataError, match="expected pictures in both"):
        data.find_pairs(folder)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dark", "bright", "names"),
    [
        (["low00001", "low00002"], ["normal00001", "normal00002"], ["00001", "00002"]),
        (["1_low", "2_low"], ["1_high", "2_high"], ["1", "2"]),
        (["1", "2"], ["1_gt", "2_gt"], ["1", "2"]),
        (["a-Input", "b-INPUT"], ["a", "b"], ["a", "b"]),
        (["dark a.b", "dark c"], ["normal.a.b", "normal.c"], ["a.b", "c"]),
        (["10", "9"], ["10", "9"], ["10", "9"]),
        (["low1", "low2"], ["low1", "low2"], ["low1", "low2"]),
    ],
)
def test_names_without_the_folders_words(make, caplog, dark, bright, names):
    make(*(f"low/{name}.png" for name in dark))
    folder = make(*(f"Normal/{name}.jpg" for name in bright))
    expected = [
        (name, f"low/{d}.png", f"Normal/{b}.jpg")
        for name, d, b in zip(names, dark, bright, strict=True)
    ]
    assert found(folder) == expected
    assert not caplog.records


@pytest.mark.parametrize(
    ("dark", "bright"),
    [(["lower_1", "lone"], ["er_1", "x"]), (["1_yellow", "one"], ["1_yel", "x"])],
)
def test_a_word_within_a_word_stays(make, dark, bright):
    make(*(f"low/{name}.png" for name in dark))
    folder = make(*(f"high/{name}.png" for name in (*bright, "third")))
    assert data.look(folder).pairs == []


def test_names_that_would_become_one_stay(make):
    make("low/low_1.png", "low/1.png", "low/low_2.png")
    folder = make("high/high_1.png", "high/1.png", "high/high_2.png")
    with pytest.raises(DataError, match="no partner of the same name: high_1, high_2, low_1, low"):
        data.find_pairs(folder)


def test_the_one_without_a_partner_is_named(make):
    make("Low/low00001.png", "Low/low00002.png", "Low/low00003.png")
    folder = make("Normal/normal00001.png", "Normal/normal00003.png")
    with pytest.raises(DataError, match=r"1 pictures have no partner of the same name: low00002$"):
        data.find_pairs(folder)
    seen = data.look(folder)
    assert [pair.name for pair in seen.pairs] == ["00001", "00003"]
    assert seen.alone == [folder / "Low" / "low00002.png"]


def test_in_order_with_a_warning(make, caplog):
    make(*(f"low/IMG{number}.png" for number in (2, 10, 1)))
    folder = make(*(f"high/frame_{number}.png" for number in ("007", "030", "008")))
    assert found(folder) == [
        ("IMG1", "low/IMG1.png", "high/frame_007.png"),
        ("IMG10", "low/IMG10.png", "high/frame_030.png"),
        ("IMG2", "low/IMG2.png", "high/frame_008.png"),
    ]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "paired in order, which may be wrong: 'IMG1.png' with 'frame_007.png'," in record.message


@pytest.mark.parametrize(
    "names",
    [
        ["low/a.png", "low/b.png", "high/x.png"],  # as many would be needed
        ["low/a.png", "low/b.png", "high/b.png", "high/x.png"],  # one does fit
        ["low/low_a.png", "low/low_b.png", "high/high_b.png", "high/x.png"],
    ],
)
def test_not_in_order(make, caplog, names):
    with pytest.raises(DataError, match="have no partner"):
        data.find_pairs(make(*names))
    assert not caplog.records


def test_what_is_left_over_is_kept_for_the_report(make):
    names = ("low/1.png", "low/1.jpg", "low/2.png", "high/1.png", "high/3.png", "high/3.bmp")
    folder = make(*names)
    seen = data.look(folder)
    assert [(p.name, p.dark.name, p.bright.name) for p in seen.pairs] == [("1", "1.jpg", "1.png")]
    assert [path.name for path in seen.alone] == ["2.png", "3.bmp"]
    doubles = [(first.name, second.name) for first, second in seen.doubles]
    assert doubles == [("1.jpg", "1.png"), ("3.bmp", "3.png")]
    assert seen.how == "equal names"
