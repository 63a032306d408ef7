"""Situations that people reported of other tools: what is right is what happens here."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image, PngImagePlugin
from profiles import SPACES, profile_of, to_xyz

import llflow
from llflow.picture import files, light
from llflow.picture.files import PictureError, read, write
from llflow.picture.inputs import tensor_of

HEIGHT, WIDTH = 96, 128


def scene(dark=0.2, seed=0):
    """(H, W, 3) linear light in [0, dark]: slopes and rectangles."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.stack([0.3 + 0.6 * x / WIDTH, 0.2 + 0.7 * y / HEIGHT, 0.8 - 0.5 * x / WIDTH], -1)
    for _ in range(12):
        row, column, side = random.integers(HEIGHT), random.integers(WIDTH), random.integers(6, 20)
        image[max(0, row - side) : row + side, max(0, column - side) : column + side] = (
            random.random(3)
        )
    return image * dark


def saved(path, samples, profile=None, interpretation=None, **options):
    """A file of samples (H, W, C) by libvips."""
    kind = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}[samples.dtype.name]
    height, width, bands = samples.shape
    image = pyvips.Image.new_from_memory(samples.tobytes(), width, height, bands, kind)
    known = {("uchar", 3): "srgb", ("ushort", 3): "rgb16", ("ushort", 1): "grey16"}
    image = image.copy(interpretation=interpretation or known.get((kind, bands), "srgb"))
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    image.write_to_file(str(path), keep="icc", **options)
    return path


def pixels(path):
    image = pyvips.Image.new_from_file(str(path))
    return image.numpy().reshape(image.height, image.width, -1)


def stops(picture, value=2.0):
    """The picture in this many times the light: 2^stops, as `--brightness` means it."""
    factor = light.factor_of_stops(value)
    return picture.with_image((picture.image * factor).clamp(0, 1))


def tiff_of(entries, data=b""):
    """A TIFF of directories, each a dictionary of tag to whole numbers, one behind the other."""
    content, start = b"", 8 + len(data)
    for index, tags in enumerate(entries):
        length = 2 + 12 * len(tags) + 4
        last = index == len(entries) - 1
        body = b"".join(
            struct.pack("<HHLL", tag, 4, 1, value) for tag, value in sorted(tags.items())
        )
        following = 0 if last else start + len(content) + length
        content += struct.pack("<H", len(tags)) + body + struct.pack("<L", following)
    return b"II*\0" + struct.pack("<L", start) + data + content


THUMBNAIL = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4}


# --- 02: of a raw file its thumbnail ---------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        tiff_of([THUMBNAIL | {254: 1}], bytes(4)),
        tiff_of([THUMBNAIL | {50706: 0x01040000}], bytes(4)),
        tiff_of([THUMBNAIL, THUMBNAIL | {262: 32803}], bytes(4)),
        tiff_of([THUMBNAIL, THUMBNAIL | {262: 34892}], bytes(4)),
        b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
        b"FUJIFILMCCD-RAW 0201" + bytes(100),
        b"IIRO\x08\0\0\0" + bytes(100),
        b"IIU\0\x18\0\0\0" + bytes(100),
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100),
    ],
    ids=["preview first", "DNG", "sensor", "linear raw", "CR2", "RAF", "ORF", "RW2", "CR3"],
)
def test_a_raw_file_is_never_mistaken_for_its_thumbnail(tmp_path, content):
    (tmp_path / "DSC_0002.NEF").write_bytes(content)
    with pytest.raises(PictureError, match=r"raw file.*(develop it first|flowkit\[raw\])"):
        read(tmp_path / "DSC_0002.NEF")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "film"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, head, name):
    (tmp_path / "a.jpg").write_bytes(head + bytes(100))
    with pytest.raises(PictureError, match=f"it is .*{name}"):
        read(tmp_path / "a.jpg")


