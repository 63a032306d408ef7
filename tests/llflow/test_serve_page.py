"""The page in a browser: each control used, at a desk, on a phone, in the dark."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from live import live
from PIL import Image

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs chromium: apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
playwright.expect.set_options(timeout=60_000)

DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark", "reduced_motion": "reduce"}
LOOKS = {"desk": DESK, "phone": PHONE, "desk_dark": DESK | DARK, "phone_dark": PHONE | DARK}
SHOTS = os.environ.get("LLFLOW_SCREENSHOTS")  # a folder for them, to look at


def picture(path, size=(60, 40), seed=0, file_format="PNG", **options):
    levels = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(levels).save(path, file_format, **options)
    return path


@pytest.fixture(scope="module")
def address(weights):
    with live(weights) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """A page with a look; whatever its console complains of fails the test."""
    opened, said = [], []

    def open_(url=address, expect=(), **look):
        page = browser.new_context(**(look or DESK)).new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda line: line.type == "error" and said.append(line.text))
        page.expected = expect
        page.goto(url)
        opened.append(page)
        return page

    yield open_
    expected = tuple(text for page in opened for text in page.expected)
    for page in opened:
        page.context.close()
    assert [text for text in said if not any(e in text for e in expected)] == []


def with_picture(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])
    playwright.expect(page.locator("#work")).to_be_visible()
    return page


def is_shown(page, selector="#after"):
    """A picture that the browser has decoded."""
    return page.locator(selector).evaluate("image => image.decode().then(() => image.src)")


def changes(page, act):
    """What an act does to the bright picture: it becomes another one."""
    before = is_shown(page)
    act()
    playwright.expect(page.locator("#after")).not_to_have_attribute("src", before)
    return is_shown(page)


def shot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS, f"{name}.png"), full_page=True)


@pytest.mark.parametrize("look", LOOKS)
def test_looks_and_no_serious_fault(open_page, tmp_path, look):
    page = open_page(**LOOKS[look])
    shot(page, f"{look}_empty")
    paths = [picture(tmp_path / f"{name}.png", seed=index) for index, name in enumerate("ab")]
    with_picture(page, *paths)
    page.click("#draw")
    playwright.expect(page.locator("#samples img")).to_have_count(5)
    playwright.expect(page.locator("#strip img")).to_have_count(2)
    page.get_by_label("Show where it guesses").check()
    playwright.expect(page.locator("#doubt")).to_be_visible()
    shot(page, look)
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    assert [violation["id"] for violation in found.response["violations"]] == []
    width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0  # nothing to the side


def test_the_divider_by_keys_and_by_touch(open_page, tmp_path):
    page = with_picture(open_page(**PHONE), picture(tmp_path / "a.png"))
    slider = page.get_by_label("Divider between dark and bright")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "52"
    assert slider.get_attribute("aria-valuetext") == "52 % dark original"
    box = slider.bounding_box()
    slider.tap(position={"x": box["width"] / 4, "y": box["height"] / 2})
    assert abs(int(slider.input_value()) - 25) <= 1
    at = page.locator("#compare").evaluate("slider => slider.style.getPropertyValue('--at')")
    assert at == f"{slider.input_value()}%"


def test_light(open_page, tmp_path):
    page = with_picture(open_page(), picture(tmp_path / "a.png"))
    original = is_shown(page)

    def press(label, key):
        page.get_by_label(label).focus()
        page.keyboard.press(key)

    changes(page, lambda: press("Brightness", "ArrowRight"))
    assert "+0.1 stops" in page.inner_text("#controls")
    changes(page, lambda: press("Strength", "PageDown"))
    assert page.locator("#strength-shown").inner_text() == "90 %"
    changes(page, lambda: page.click("#reset"))
    assert page.locator("#strength-shown").inner_text() == "100 %"
    assert is_shown(page) != original  # an URL of its own


def test_samples(open_page, tmp_path):
    page = with_picture(open_page(), picture(tmp_path / "a.png"))
    page.get_by_label("Spread").fill("0.4")
    page.click("#draw")
    playwright.expect(page.locator("#status")).to_have_text("The samples are drawn.")
    choices = page.locator("#samples button")
    assert [text.strip() for text in choices.all_inner_texts()] == [
        "Most typical",
        *(f"Sample {number}" for number in range(1, 5)),
    ]
    changes(page, lambda: choices.nth(2).click())
    assert choices.nth(2).get_attribute("aria-pressed") == "true"
    changes(page, lambda: choices.nth(0).click())


def test_doubt(open_page, tmp_path):
    page = with_picture(open_page(), picture(tmp_path / "a.png"))
    page.get_by_label("Show where it guesses").check()
    playwright.expect(page.locator("#doubt")).to_be_visible()
    is_shown(page, "#doubt")
    page.get_by_label("Show where it guesses").uncheck()
    playwright.expect(page.locator("#doubt")).to_be_hidden()
    page.click("#rate")
    playwright.expect(page.locator("#fit")).to_contain_text("bits per dimension")


@pytest.mark.parametrize(
    ("chosen", "ending", "file_format"), [("", "jpg", "JPEG"), ("TIFF", "tif", "TIFF")]
)
def test_download(open_page, tmp_path, chosen, ending, file_format):
    exif = Image.Exif()
    exif[271] = "Camera"
    source = picture(tmp_path / "night.shot.jpg", file_format="JPEG", exif=exif)
    page = with_picture(open_page(), source)
    assert "Camera" in page.inner_text("#about")
    page.get_by_label("Format").select_option(chosen)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == f"night.shot_bright.{ending}"
    written = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert (written.format, written.size) == (file_format, (60, 40))
    assert written.getexif()[271] == "Camera"


def test_a_strip_of_several_and_removing_them(open_page, tmp_path):
    page = open_page()
    paths = [picture(tmp_path / f"{name}.png", seed=index) for index, name in enumerate("abc")]
    with_picture(page, *paths)
    playwright.expect(page.locator("#strip img")).to_have_count(3)
    page.locator("#strip button").nth(2).click()
    assert page.inner_text("#name") == "c.png"
    names = []
    page.on("download", lambda download: names.append(download.suggested_filename))
    page.click("#download-all")
    playwright.expect(page.locator("#status")).to_have_text("c_bright.png is written.")
    page.click("#remove")
    assert page.inner_text("#name") == "b.png"
    page.click("#remove")
    page.click("#remove")
    playwright.expect(page.locator("#stage")).to_be_hidden()
    playwright.expect(page.locator("#files")).to_be_focused()
    assert names == ["a_bright.png", "b_bright.png", "c_bright.png"]


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_dropped_and_pasted(open_page, tmp_path, how):
    page = open_page()
    content = [*picture(tmp_path / "a.png").read_bytes()]
    page.evaluate(
        """([how, content]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "a.png"));
            const event = how === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [how, content],
    )
    playwright.expect(page.locator("#work")).to_be_visible()


