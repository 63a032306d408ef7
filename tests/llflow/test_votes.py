"""Which of two is better: the page is blind, keeps what was chosen, and the votes are counted."""

import json
import math
import re
import shutil
from collections import Counter

import pytest
from PIL import Image

from llflow.errors import UsageError
from llflow.votes.count import Votes, VotesError, count, read_votes
from llflow.votes.page import fitted, page
from llflow.votes.study import Study

NAMES = tuple(f"picture {number}" for number in range(9))
STUDY = Study(a="mine", b="theirs", seed=3, pairs=NAMES)


def data_of(html):
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)
    return json.loads(text)


def colors(study=STUDY):
    """For every pair a picture of a's, red, and one of b's, blue."""
    pair = [Image.new("RGB", (60, 40), color) for color in ("red", "blue")]
    return dict.fromkeys(study.pairs, pair)


def votes(choices, voter="one", study=STUDY):
    return Votes(study=study, voter=voter, votes=choices)


def for_a(names, study=STUDY):
    side = {"a": "left", "b": "right"}
    return {name: side[study.on_the_left()[name]] for name in names}


def for_b(names):
    other = {"left": "right", "right": "left"}
    return {name: other[side] for name, side in for_a(names).items()}


# --- who is where ----------------------------------------------------------------------------


def test_half_of_the_pairs_have_a_on_the_left():
    assert Counter(STUDY.on_the_left().values()) == {"a": 5, "b": 4}
    assert sorted(STUDY.order()) == sorted(NAMES)
    assert STUDY.order() != list(NAMES)


def test_the_seed_decides_and_nothing_else():
    again = Study(a="x", b="y", seed=3, pairs=NAMES[::-1])
    assert (again.order(), again.on_the_left()) == (STUDY.order(), STUDY.on_the_left())
    places = {tuple(Study(a="x", b="y", seed=s, pairs=NAMES).order()) for s in range(20)}
    sides = {tuple(sorted(_on_left(s))) for s in range(20)}
    assert len(places) == 20
    assert len(sides) > 15


def _on_left(seed):
    left = Study(a="x", b="y", seed=seed, pairs=NAMES).on_the_left()
    return [name for name, who in left.items() if who == "a"]


def test_a_study_of_long_ago_is_counted_as_it_was_shown():
    study = Study(a="a", b="b", seed=0, pairs=("1", "2", "3", "4"))
    assert study.order() == ["4", "3", "2", "1"]
    assert study.on_the_left() == {"2": "a", "3": "a", "1": "b", "4": "b"}


# --- the page --------------------------------------------------------------------------------


def test_the_page_shows_each_on_its_side():
    data = data_of(page(STUDY, colors()))
    assert data["order"] == STUDY.order()
    reds = [pictures[0] for pictures in data["pictures"]]
    left = STUDY.on_the_left()
    by_side = zip((left[name] for name in data["order"]), reds, strict=True)
    (_, red), (_, blue) = sorted(set(by_side))
    assert red != blue
    assert all(set(pictures) == {red, blue} for pictures in data["pictures"])


def test_the_page_needs_nothing_else_and_says_no_side():
    html = page(STUDY, colors())
    assert not re.search(r"https?:|src=\"(?!data:)|@import|url\(", html)
    assert "default-src 'none'" in html
    data = data_of(html)
    assert set(data) == {"study", "order", "pictures"}
    assert set(data["study"]) == {"a", "b", "seed", "pairs"}


def test_pictures_hold_pixels_alone():
    picture = Image.new("RGB", (50, 30), "red")
    picture.info["comment"] = picture.info["Software"] = "made by mine"
    html = page(STUDY, {name: [picture, picture] for name in NAMES})
    assert len({one for both in data_of(html)["pictures"] for one in both}) == 1
    assert fitted(picture, 25).size == (25, 15)
    assert fitted(picture, 60).size == (50, 30)


def test_a_name_can_not_end_the_script():
    study = Study(a="</script><b>", b="theirs", seed=0, pairs=("</script>",))
    html = page(study, colors(study))
    assert data_of(html)["study"]["a"] == "</script><b>"
    assert html.count("</script>") == 2


# --- counting --------------------------------------------------------------------------------