# --- 04: 16 bits cut to 8 --------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_dark_16_bits_reach_the_network(tmp_path, suffix, bands):
    color = bands - 1 + bands % 2
    levels = np.random.default_rng(0).integers(0, 65536 // 64, (64, 64, bands), dtype=np.uint16)
    levels[..., color:] = 65535
    path = saved(tmp_path / f"a{suffix}", levels, interpretation="grey16" if bands < 3 else "rgb16")
    picture = read(path)
    assert picture.bits == 16
    assert picture.grey is (bands < 3)
    expected = np.broadcast_to(levels[..., :color], (64, 64, 3)) / np.float32(65535)
    assert np.array_equal(picture.image.permute(1, 2, 0).numpy(), expected.astype(np.float32))
    assert len(picture.image.unique()) > 950  # of 1024; at 8 bits there are 5


def test_a_gradient_of_16_bits_keeps_its_levels(tmp_path, nano):
    ramp = np.linspace(0, 6000, 96 * 128).reshape(96, 128, 1).repeat(3, 2).astype(np.uint16)
    picture = read(saved(tmp_path / "dark.png", ramp))
    assert len(picture.image[0].unique()) == 6001
    bright = picture.with_image(llflow.enhance(nano, picture.image))
    write(tmp_path / "bright.png", bright)
    assert len(np.unique(pixels(tmp_path / "bright.png")[..., 0])) > 4000


# --- 05: planes, white is zero, few bits -----------------------------------------------------


def test_a_plane_for_each_channel(tmp_path):
    levels = np.random.default_rng(0).integers(0, 65536, (3, 5, 7), dtype=np.uint16)
    tags = {256: (7,), 257: (5,), 258: (16, 16, 16), 259: (1,), 262: (2,), 277: (3,), 278: (5,)}
    tags |= {284: (2,), 273: tuple(300 + 70 * k for k in range(3)), 279: (70, 70, 70)}
    body, long = b"", b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}L", *numbers)
        if len(packed) > 4:
            packed, long = struct.pack("<L", 150 + len(long)), long + packed
        body += struct.pack("<HHL", tag, 4, len(numbers)) + packed
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(4)
    content = head.ljust(150, b"\0") + long
    (tmp_path / "a.tif").write_bytes(content.ljust(300, b"\0") + levels.tobytes())
    picture = read(tmp_path / "a.tif")
    assert np.array_equal(picture.stored, levels.transpose(1, 2, 0))


def test_white_is_zero(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (6, 8, 1), dtype=np.uint8)
    path = saved(tmp_path / "a.tif", levels, interpretation="b-w", miniswhite=True)
    assert np.array_equal(read(path).stored, levels)


# --- 08: what else a file says ---------------------------------------------------------------


def test_png_texts_and_density_stay(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a dark street, seed 7", zip=True)
    texts.add_itxt("Title", "Zoë", "de", "Titel")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=texts, dpi=(300, 300))
    assert write(tmp_path / "b.png", read(tmp_path / "a.png")) == ()
    again = Image.open(tmp_path / "b.png")
    assert again.text == {"parameters": "a dark street, seed 7", "Title": "Zoë"}
    assert again.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert write(tmp_path / "b.jpg", read(tmp_path / "a.png")) == ("JPEG can't hold PNG's texts",)
    assert Image.open(tmp_path / "b.jpg").info["dpi"] == (300, 300)


