"""Pictures in files: what is read is what was meant, and nothing hostile gets through."""

import os
import resource
import struct
import zlib
from datetime import timedelta
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import pyvips
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, features

from llflow.picture import files
from llflow.picture.files import SUFFIXES, WITH_ALPHA, Picture, PictureError
from llflow.picture.metadata import Metadata

FORMATS = [name for name in files.FORMATS if name != "AVIF" or features.check("avif")]
LOSSLESS = ["PNG", "BMP", "TIFF"]
WITH_EXIF = [name for name in FORMATS if name != "BMP"]
ORIENTATION = ExifTags.Base.Orientation


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image, file_format, **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(tmp_path, content, **options):
    path = tmp_path / "file"
    path.write_bytes(content)
    return files.read(path, **options)


def pixels(picture):
    return np.asarray(files.to_pil(picture.image))


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "file.jpg", "file.txt", "file.PNG"])
@pytest.mark.parametrize("file_format", FORMATS)
def test_content_decides_not_the_name(tmp_path, file_format, name):
    path = tmp_path / name
    path.write_bytes(encoded(Image.new("RGB", (5, 3), (10, 20, 30)), file_format))
    picture = files.read(path)
    assert picture.format == file_format
    assert picture.image.shape == (3, 3, 5)
    assert picture.image.dtype == torch.float32
    assert abs(pixels(picture).astype(int) - (10, 20, 30)).max() <= 4  # the lossy ones