def test_one_voter_by_hand():
    found = count([votes(for_a(NAMES[:6]) | for_b(NAMES[6:8]) | {NAMES[8]: "same"})])
    assert (found.a, found.b, found.same, found.voters) == (6, 2, 1, 1)
    assert found.share == 0.75
    z, n, p = 1.959964, 8, 0.75
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.interval == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_several_voters_draw_pairs():
    """Ten voters who agree say no more about pairs than one does."""
    choices = for_a(NAMES[:5]) | for_b(NAMES[5:])
    found = count([votes(choices, f"{number}") for number in range(10)])
    assert (found.a, found.b, found.voters) == (50, 40, 10)
    low, high = found.interval
    assert low < 0.3
    assert high > 0.8
    assert found.method == "bootstrap over pairs"


def test_no_vote_for_either():
    found = count([votes({NAMES[0]: "same"})])
    assert (found.same, math.isnan(found.share), math.isnan(found.interval[0])) == (1, True, True)


def test_votes_that_do_not_belong_together():
    other = Study(a="mine", b="others", seed=3, pairs=NAMES)
    with pytest.raises(UsageError, match="different studies"):
        count([votes({}), votes({}, "two", other)])
    with pytest.raises(UsageError, match="twice"):
        count([votes({}), votes({})])
    with pytest.raises(UsageError, match="at least one"):
        count([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "be an object"),
        (json.dumps({"voter": "x", "votes": {}}), "study: Field required"),
        (lambda v: v["votes"].update({"picture 1": "up"}), "votes.picture 1"),
        (lambda v: v["votes"].update({"picture 99": "left"}), "no pair 'picture 99'"),
        (lambda v: v["study"].update(pairs=["x", "x"]), "each pair once"),
        (lambda v: v["study"].update(seed="1"), "study.seed"),
        (lambda v: v.update(more=1), "more"),
    ],
)
def test_files_that_are_no_votes(tmp_path, content, message):
    if callable(content):
        whole = json.loads(votes(for_a(NAMES)).model_dump_json())
        content(whole)
        content = json.dumps(whole)
    path = tmp_path / "votes.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VotesError, match=message) as error:
        read_votes(path)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    for name, color in (("mine", "red"), ("theirs", "blue")):
        (tmp_path / name).mkdir()
        for number in range(3):
            size = (30 + number, 20)
            Image.new("RGB", size, color).save(tmp_path / name / f"{number}.png")
    return tmp_path / "mine", tmp_path / "theirs"


def test_a_page_and_its_count(llflow, folders, tmp_path):
    out = tmp_path / "page.html"
    code, said, err = llflow("vote", "page", *folders, "-o", out)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"3 pairs, 0\.0 MB -> {re.escape(str(out))}\n", said)
    study = Study.model_validate_json(json.dumps(data_of(out.read_text())["study"]))
    assert (study.a, study.b, study.pairs) == ("mine", "theirs", ("0", "1", "2"))
    chosen = votes(for_a(["0", "2"], study) | {"1": "same"}, study=study)
    (tmp_path / "votes.json").write_text(chosen.model_dump_json())
    code, said, err = llflow("vote", "count", tmp_path / "votes.json")
    assert (code, err) == (0, "")
    assert said.splitlines() == [
        "1 voter, 3 pairs: mine 2, theirs 0, no difference 1",
        "mine is preferred in 100 % [34, 100] (Wilson's, 95 %)",
    ]
    code, said, err = llflow("vote", "count", tmp_path / "votes.json", "--json")
    assert json.loads(said)["votes"] == {"a": 2, "b": 0, "same": 1}