def test_a_jpegs_comment_density_and_iptc_stay(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", comment=b"by hand", dpi=(300, 300))
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x19\0\x05night"
    content = (tmp_path / "a.jpg").read_bytes()
    segment = struct.pack(">BBH", 0xFF, 0xED, len(iptc) + 2) + iptc
    (tmp_path / "a.jpg").write_bytes(content[:20] + segment + content[20:])
    picture = read(tmp_path / "a.jpg")
    for suffix in (".jpg", ".tif", ".png"):
        lost = write(tmp_path / f"b{suffix}", picture)
        assert lost == (("the comment isn't kept",) if suffix == ".tif" else ())
        again = read(tmp_path / f"b{suffix}")
        assert b"\x1c\x02\x19\0\x05night" in again.about.resources
    again = Image.open(tmp_path / "b.jpg")
    assert (again.info["comment"], again.info["dpi"]) == (b"by hand", (300, 300))
    assert Image.open(tmp_path / "b.png").text["Comment"] == "by hand"


# --- 09: hidden pixels -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_hidden_pixels_influence_nothing(tmp_path, nano, suffix):
    colors = np.rint(scene() * 255).astype(np.uint8)
    visible = np.hypot(*np.mgrid[-48:48, -64:64]) < 40
    results = []
    for index, hidden in enumerate((0, 255, 128)):
        samples = np.dstack([colors, 255 * visible.astype(np.uint8)])
        samples[~visible, :3] = hidden
        options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
        picture = read(saved(tmp_path / f"{index}{suffix}", samples, **options))
        target = tmp_path / f"out{index}{suffix}"
        write(target, picture.with_image(llflow.enhance(nano, picture.image)))
        results.append(pixels(target))
        assert (results[-1][~visible, :3] == hidden).all()
    for result in results[1:]:
        assert np.array_equal(result[visible], results[0][visible])


def test_a_picture_of_which_nothing_is_visible(tmp_path, nano):
    samples = np.full((8, 8, 4), 200, np.uint8)
    samples[..., 3] = 0
    picture = read(saved(tmp_path / "a.png", samples))
    write(tmp_path / "b.png", picture.with_image(llflow.enhance(nano, picture.image)))
    assert np.array_equal(pixels(tmp_path / "b.png"), samples)


# --- 12: several pictures in one file --------------------------------------------------------


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("WEBP", {}), ("AVIF", {}), ("TIFF", {}), ("GIF", {})],
)
def test_animations_and_pages_are_refused_by_name(tmp_path, file_format, options):
    frames = [Image.new("RGB", (16, 16), (20 * k, 0, 0)) for k in range(4)]
    path = tmp_path / "a.bin"
    frames[0].save(path, file_format, save_all=True, append_images=frames[1:], **options)
    with pytest.raises(PictureError, match=r"animat|4 pages|4 pictures|GIF"):
        read(path)


def test_a_preview_beside_the_picture_is_left_out_and_said(tmp_path):
    content = tiff_of([THUMBNAIL, THUMBNAIL | {254: 1}], bytes([1, 2, 3, 4]))
    (tmp_path / "a.tif").write_bytes(content)
    picture = read(tmp_path / "a.tif")
    assert picture.stored.ravel().tolist() == [1, 2, 3, 4]
    assert picture.lost == ("the file's previews and masks aren't kept",)


# --- 13 and 14: color profiles ---------------------------------------------------------------

TO_SRGB = np.linalg.inv(to_xyz("sRGB, linear"))