def test_what_is_no_picture_is_told_in_words(open_page, tmp_path):
    page = open_page()
    (tmp_path / "a.png").write_text("no picture")
    page.set_input_files("#files", str(tmp_path / "a.png"))
    playwright.expect(page.get_by_role("alert")).to_contain_text("not a picture")
    with_picture(page, picture(tmp_path / "b.png"))
    assert page.get_by_role("alert").inner_text() == ""


def test_cancelling(open_page, tmp_path):
    page = open_page(expect=("ERR_ABORTED",))
    page.set_input_files("#files", str(picture(tmp_path / "a.png", (1500, 1000))))
    page.click("#cancel")
    playwright.expect(page.get_by_role("alert")).to_have_text("Cancelled.")
    with_picture(page, picture(tmp_path / "b.png"))


def test_a_service_that_starts_anew(open_page, weights, tmp_path):
    """The page sends its picture again, and says so meanwhile."""
    gone = ("ERR_CONNECTION_REFUSED", "404", "ERR_INCOMPLETE", "ERR_CONNECTION_RESET")
    with live(weights) as (address, _):
        page = with_picture(open_page(address, gone), picture(tmp_path / "a.png"))
        port = int(address.rpartition(":")[2])
    page.get_by_label("Brightness").focus()
    before = is_shown(page)
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#status")).to_contain_text("doesn't answer")
    with live(weights, port):
        playwright.expect(page.locator("#after")).not_to_have_attribute("src", before)
        assert is_shown(page) != before