MODES = {
    "RGB": (Image.fromarray(noise(4, 6, 3)), False, False),
    "L": (Image.fromarray(noise(4, 6)), True, False),
    "1": (Image.fromarray(noise(4, 6)).convert("1"), True, False),
    "LA": (Image.fromarray(noise(4, 6, 2)), True, True),
    "RGBA": (Image.fromarray(noise(4, 6, 4)), False, True),
    "P": (Image.fromarray(noise(4, 6, 3)).quantize(8), False, False),
    "P, grey": (Image.fromarray(noise(4, 6)).convert("P"), True, False),
    "CMYK": (Image.fromarray(noise(4, 6, 3)).convert("CMYK"), False, False),
    "YCbCr": (Image.fromarray(noise(4, 6, 3)).convert("YCbCr"), False, False),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_pixels_grey_and_alpha(tmp_path, mode):
    image, grey, has_alpha = MODES[mode]
    file_format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    picture = decode(tmp_path, encoded(image, file_format))
    assert picture.grey is grey
    assert (picture.alpha is not None) is has_alpha
    visible = picture.alpha > 0 if has_alpha else np.ones((4, 6), bool)
    if mode == "CMYK":
        assert np.array_equal(picture.stored, np.asarray(image))
    else:
        off = pixels(picture).astype(int) - np.asarray(image.convert("RGB"))
        assert np.abs(off[visible]).max() <= (mode == "YCbCr")  # Pillow rounds in other places
    if has_alpha:
        assert np.array_equal(picture.alpha, np.asarray(image.getchannel("A")))


def test_palette_transparency(tmp_path):
    image = Image.fromarray(noise(4, 6, 3)).quantize(8)
    opacities = bytes(range(0, 240, 30))
    picture = decode(tmp_path, encoded(image, "PNG", transparency=opacities))
    assert np.array_equal(picture.alpha, np.frombuffer(opacities, np.uint8)[np.asarray(image)])


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB"])
def test_a_transparent_color_becomes_alpha(tmp_path, mode):
    plane = np.array([[0, 255], [255, 0]], np.uint8)
    image = Image.fromarray(plane).convert(mode)
    if mode == "I;16":
        image = Image.fromarray(plane.astype(np.uint16))
    transparent = (255, 255, 255) if mode == "RGB" else 255
    picture = decode(tmp_path, encoded(image, "PNG", transparency=transparent))
    assert picture.grey is (mode != "RGB")
    opaque = 65535 if mode == "I;16" else 255
    assert np.array_equal(picture.alpha, np.where(plane == 255, 0, opaque))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_grey_at_16_bits_keeps_them(tmp_path, file_format):
    values = np.random.default_rng(0).integers(0, 65536, (4, 6), dtype=np.uint16)
    picture = decode(tmp_path, encoded(Image.fromarray(values), file_format))
    assert picture.grey
    expected = torch.from_numpy(values.astype(np.float32) / 65535).expand(3, -1, -1)
    assert torch.equal(picture.image, expected)
    files.write(tmp_path / "out.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), values)
    files.write(tmp_path / "out.png", picture, bits=8)
    written = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(written, np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize(
    "values", [np.full((2, 2), 70_000, np.int32), np.full((2, 2), -1, np.int32)]
)
def test_32_bits_are_refused(tmp_path, values):
    with pytest.raises(PictureError, match="32-bit"):
        decode(tmp_path, encoded(Image.fromarray(values), "TIFF"))


def test_floating_point_keeps_what_is_brighter_than_white(tmp_path):
    values = np.array([[-0.25, 0.0, 0.5], [1.0, 2.5, 0.1]], np.float32)
    picture = decode(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert picture.grey
    assert np.array_equal(picture.image[0].numpy(), values.clip(0, 1))
    assert files.write(tmp_path / "out.tif", picture) == ()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.tif")), values)


def test_values_that_are_not_finite_are_refused(tmp_path):
    values = np.array([[0.5, np.nan]], np.float32)
    with pytest.raises(PictureError, match="aren't finite"):
        decode(tmp_path, encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_several_pictures_in_one_file_are_refused(tmp_path, file_format):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
    content = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match=r"animat|3 pages|3 pictures"):
        decode(tmp_path, content)


# --- upright, once ---------------------------------------------------------------------------

UPRIGHT = np.repeat(
    np.repeat(np.array([[[250] * 3, [10] * 3, [90] * 3], [[170] * 3, [50] * 3, [210] * 3]]), 16, 0),
    16,
    1,
).astype(np.uint8)
UNDO = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def exif_with(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.DateTime] = "2020:01:02 03:04:05"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.25
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", WITH_EXIF)
def test_orientation_is_applied_and_gone(tmp_path, file_format, orientation):
    stored = Image.fromarray(np.ascontiguousarray(UNDO[orientation](UPRIGHT)))
    picture = decode(tmp_path, encoded(stored, file_format, exif=exif_with(orientation)))
    assert pixels(picture).shape == UPRIGHT.shape
    assert np.abs(pixels(picture).astype(int) - UPRIGHT).mean() < 4  # lossy; a wrong turn is > 60
    for out_format in FORMATS:
        path = tmp_path / f"out{SUFFIXES[out_format][0]}"
        files.write(path, picture)
        assert Image.open(path).getexif().get(ORIENTATION, 1) == 1
        again = files.read(path)
        assert np.abs(pixels(again).astype(int) - UPRIGHT).mean() < 6


def test_orientation_in_xmp_is_applied_and_gone(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    stored = Image.fromarray(np.ascontiguousarray(UNDO[6](UPRIGHT)))
    picture = decode(tmp_path, encoded(stored, "JPEG", xmp=xmp))
    assert np.abs(pixels(picture).astype(int) - UPRIGHT).mean() < 4
    files.write(tmp_path / "out.jpg", picture)
    assert Image.open(tmp_path / "out.jpg").getexif().get(ORIENTATION, 1) == 1


# --- what belongs to a picture survives ------------------------------------------------------

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("out_format", WITH_EXIF)
@pytest.mark.parametrize("in_format", WITH_EXIF)
def test_exif_and_color_profile_survive(tmp_path, in_format, out_format):
    exif = exif_with(6).tobytes()
    image = Image.fromarray(noise(8, 8, 3))
    content = encoded(image, in_format, exif=exif, icc_profile=PROFILE)
    path = tmp_path / f"out{SUFFIXES[out_format][0]}"
    files.write(path, decode(tmp_path, content))
    written = Image.open(path)
    assert written.info["icc_profile"] == PROFILE
    exif = written.getexif()
    assert exif[ExifTags.Base.Make] == "Maker"
    assert exif[ExifTags.Base.DateTime] == "2020:01:02 03:04:05"
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == 0.25
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


def test_tags_about_a_tiffs_storage_stay_behind(tmp_path):
    content = encoded(Image.new("L", (700, 500)), "TIFF", compression="tiff_lzw")
    picture = decode(tmp_path, content)
    files.write(tmp_path / "out.jpg", picture.with_image(torch.zeros(3, 8, 8)))
    assert dict(Image.open(tmp_path / "out.jpg").getexif()) == {}


def test_no_exif_stays_none(tmp_path):
    assert decode(tmp_path, encoded(Image.new("RGB", (2, 2)), "PNG")).exif == b""


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_profile_of_something_else_is_left_out_and_said(tmp_path, mode):
    image = Image.new("L", (4, 4), 9).convert(mode)
    picture = decode(tmp_path, encoded(image, "JPEG", icc_profile=PROFILE))
    assert picture.icc_profile is None
    (lost,) = picture.lost
    assert lost.startswith("the color profile isn't kept (it describes RGB")
    assert decode(tmp_path, encoded(image, "JPEG")).lost == ()


def test_a_palette_of_greys_stays_rgb_under_a_profile(tmp_path):
    image = Image.new("L", (4, 4), 9).convert("P")
    picture = decode(tmp_path, encoded(image, "PNG", icc_profile=PROFILE))
    assert (picture.icc_profile, picture.grey, picture.lost) == (PROFILE, False, ())


def test_what_bmp_cannot_hold_is_said(tmp_path):
    picture = Picture(
        torch.rand(3, 4, 4), about=Metadata(exif=exif_with(1).tobytes()), icc_profile=PROFILE
    )
    lost = ("BMP can't hold the color profile", "BMP can't hold EXIF")
    assert files.write(tmp_path / "p.bmp", picture) == lost
    assert files.write(tmp_path / "p.png", picture) == ()


def test_exif_that_a_format_cannot_hold_is_said_and_the_rest_kept(tmp_path):
    exif = exif_with(1)
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(70_000)  # JPEG holds 65,533
    content = encoded(Image.fromarray(noise(8, 8, 3)), "PNG", exif=exif, icc_profile=PROFILE)
    lost = files.write(tmp_path / "p.jpg", decode(tmp_path, content))
    assert len(lost) == 1
    assert lost[0].startswith("EXIF isn't kept")
    written = Image.open(tmp_path / "p.jpg")
    assert dict(written.getexif()) == {}
    assert written.info["icc_profile"] == PROFILE


# --- one odd tag doesn't cost the picture ----------------------------------------------------

BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 12: 8, 0: 1, 99: 1}  # by a tag's type
MAKE = (ExifTags.Base.Make, 2, 6, b"Maker\0")
PLACES = {"first": None, "Exif": ExifTags.IFD.Exif, "GPS": ExifTags.IFD.GPSInfo}


def directory(entries, at):
    """A TIFF's directory of (tag, type, count, bytes) that begins at `at`."""
    body, data = b"", b""
    for tag, kind, count, value in sorted(entries):
        if len(value) > 4:
            offset = at + 2 + 12 * len(entries) + 4 + len(data)
            value, data = struct.pack("<L", offset), data + value + b"\0" * (len(value) % 2)
        body += struct.pack("<HHL", tag, kind, count) + value.ljust(4, b"\0")
    return struct.pack("<H", len(entries)) + body + bytes(4) + data


def exif_block(first, pointer=None, inner=()):
    if pointer is None:
        return b"Exif\0\0II*\0\x08\0\0\0" + directory([*first, *inner], 8)
    at = 8 + len(directory([*first, (pointer, 4, 1, bytes(4))], 8))
    first = directory([*first, (pointer, 4, 1, struct.pack("<L", at))], 8)
    return b"Exif\0\0II*\0\x08\0\0\0" + first + directory(inner, at)


JPEG = encoded(Image.fromarray(noise(8, 8, 3)), "JPEG", quality=95)


def photograph(block):
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + JPEG[2:]


def odd_tags(place):
    """Every tag of a directory with every type; few are what the standard asks for."""
    names = ExifTags.GPSTAGS if place == "GPS" else ExifTags.TAGS
    own = {ExifTags.Base.Make, ORIENTATION}
    for tag in sorted(names.keys() - (own if place == "first" else set())):
        for kind, size in BYTES.items():
            yield tag, kind, 2, (b"8\0\0\1\0\0\0\2" * 2)[: 2 * size]


@pytest.mark.parametrize("place", PLACES)
def test_a_mistyped_tag_stays_as_it_is(tmp_path, place):
    expected = decode(tmp_path, JPEG).image
    for tag in odd_tags(place):
        block = exif_block([MAKE], PLACES[place], [tag])
        picture = decode(tmp_path, photograph(block))
        assert torch.equal(picture.image, expected), tag
        assert (picture.exif, picture.lost) == (block, ()), tag


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Metadata Warning")
@pytest.mark.parametrize("place", PLACES)
def test_a_mistyped_tag_is_left_out_of_a_tiff_and_named(tmp_path, place):
    names = ExifTags.GPSTAGS if place == "GPS" else ExifTags.TAGS
    tags = list(odd_tags(place))[::7]  # 7 and the 11 types have no common divisor
    named = 0
    for tag, *odd in tags:
        block = exif_block([MAKE], PLACES[place], [(tag, *odd)])
        lost = files.write(
            tmp_path / "p.tif", Picture(torch.rand(3, 2, 2), about=Metadata(exif=block))
        )
        assert len(lost) <= 1
        named += len(lost)
        if lost:
            assert lost[0].startswith(f"the EXIF tag {names[tag]} isn't kept")
        written = Image.open(tmp_path / "p.tif")
        assert written.size == (2, 2)
        assert written.getexif()[ExifTags.Base.Make] == "Maker"
        if PLACES[place] and not lost and tag != ExifTags.IFD.Interop:  # whose value is an offset
            before = Image.Exif()
            before.load(block)
            pair = [str(e.get_ifd(PLACES[place]).get(tag)) for e in (before, written.getexif())]
            assert pair[0] == pair[1]
    assert 0 < named < len(tags)


def tiff(*tags):
    """A TIFF of 2×2 pixels."""
    short = partial(struct.pack, "<H")
    own = [(256, 3, 1, short(2)), (257, 3, 1, short(2)), (258, 3, 3, short(8) * 3)]
    own += [(259, 3, 1, short(1)), (262, 3, 1, short(2)), (277, 3, 1, short(3))]
    own += [(278, 3, 1, short(2)), (279, 4, 1, struct.pack("<L", 12)), MAKE, *tags]
    at = 8 + len(directory([*own, (273, 4, 1, bytes(4))], 8))
    whole = directory([*own, (273, 4, 1, struct.pack("<L", at))], 8)
    return b"II*\0\x08\0\0\0" + whole + bytes(range(12))


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("tag", [270, 282, 296, 305, 700, 33432, 33723, 34675, 34853])
def test_a_mistyped_tag_of_a_tiff(tmp_path, tag, kind):
    value = (b"8\0\0\1\0\0\0\2" * 2)[: 2 * BYTES[kind]]
    picture = decode(tmp_path, tiff((tag, kind, 2, value)))
    assert pixels(picture).flatten().tolist() == list(range(12))
    for out in ("p.tif", "p.jpg"):
        files.write(tmp_path / out, picture)
        assert Image.open(tmp_path / out).getexif()[ExifTags.Base.Make] == "Maker"


def test_no_byte_of_a_block_moves_but_for_the_orientation(tmp_path):
    orientation = (ORIENTATION, 3, 1, struct.pack("<H", 3))
    note = (ExifTags.Base.MakerNote, 7, 64, bytes(range(64)))
    block = exif_block([MAKE, orientation], ExifTags.IFD.Exif, [note])
    kept = decode(tmp_path, photograph(block)).exif
    assert len(kept) == len(block)
    at = block.index(b"Maker\0")
    assert kept[at:] == block[at:]
    again = Image.Exif()
    again.load(kept)
    assert {*again} == {ExifTags.Base.Make, ExifTags.IFD.Exif}
    assert again.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == note[3]


def test_the_thumbnail_of_the_dark_picture_is_gone(tmp_path):
    block = bytearray(exif_block([MAKE]))
    at = 6 + 8 + 2 + 12
    block[at : at + 4] = struct.pack("<L", len(block) - 6)
    block += directory([(0x201, 4, 1, struct.pack("<L", 8)), (0x202, 4, 1, bytes(4))], 0)
    before = Image.Exif()
    before.load(bytes(block))
    assert before.get_ifd(ExifTags.IFD.IFD1)
    after = Image.Exif()
    after.load(decode(tmp_path, photograph(bytes(block))).exif)
    assert after.get_ifd(ExifTags.IFD.IFD1) == {}


@pytest.mark.parametrize("out_format", WITH_EXIF)
@pytest.mark.parametrize("in_format", WITH_EXIF)
def test_text_that_is_not_ascii_survives(tmp_path, in_format, out_format):
    name = "Jürgen Žižka".encode()
    artist = (ExifTags.Base.Artist, 2, len(name) + 1, name + b"\0")
    content = tiff(artist)
    if in_format != "TIFF":
        image = Image.fromarray(noise(2, 2, 3))
        content = encoded(image, in_format, exif=exif_block([MAKE, artist]))
    path = tmp_path / f"out{SUFFIXES[out_format][0]}"
    assert files.write(path, decode(tmp_path, content)) == ()
    assert Image.open(path).getexif()[ExifTags.Base.Artist].encode("latin-1") == name


@pytest.mark.parametrize("orientation", [(2, 2, b"6\0"), (3, 1, b"\x09\0"), (5, 1, bytes(8))])
def test_an_orientation_that_is_none_is_said(tmp_path, orientation):
    block = exif_block([MAKE, (ORIENTATION, *orientation)])
    picture = decode(tmp_path, photograph(block))
    assert torch.equal(picture.image, decode(tmp_path, JPEG).image)
    (lost,) = picture.lost
    assert lost.startswith("the orientation")
    after = Image.Exif()
    after.load(picture.exif)
    assert dict(after) == {ExifTags.Base.Make: "Maker"}


@pytest.mark.parametrize(
    "block",
    [b"Exif\0\0", b"Exif\0\0XX*\0", exif_block([MAKE])[:18], b"Exif\0\0II*\0\xff\xff\xff\xff"],
)
def test_a_damaged_block_is_said_and_the_picture_read(tmp_path, block):
    picture = decode(tmp_path, photograph(block))
    assert torch.equal(picture.image, decode(tmp_path, JPEG).image)
    assert picture.exif == b""
    assert any(line.startswith("EXIF isn't kept") for line in picture.lost)


# --- what is written -------------------------------------------------------------------------


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    grey=st.booleans(),
    with_alpha=st.booleans(),
    file_format=st.sampled_from(LOSSLESS),
    seed=st.integers(0, 1000),
)
def test_lossless_formats_return_the_same_picture(
    tmp_path_factory, height, width, grey, with_alpha, file_format, seed
):
    path = tmp_path_factory.mktemp("lossless") / f"p{SUFFIXES[file_format][0]}"
    levels = noise(1 if grey else 3, height, width, seed=seed)
    image = torch.from_numpy(levels).expand(3, -1, -1).float() / 255
    alpha = noise(height, width, seed=seed + 1) if with_alpha else None
    if with_alpha and file_format not in WITH_ALPHA:
        with pytest.raises(PictureError, match="transparency"):
            files.write(path, Picture(image, grey, alpha))
        assert list(path.parent.iterdir()) == []
        return
    files.write(path, Picture(image, grey, alpha))
    again = files.read(path)
    seen = torch.ones(height, width, dtype=bool) if alpha is None else torch.from_numpy(alpha > 0)
    assert torch.equal(again.image[:, seen], image[:, seen])
    assert again.grey is grey
    assert (again.alpha is None) is (alpha is None)
    assert alpha is None or np.array_equal(again.alpha, alpha)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (64, 33)])
@pytest.mark.parametrize("file_format", [name for name in FORMATS if name in WITH_ALPHA])
def test_alpha_is_kept_bit_by_bit(tmp_path, file_format, size):
    picture = Picture(torch.rand(3, *size), alpha=noise(*size))
    path = tmp_path / f"out{SUFFIXES[file_format][0]}"
    files.write(path, picture)
    assert np.array_equal(files.read(path).alpha, picture.alpha)


def test_jpeg_keeps_color_sharp(tmp_path):
    red_and_blue = np.zeros((32, 32, 3), np.uint8)
    red_and_blue[:, ::2, 0] = red_and_blue[:, 1::2, 2] = 128
    path = tmp_path / "out.jpg"
    files.write(path, Picture(torch.from_numpy(red_and_blue).permute(2, 0, 1) / 255))
    error = np.abs(pixels(files.read(path)).astype(int) - red_and_blue).mean()
    assert error < 3  # with chroma subsampling it is above 30


def test_the_name_asks_for_the_format_else_it_stays(tmp_path):
    picture = Picture(torch.rand(3, 8, 8), format="WEBP")
    for name, expected in (("a.JPG", "JPEG"), ("a.tiff", "TIFF"), ("a", "WEBP"), ("a.x", "WEBP")):
        files.write(tmp_path / name, picture)
        assert files.read(tmp_path / name).format == expected


@pytest.mark.parametrize(
    ("picture", "options", "message"),
    [
        (Picture(torch.full((3, 2, 4), 200, dtype=torch.uint8)), {}, "floating-point image"),
        (Picture(torch.rand(2, 4, 3)), {}, r"image \(3, H, W\), got torch.float32 \(2, 4, 3\)"),
        (Picture(torch.rand(1, 2, 4)), {}, "floating-point image"),
        (Picture(torch.rand(3, 0, 4)), {}, "floating-point image"),
        (Picture(torch.full((3, 2, 4), torch.nan)), {}, "aren't finite"),
        (Picture(torch.rand(3, 2, 4), alpha=np.ones((2, 3), np.uint8)), {}, r"opacity \(2, 4\)"),
        (Picture(torch.rand(3, 2, 4), alpha=np.ones((2, 4), np.float32)), {}, "of uint8, got"),
        (Picture(torch.rand(3, 2, 4)), {"file_format": "png"}, "format among PNG, .*got 'png'"),
        (Picture(torch.rand(3, 2, 4)), {"file_format": "JPEG", "quality": 0}, "from 1 to 100"),
        (Picture(torch.rand(3, 2, 4)), {"file_format": "JPEG", "quality": 101}, "from 1 to 100"),
    ],
)
def test_what_would_be_written_as_something_else_is_refused(tmp_path, picture, options, message):
    with pytest.raises(PictureError, match=message):
        files.write(tmp_path / "p", picture, **options)
    assert [*tmp_path.iterdir()] == []


def test_a_path_may_be_text(tmp_path):
    files.write(f"{tmp_path}/p.png", Picture(torch.zeros(3, 2, 4)))
    assert files.read(f"{tmp_path}/p.png").image.shape == (3, 2, 4)


def test_values_are_clipped_and_rounded(tmp_path):
    image = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0]).expand(3, 1, 4)
    files.write(tmp_path / "p.png", Picture(image))
    assert pixels(files.read(tmp_path / "p.png"))[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("file_format", ["JPEG", "BMP"])
def test_transparency_that_cannot_be_written_is_refused(tmp_path, file_format):
    picture = Picture(torch.rand(3, 2, 2), alpha=noise(2, 2))
    with pytest.raises(PictureError, match="can't hold transparency; write PNG"):
        files.write(tmp_path / f"p{SUFFIXES[file_format][0]}", picture)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_size_that_a_format_cannot_hold_is_refused(tmp_path, suffix):
    with pytest.raises((PictureError, OSError)):
        files.write(tmp_path / f"p{suffix}", Picture(torch.zeros(3, 66_000, 1)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [struct.error("x"), TypeError("x"), RuntimeError("x")])
def test_whatever_an_encoder_raises_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "p.png"
    path.write_bytes(b"old")

    def fail(*args):
        raise error

    monkeypatch.setattr(files, "_encoded", fail)
    with pytest.raises(PictureError, match="can't be written as PNG"):
        files.write(path, Picture(torch.rand(3, 2, 2)))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- what is refused -------------------------------------------------------------------------


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


BOMB_IN_TEXT = chunk(b"zTXt", b"key\0\0" + zlib.compress(b"x" * 50_000_000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"Dear diary", "not a picture"),
        (b"GIF89a" + bytes(100), "it is GIF, which isn't read"),
        (b"%PDF-1.7", "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "not a picture|damaged"),
        (png(30_000, 30_000), "too large"),
        (png(12_000, 12_000), "too large: 12000×12000 pixels, the limit is 120,000,000"),
        (png(0, 5), "damaged"),
        (png(40, 40), "truncated or damaged"),
    ],
)
def test_refused_with_the_reason(tmp_path, content, message):
    with pytest.raises(PictureError, match=message):
        decode(tmp_path, content)


def rgb_tiff(bits=(8, 8, 8), **tags):
    """A TIFF of 2×2 pixels with further tags, of 16-bit integers."""
    offset = 8 + 2 * len(bits)
    known = {256: 2, 257: 2, 258: 8, 259: 1, 262: 2, 273: offset, 277: 3, 278: 2}
    known |= {int(name[1:]): value for name, value in tags.items()}
    known[279] = sum(bits) // 2  # bytes of 4 pixels
    entries = [
        struct.pack("<HHLL", tag, 3, 3 if tag == 258 else 1, known[tag]) for tag in sorted(known)
    ]
    data = struct.pack("<3H", *bits) + bytes(range(sum(bits) // 2))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<L", 8 + len(data)) + data + directory


def test_a_tiff_of_plain_tags_is_read(tmp_path):
    assert decode(tmp_path, rgb_tiff()).image.shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rgb_tiff(_254=1), "a camera's raw file"),
        (rgb_tiff(_50706=1), "a camera's raw file"),
        (rgb_tiff(_278=1, _257=2), "pixels are missing"),
        (rgb_tiff(_273=0), "pixels are missing"),
        (rgb_tiff(_262=32803), "a camera's raw file"),
        (rgb_tiff((32, 32, 32), _339=3, _262=0), "floating point whose white is 0"),
        (rgb_tiff(_262=8), r"L\*a\*b\* isn't read"),
        (rgb_tiff((12, 12, 12)), "12-bit whole numbers aren't read"),
        (rgb_tiff((32, 32, 32)), "32-bit whole numbers aren't read"),
    ],
)
def test_a_tiff_that_would_be_misread_is_refused(tmp_path, content, message):
    with pytest.raises(PictureError, match=message):
        decode(tmp_path, content)


def test_a_bomb_in_a_text_is_left_out_and_said(tmp_path):
    picture = decode(tmp_path, png(4, 4, BOMB_IN_TEXT))
    assert picture.lost == ("the PNG text 'key' isn't kept: too long",)
    assert picture.about.texts == ()


def test_a_bomb_costs_no_memory(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(files, "_samples_of", lambda *_: loaded.append(1))
    with pytest.raises(PictureError, match="too large"):
        decode(tmp_path, png(12_000, 12_000))
    assert loaded == []


def test_the_limit_is_the_callers(tmp_path):
    content = encoded(Image.new("RGB", (10, 10)), "PNG")
    assert decode(tmp_path, content, max_pixels=100).image.shape == (3, 10, 10)
    with pytest.raises(PictureError, match=r"the limit is 99 in all \(max_pixels\)"):
        decode(tmp_path, content, max_pixels=99)


@pytest.mark.parametrize(
    ("mode", "file_format", "needed"),
    [("RGB", "PNG", 300), ("RGBA", "PNG", 800), ("RGB", "WEBP", 1200), ("L", "TIFF", 100)],
)
def test_the_limit_of_memory_counts_what_reading_takes(tmp_path, mode, file_format, needed):
    content = encoded(Image.new(mode, (10, 10)), file_format)
    assert decode(tmp_path, content, max_memory=needed).image.shape == (3, 10, 10)
    with pytest.raises(files.TooLarge, match=r"takes 0 MB.*limit is 0 MB \(max_memory\)"):
        decode(tmp_path, content, max_memory=needed - 1)


def test_a_gigabyte_is_read_when_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_MEMORY", 299)
    content = encoded(Image.new("RGB", (10, 10)), "PNG")
    with pytest.raises(files.TooLarge):
        decode(tmp_path, content)
    assert decode(tmp_path, content, max_memory=300).image.shape == (3, 10, 10)


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_the_limit_may_be_above_pillows_own(tmp_path, monkeypatch, file_format):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    content = encoded(Image.new("RGB", (10, 10)), file_format)
    assert decode(tmp_path, content, max_pixels=100).image.shape == (3, 10, 10)
    with pytest.raises(PictureError, match="too large: 10×10 pixels, the limit is 99 "):
        decode(tmp_path, content, max_pixels=99)
    assert Image.MAX_IMAGE_PIXELS == 10


WHOLE = {
    name: encoded(Image.fromarray(noise(24, 24, 3)), name, **({} if name == "BMP" else {"exif": e}))
    for name in FORMATS
    for e in [exif_with(6).tobytes()]
}


def only_picture_errors(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hostile") / "file"
    path.write_bytes(content)
    try:
        picture = files.read(path)
    except PictureError:
        return
    assert picture.image.isfinite().all()
    assert picture.image.shape[0] == 3
    files.write(path.with_name("out"), picture)  # metadata that was read can be written


@pytest.mark.filterwarnings("ignore")
@given(file_format=st.sampled_from(FORMATS), share=st.floats(0, 1))
def test_truncated_anywhere(tmp_path_factory, file_format, share):
    content = WHOLE[file_format]
    only_picture_errors(tmp_path_factory, content[: int(share * len(content))])


@pytest.mark.parametrize("file_format", FORMATS)
def test_truncated_in_the_middle_is_refused(tmp_path, file_format):
    with pytest.raises(PictureError):
        decode(tmp_path, WHOLE[file_format][: len(WHOLE[file_format]) * 2 // 3])


@pytest.mark.filterwarnings("ignore")
@given(
    file_format=st.sampled_from(FORMATS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    early=st.booleans(),
)
def test_bytes_changed_anywhere(tmp_path_factory, file_format, edits, early):
    content = bytearray(WHOLE[file_format])
    reach = min(len(content), 400) if early else len(content)  # headers are where it hurts
    for share, value in edits:
        content[min(int(share * reach), reach - 1)] = value
    only_picture_errors(tmp_path_factory, bytes(content))


@pytest.mark.filterwarnings("ignore")
@given(file_format=st.sampled_from(FORMATS), tail=st.binary(max_size=200), keep=st.integers(4, 60))
def test_rubbish_behind_the_right_first_bytes(tmp_path_factory, file_format, tail, keep):
    only_picture_errors(tmp_path_factory, WHOLE[file_format][:keep] + tail)


def tiff_16(**options):
    buffer = BytesIO()
    samples = np.random.default_rng(0).integers(0, 65536, (24, 24, 3), dtype=np.uint16)
    image = pyvips.Image.new_from_memory(samples.tobytes(), 24, 24, 3, "ushort")
    image = image.copy(interpretation="rgb16")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", PROFILE)
    buffer.write(image.tiffsave_buffer(**options))
    return buffer.getvalue()


HOSTILE = WHOLE | {
    "palette": encoded(Image.fromarray(noise(24, 24, 3)).quantize(8), "PNG", icc_profile=PROFILE),
    "animation": encoded(
        Image.new("L", (8, 8)), "PNG", save_all=True, append_images=[Image.new("L", (8, 8), 9)]
    ),
    "tiles": tiff_16(tile=True, tile_width=16, tile_height=16, compression="lzw"),
    "strips": tiff_16(compression="deflate", predictor="horizontal"),
    "BigTIFF": tiff_16(bigtiff=True),
    "inks": encoded(Image.new("CMYK", (24, 24), (9, 8, 7, 6)), "JPEG"),
    "lossless": encoded(Image.fromarray(noise(24, 24, 4)), "WEBP", lossless=True),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=10_000, deadline=timedelta(seconds=10))
@given(
    name=st.sampled_from(sorted(HOSTILE)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6),
    end=st.floats(0, 1) | st.just(1),
    early=st.booleans(),
)
def test_ten_thousand_hostile_files(tmp_path_factory, name, edits, end, early):
    content = bytearray(HOSTILE[name])
    reach = min(len(content), 400) if early else len(content)
    for share, value in edits:
        at = min(int(share * reach), len(content) - len(value))
        content[at : at + len(value)] = value
    only_picture_errors(tmp_path_factory, bytes(content[: int(end * len(content))]))
    # Half a gigabyte for PyTorch, libvips and hypothesis: none of these files is a megabyte.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_000_000


@pytest.mark.parametrize(
    "error", [struct.error("x"), KeyError("x"), RecursionError("x"), OSError("x")]
)
def test_whatever_a_decoder_raises_is_a_picture_error(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(files, "_samples_of", fail)
    with pytest.raises(PictureError, match="damaged"):
        decode(tmp_path, encoded(Image.new("RGB", (2, 2)), "PNG"))


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(files, "_samples_of", fail)
    with pytest.raises(PictureError, match="there isn't enough memory to decode it"):
        decode(tmp_path, encoded(Image.new("RGB", (2, 2)), "PNG"))


def test_what_cannot_be_opened_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        files.read(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        files.read(tmp_path / "loop")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PictureError, match="neither pipes nor devices are read"):
        files.read(tmp_path / "pipe")