def curve_of_srgb(linear):
    """IEC 61966-2-1."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def in_space(linear, name):
    """Linear sRGB as float64 samples of a space."""
    own = linear @ np.linalg.solve(to_xyz(name), to_xyz("sRGB, linear")).T
    return own.clip(0, 1) ** (1 / SPACES[name][-1])


@pytest.mark.parametrize("name", ["Adobe RGB", "ProPhoto", "P3, linear"])
def test_the_network_sees_the_same_picture_whatever_the_space(tmp_path, name):
    linear = scene()
    samples = np.rint(in_space(linear, name) * 65535).astype(np.uint16)
    picture = read(saved(tmp_path / "a.tif", samples, profile_of(name)))
    assert picture.icc_profile == profile_of(name)
    seen = picture.image.permute(1, 2, 0).numpy()
    # Primaries in profiles have 16 bits after the point: 2e-5 of light, times a slope of 12.92.
    assert np.abs(seen - curve_of_srgb(linear)).max() < 1e-3


@pytest.mark.parametrize("name", ["Adobe RGB", "ProPhoto", "Display P3"])
@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png"])
def test_a_neutral_run_leaves_a_wide_gamut_as_it_looks(tmp_path, name, suffix):
    samples = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    samples = samples.repeat(8, 0).repeat(8, 1)
    options = {"Q": 95, "subsample_mode": "off"} if suffix == ".jpg" else {}
    picture = read(saved(tmp_path / f"a{suffix}", samples, profile_of(name), **options))
    write(tmp_path / f"b{suffix}", picture)
    off = np.abs(pixels(tmp_path / f"b{suffix}").astype(int) - pixels(tmp_path / f"a{suffix}"))
    assert off.max() == 0 if suffix != ".jpg" else off.mean() < 1
    assert read(tmp_path / f"b{suffix}").icc_profile == profile_of(name)


def test_brightened_light_beyond_srgb_stays_beyond_it(tmp_path):
    linear = np.full((64, 64, 3), 0.05)
    linear[:, 32:] = 0.05 * np.array([-0.3, 1.0, -0.05])  # greener than sRGB holds
    samples = np.rint(in_space(linear, "ProPhoto") * 65535).astype(np.uint16)
    picture = read(saved(tmp_path / "a.tif", samples, profile_of("ProPhoto")))
    write(tmp_path / "b.tif", stops(picture, 1.0))
    result = (pixels(tmp_path / "b.tif") / 65535) ** 1.8 @ to_xyz("ProPhoto").T @ TO_SRGB.T
    expected = 2 * linear
    # What is computed is the value times 2^(1/2.2), which is 2 of light for a power of 2.2; sRGB's
    # curve is another in the dark, by a fifth at most.
    inside, beyond = result[:, 4:20], result[:, 44:60]
    assert np.abs(inside / expected[:, 4:20] - 1).max() < 0.2
    assert np.abs(beyond / expected[:, 44:60] - 1).max() < 0.35
    ratio = beyond.mean((0, 1)) / beyond.mean((0, 1))[1]
    assert ratio == pytest.approx([-0.3, 1.0, -0.05], abs=0.05)


def test_there_is_no_seam_where_srgb_ends(tmp_path):
    share = np.linspace(-0.02, 0.02, 128)[None, :, None].repeat(32, 0)
    linear = 0.1 * np.concatenate([share, np.ones_like(share), share * 0 + 0.5], -1)
    samples = np.rint(in_space(linear, "ProPhoto") * 65535).astype(np.uint16)
    picture = read(saved(tmp_path / "a.tif", samples, profile_of("ProPhoto")))
    write(tmp_path / "b.tif", stops(picture, 1.5))
    for plane in np.moveaxis(pixels(tmp_path / "b.tif").astype(int), 2, 0):
        step = np.abs(np.diff(plane[16]))
        assert step.max() < 6 * max(1, np.median(step)) + 60  # of 65535; a seam has thousands


def test_inks_are_what_their_profile_says(tmp_path):
    linear = scene(0.5)
    profile = profile_of("inks")
    xyz = pyvips.Image.new_from_array((curve_of_srgb(linear) * 255).round().astype(np.uint8))
    inks = xyz.copy(interpretation="srgb").icc_transform("cmyk", input_profile="srgb").numpy()
    path = saved(tmp_path / "a.tif", inks, profile, "cmyk")
    picture = read(path)
    seen = picture.image.permute(1, 2, 0).numpy()
    # 8 bits of ink, and colors that a press can't print.
    assert np.abs(seen - curve_of_srgb(linear)).mean() < 0.02
    write(tmp_path / "b.tif", picture)
    assert np.array_equal(pixels(tmp_path / "b.tif"), inks)
    brighter = stops(picture, 0.5)  # by more, it leaves what a press can print
    write(tmp_path / "c.tif", brighter)
    before, after = (read(tmp_path / name).image for name in ("b.tif", "c.tif"))
    assert (after >= before - 0.02).all()
    assert after.mean() > 1.1 * before.mean()
    lost = write(tmp_path / "c.png", brighter)
    assert lost == ("PNG can't hold inks; it is written as sRGB",)
    assert (read(tmp_path / "c.png").image - after).abs().mean() < 0.02


@pytest.mark.parametrize("bits", [8, 16, files.FLOAT])
@pytest.mark.parametrize("opacity", [False, True])
def test_inks_stay_inks_at_every_depth(tmp_path, bits, opacity):
    levels = np.random.default_rng(0).integers(0, 256, (8, 9, 4 + opacity), dtype=np.uint8)
    picture = read(saved(tmp_path / "a.tif", levels, interpretation="cmyk"))
    write(tmp_path / "b.tif", picture, bits=bits)
    other = read(tmp_path / "b.tif")
    assert (other.bits, other.stored.shape) == (bits, (8, 9, 4))
    assert (other.alpha is not None) == opacity
    # Through Little CMS at 16 bits; a step of theirs in the dark is some of the network's.
    assert (other.image - picture.image).abs().max() < 1e-3


def test_grey_under_a_profile(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    path = saved(tmp_path / "a.png", levels, profile_of("grey"), "b-w")
    picture = read(path)
    expected = curve_of_srgb((levels[..., 0] / 255) ** 1.8)
    assert np.abs(picture.image[0].numpy() - expected).max() < 1e-3
    write(tmp_path / "b.png", picture)
    assert np.array_equal(pixels(tmp_path / "b.png"), levels)
    write(tmp_path / "b.bmp", picture)
    assert np.abs(pixels_of_bmp(tmp_path / "b.bmp") / 255 - expected).max() <= 0.5 / 255 + 1e-3


def pixels_of_bmp(path):
    return np.asarray(Image.open(path))


# --- 15: arrays and pictures from Python -----------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["path", "text", "Pillow", "uint8", "uint16", "float32", "float64"]
)
def test_whatever_a_caller_has(tmp_path, nano, kind):
    levels = np.random.default_rng(0).integers(0, 60, (16, 24, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.png", levels)
    expected = llflow.enhance(nano, torch.from_numpy(levels).permute(2, 0, 1) / 255)
    given = {
        "path": path,
        "text": str(path),
        "Pillow": Image.fromarray(levels),
        "uint8": levels,
        "uint16": levels.astype(np.uint16) * 257,
        "float32": levels.astype(np.float32) / 255,
        "float64": levels / 255,
    }[kind]
    torch.testing.assert_close(llflow.enhance(nano, given), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_pillows_modes(nano, mode):
    levels = np.random.default_rng(0).integers(1, 60, (16, 24, 4), dtype=np.uint8)
    image = Image.fromarray(levels)
    image = image if mode == "RGBA" else image.convert("RGB").convert("L" if "L" in mode else mode)
    image = image.convert("LA") if mode == "LA" else image
    assert llflow.enhance(nano, image).shape == (3, 16, 24)


def test_a_grey_profile_holds_with_opacity_as_without():
    levels = np.arange(1, 257, dtype=np.uint8).reshape(16, 16)
    grey = Image.fromarray(levels)
    both = Image.merge("LA", [grey, Image.new("L", (16, 16), 255)])
    grey.info["icc_profile"] = both.info["icc_profile"] = profile_of("grey")
    assert torch.equal(tensor_of(both), tensor_of(grey))
    assert not torch.equal(tensor_of(both), tensor_of(Image.fromarray(levels)))


def with_profile(mode, name):
    image = Image.new(mode, (8, 8))
    image.info["icc_profile"] = profile_of(name)
    return image


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"got \(3, 8, 9\); \(3, H, W\) is for tensors"),
        (np.zeros((2, 8, 9, 3), np.uint8), ValueError, r"expected an array \(H, W\)"),
        (np.zeros((8, 9, 3), np.int64), ValueError, "uint8, uint16 or floating point, got int64"),
        (np.full((8, 9, 3), 255.0), ValueError, r"values in \[0, 1\], got 255 to 255"),
        (np.full((8, 9, 3), np.nan), ValueError, r"values in \[0, 1\]"),
        (Image.new("CMYK", (8, 8)), ValueError, "got CMYK"),
        (with_profile("L", "Display P3"), ValueError, "profile of the picture's, got another"),
        ([[0.5]], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_is_ambiguous_is_refused(nano, given, error, message):
    with pytest.raises(error, match=message):
        llflow.enhance(nano, given)


# --- thumbnails, previews, gain maps ---------------------------------------------------------


def test_what_shows_the_dark_picture_is_left_out_and_said(tmp_path):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description hdrgm:Version="1.0" '
        b'tiff:Orientation="6" xmp:Rating="4"><xmp:Thumbnails>abc</xmp:Thumbnails>'
        b"</rdf:Description></x:xmpmeta>"
    )
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", xmp=xmp)
    picture = read(tmp_path / "a.jpg")
    assert picture.image.shape == (3, 8, 4)
    assert picture.lost == (
        "the thumbnail in XMP isn't kept: it shows the dark picture",
        "what XMP says of a gain map isn't kept: it doesn't fit",
    )
    write(tmp_path / "b.jpg", picture)
    kept = Image.open(tmp_path / "b.jpg").info["xmp"]
    assert b"Thumbnails" not in kept
    assert b"hdrgm" not in kept
    assert b'tiff:Orientation="1" xmp:Rating="4"' in kept


def test_further_pictures_in_a_jpeg_are_said(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    picture = read(tmp_path / "a.jpg")
    assert picture.format == "JPEG"
    assert picture.lost == ("further pictures in the file (a gain map or previews) aren't kept",)


def with_primaries(path, mode, primaries, transfer=13):
    """A PNG of one color that names its space by ITU H.273's numbers."""
    buffer = BytesIO()
    Image.new(mode, (4, 4), 51 if mode == "L" else (51, 102, 51)).save(buffer, "PNG")
    content, named = buffer.getvalue(), b"cICP" + bytes([primaries, transfer, 0, 1])
    chunk = struct.pack(">L", 4) + named + struct.pack(">L", zlib.crc32(named))
    path.write_bytes(content[:33] + chunk + content[33:])
    return path