def test_what_is_wrong_is_one_line(llflow, folders, tmp_path):
    mine, theirs = folders
    out = tmp_path / "page.html"

    def said(*arguments):
        code, printed, err = llflow("vote", *arguments)
        assert (code in (1, 2), printed, len(err.splitlines())) == (True, "", 1), err
        return err

    assert "two names" in said("page", mine, mine, "-o", out)
    assert "two names" in said("page", mine, theirs, "-o", out, "--names", "same,same")
    assert "expected a folder of pictures" in said("page", mine, tmp_path / "none", "-o", out)
    assert "would replace" in said("page", mine, theirs, "-o", mine / "0.png")
    Image.new("RGB", (9, 9)).save(theirs / "1.png")
    assert "1.png is 31×20" in said("page", mine, theirs, "-o", out)
    (theirs / "1.png").write_bytes(b"no picture")
    assert "1.png" in said("page", mine, theirs, "-o", out)
    (theirs / "1.png").unlink()
    assert "no picture of the same name for 1.png" in said("page", mine, theirs, "-o", out)
    assert not out.exists()
    out.write_text("mine")
    assert "not votes" in said("count", out)
    assert "No such file" in said("count", tmp_path / "none.json")


# --- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium (Debian: apt install chromium)")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, tmp_path):
    """The page of three pairs, and what went wrong on it."""
    study = Study(a="mine", b="theirs", seed=0, pairs=("1", "2", "3"))
    path = tmp_path / "page.html"
    big = [Image.new("RGB", (1500, 900), color) for color in ("red", "blue")]
    path.write_text(page(study, dict.fromkeys(study.pairs, big)), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1000, "height": 700}, offline=True)
    tab = context.new_page()
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    tab.goto(path.as_uri())
    yield study, tab
    assert problems == []
    context.close()


def saved(tab, tmp_path, how):
    with tab.expect_download() as download:
        how()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    return read_votes(file)


def test_by_keyboard_from_the_first_pair_to_the_file(shown, tmp_path):
    study, tab = shown
    assert tab.locator("#progress").inner_text() == "Pair 1 of 3"
    for key in ("ArrowLeft", "ArrowDown", "ArrowLeft", "Backspace", "ArrowRight"):
        tab.keyboard.press(key)
    assert "3 of 3 pairs have a vote" in tab.locator("#summary").inner_text()
    found = saved(tab, tmp_path, lambda: tab.keyboard.press("s"))
    assert found.study == study
    assert [found.votes[name] for name in study.order()] == ["left", "same", "right"]
    assert found.preferred()[study.order()[0]] == study.on_the_left()[study.order()[0]]


def test_by_mouse_and_after_the_page_was_closed(shown, tmp_path):
    study, tab = shown
    tab.get_by_role("button", name="Right").click()
    tab.reload()
    assert tab.locator("#progress").inner_text() == "Pair 2 of 3"
    tab.get_by_role("button", name="Back").click()
    assert tab.locator("#right").get_attribute("aria-pressed") == "true"
    found = saved(tab, tmp_path, tab.get_by_role("button", name="Save votes").click)
    assert found.votes == {study.order()[0]: "right"}


def test_starting_again_asks_and_is_another_voter(shown, tmp_path):
    _, tab = shown
    for _ in range(3):
        tab.keyboard.press("ArrowLeft")
    first = saved(tab, tmp_path, lambda: tab.keyboard.press("s"))
    again = tab.get_by_role("button", name="Start again")
    tab.once("dialog", lambda dialog: dialog.dismiss())
    again.click()
    assert tab.locator("#done").is_visible()
    tab.once("dialog", lambda dialog: dialog.accept())
    again.click()
    tab.keyboard.press("ArrowRight")
    second = saved(tab, tmp_path, lambda: tab.keyboard.press("s"))
    assert len(second.votes) == 1
    assert second.voter != first.voter


def test_actual_size_shows_the_same_part_of_both(shown):
    _, tab = shown
    tab.keyboard.press("z")
    assert tab.locator("#left-picture").bounding_box()["width"] == 1500
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Shift+ArrowDown")
    # Not wait_for_function, which the page's policy forbids.
    scrolled = "[...document.querySelectorAll('.view')].every(v => v.scrollLeft && v.scrollTop)"
    for _ in range(50):
        if tab.evaluate(scrolled):
            break
        tab.wait_for_timeout(100)
    assert tab.evaluate(scrolled)
    assert tab.locator("#progress").inner_text() == "Pair 1 of 3"


def test_nothing_that_axe_finds(shown):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed")
    _, tab = shown
    for keys in ((), ("ArrowLeft",) * 3):
        for key in keys:
            tab.keyboard.press(key)
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            assert axe.Axe().run(tab).response["violations"] == []