def test_a_picture_for_brighter_screens_is_refused(tmp_path):
    with pytest.raises(PictureError, match=r"more light than white \(PQ\)"):
        read(with_primaries(tmp_path / "a.png", "RGB", 9, 16))


def test_primaries_that_a_number_names(tmp_path):
    p3, grey, wide, srgb = (
        read(with_primaries(tmp_path / "a.png", mode, number))
        for mode, number in (("RGB", 12), ("L", 12), ("RGB", 9), ("RGB", 1))
    )
    # Display P3's green has less red and blue in sRGB: ((1.2249 l(51) - 0.2249 l(102)), ...).
    linear = np.array([51, 102, 51]) / 255
    linear = ((linear + 0.055) / 1.055) ** 2.4
    matrix = [[1.2249, -0.2249, 0], [-0.0420, 1.0420, 0], [-0.0197, -0.0786, 1.0983]]
    expected = curve_of_srgb(np.array(matrix) @ linear)
    assert np.abs(p3.image[:, 0, 0].numpy() - expected).max() < 2e-3  # 4 digits, profile's 16 bits
    assert p3.lost == grey.lost == srgb.lost == ()
    assert p3.icc_profile is not None
    assert grey.grey
    assert grey.icc_profile is srgb.icc_profile is None
    assert wide.lost == ("its primaries, number 9 of ITU H.273, are taken for sRGB's",)


# --- depth -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "expected", "lost"),
    [
        (".png", 16, ()),
        (".tif", 16, ()),
        (".avif", 12, ("AVIF holds 12 bits a channel, and the picture has 16",)),
        (".webp", 8, ("WEBP holds 8 bits a channel, and the picture has 16",)),
        (".jpg", 8, ("JPEG holds 8 bits a channel, and the picture has 16",)),
        (".bmp", 8, ("BMP holds 8 bits a channel, and the picture has 16",)),
    ],
)
def test_the_depth_stays_as_far_as_it_can(tmp_path, suffix, expected, lost):
    levels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), dtype=np.uint16)
    picture = read(saved(tmp_path / "a.png", levels))
    assert write(tmp_path / f"b{suffix}", picture) == lost
    assert read(tmp_path / f"b{suffix}").bits == expected


def test_floating_point_above_white_is_carried(tmp_path):
    samples = np.full((32, 32, 3), 0.1, np.float32)
    samples[:16] = 3.0
    picture = read(saved(tmp_path / "a.tif", samples))
    assert picture.bits == files.FLOAT
    assert picture.image.max() == 1
    write(tmp_path / "b.tif", picture)
    assert np.array_equal(pixels(tmp_path / "b.tif"), samples)
    write(tmp_path / "c.tif", stops(picture, 1.0))
    assert pixels(tmp_path / "c.tif")[:4].min() >= 2.999  # a gain of 1 where white stays white
