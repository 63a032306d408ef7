"""Formats that take a package of their own: HEIC, JPEG XL, cameras' raw files."""

import base64
import struct
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from profiles import profile_of

from llflow.jobs import plan
from llflow.picture import optional
from llflow.picture.files import PictureError, read, write
from llflow.picture.samples import FLOAT

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
JXL = b"\xff\x0a" + bytes(100)
RAW = b"II*\0\x10\0\0\0CR\2\0" + bytes(100)

EXIF = Image.Exif()
EXIF[0x13B], EXIF[274] = "Zoe", 6
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" xmp:Rating="4"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("content", "extra"), [(HEIC, "heif"), (JXL, "jxl"), (RAW, "raw")], ids=["HEIC", "JXL", "raw"]
)
def test_what_has_to_be_installed_is_named(tmp_path, monkeypatch, content, extra):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(PictureError, match=rf"another package: pip install 'flowkit\[{extra}\]'"):
        read(tmp_path / "a.bin")


def test_every_extra_is_one_of_the_package():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra in optional.EXTRAS.values():
        assert extra.name in extras
        assert f"flowkit[{extra.name}]" in extras["dev"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.heic", "a_bright.avif"),
        ("a.HIF", "a_bright.avif"),
        ("a.jxl", "a_bright.tif"),
        ("DSC_0001.NEF", "DSC_0001_bright.tif"),
        ("a.unknown", "a_bright.unknown"),
    ],
)
def test_results_have_the_ending_of_what_can_be_written(tmp_path, name, expected):
    (tmp_path / name).touch()
    (job,) = plan([tmp_path / name], None, recursive=False)
    assert job.target.name == expected
    (job,) = plan([tmp_path / name], None, recursive=False, file_format="PNG")
    assert job.target.suffix == ".png"


def neutral(tmp_path, source, suffix):
    """The file read, written as it is, and read again."""
    picture = read(source)
    write(tmp_path / f"again{suffix}", picture)
    return picture, read(tmp_path / f"again{suffix}")


# --- HEIC ------------------------------------------------------------------------------------


def heic(path, samples, **options):
    """A lossless one; pillow-heif takes 10 bits and more in the upper bits of 16."""
    encoder = pytest.importorskip("pillow_heif")
    height, width, bands = samples.shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[bands] + (";16" if samples.dtype == np.uint16 else "")
    image = encoder.from_bytes(mode=mode, size=(width, height), data=samples.tobytes())
    image.save(path, quality=-1, matrix_coefficients=0, chroma=444, **options)
    return path


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("bits", [8, 10])
def test_heic_keeps_samples_and_what_it_says(tmp_path, bands, bits):
    whole = np.random.default_rng(0).integers(0, 2**bits, (48, 64, bands))
    stored = whole.astype(np.uint8) if bits == 8 else (whole << 6).astype(np.uint16)
    path = heic(tmp_path / "a.heic", stored, exif=EXIF.tobytes(), xmp=XMP)
    picture, again = neutral(tmp_path, path, ".avif")
    assert (picture.format, picture.bits, again.bits) == ("AVIF", bits, bits)
    upright = np.rot90(whole, -1)
    assert np.array_equal(picture.stored, upright[..., :3])
    assert (picture.alpha is None) == (bands == 3)
    assert b"Zoe" in again.exif
    assert b'Orientation="1" xmp:Rating="4"' in again.about.xmp
    write(tmp_path / "a.png", picture, bits=16)
    assert (read(tmp_path / "a.png").image - picture.image).abs().max() < 1e-4


def test_heics_profile_stays(tmp_path):
    pytest.importorskip("pillow_heif")
    samples = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = heic(tmp_path / "a.heic", samples, icc_profile=profile_of("Display P3"))
    picture, again = neutral(tmp_path, path, ".tif")
    assert picture.icc_profile == again.icc_profile == profile_of("Display P3")
    assert np.array_equal(again.stored, picture.stored)


@pytest.mark.parametrize(
    ("nclx", "message"),
    [({"color_primaries": 9, "transfer_characteristics": 16}, r"more light than white \(PQ\)")],
)
def test_heic_for_brighter_screens_is_refused(tmp_path, nclx, message):
    encoder = pytest.importorskip("pillow_heif")
    image = encoder.from_pillow(Image.new("RGB", (64, 64)))
    image.save(tmp_path / "a.heic", save_nclx_profile=True, **nclx)
    with pytest.raises(PictureError, match=message):
        read(tmp_path / "a.heic")


def test_several_pictures_in_a_heic_are_refused(tmp_path):
    encoder = pytest.importorskip("pillow_heif")
    both = encoder.from_pillow(Image.new("RGB", (64, 64)))
    both.add_from_pillow(Image.new("RGB", (64, 64), "red"))
    both.save(tmp_path / "a.heic")
    with pytest.raises(PictureError, match="HEIC with 2 pictures"):
        read(tmp_path / "a.heic")


# --- JPEG XL ---------------------------------------------------------------------------------

# 6×4 pixels of (51, 102, 153), lossless, with the tests' Adobe RGB profile and an orientation in
# EXIF, which the standard says to pass over.
WITH_PROFILE = base64.b85decode(
    "0000CN?1%F4GM<}0000KW^{RQYItlQ00000YItlQ0001wYItm8{|XpD5W=OxfP{GfY-(td13a(ex2pP*&l%AU!po("
    "sqajRh5*maoNfbq06?`92O9dUZ91jB?^f&Md2!7zNkkbhJSb~du7-|Cq4TIbYjF|`x^FW^)ppKdF`(3+M>T`EGZQXs"
    ">-IA9B2m}EDQ~*mDixt8_!r=j&OaK4?006*D00000001Xqa&KZqcxh%E9RL6Xabr7zm@U!NEMF9gRQNx$0J<qb0{{"
)


def jxl(path, samples):
    """A lossless one."""
    oiio = pytest.importorskip("OpenImageIO")
    kind = samples.dtype.name.replace("float32", "float")
    spec = oiio.ImageSpec(*samples.shape[1::-1], samples.shape[2], kind)
    spec.attribute("compression", "jpegxl:100")
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(samples), out.geterror()
    out.close()
    return path


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_jpeg_xl_keeps_samples(tmp_path, bands, kind):
    samples = np.random.default_rng(0).integers(0, 256, (24, 31, bands)).astype(kind)
    samples = samples / np.float32(255) if kind == "float32" else samples
    picture, again = neutral(tmp_path, jxl(tmp_path / "a.jxl", samples), ".tif")
    assert picture.bits == again.bits == {"uint8": 8, "uint16": 16, "float32": FLOAT}[kind]
    assert picture.grey == (bands == 1)
    assert (picture.icc_profile is None) == (kind != "float32")  # OpenImageIO's is linear light
    colors = samples[..., : 3 if bands == 4 else bands]
    assert np.array_equal(picture.stored, colors)
    assert np.array_equal(again.stored, colors)
    assert bands != 4 or np.array_equal(again.alpha, samples[..., 3])


def test_jpeg_xls_profile_is_applied_and_kept(tmp_path):
    pytest.importorskip("OpenImageIO")
    (tmp_path / "a.jxl").write_bytes(WITH_PROFILE)
    picture, again = neutral(tmp_path, tmp_path / "a.jxl", ".tif")
    assert picture.stored.shape == (4, 6, 3)
    assert (picture.stored == (51, 102, 153)).all()
    assert picture.icc_profile == again.icc_profile == profile_of("Adobe RGB")
    assert (picture.image[:, 0, 0].numpy() * 255).round().tolist() != [51, 102, 153]


def box(kind, content):
    return struct.pack(">L4s", len(content) + 8, kind) + content


@pytest.mark.parametrize("compressed", [False, True])
def test_what_a_jpeg_xl_says_stays(tmp_path, compressed):
    brotli = pytest.importorskip("brotli")
    content = jxl(tmp_path / "a.jxl", np.zeros((8, 9, 3), np.uint8)).read_bytes()
    said = {b"Exif": bytes(4) + EXIF.tobytes()[6:], b"xml ": XMP}
    for kind, data in said.items():
        packed = box(b"brob", kind + brotli.compress(data)) if compressed else box(kind, data)
        content = content[:32] + packed + content[32:]
    (tmp_path / "a.jxl").write_bytes(content)
    picture, again = neutral(tmp_path, tmp_path / "a.jxl", ".tif")
    assert picture.stored.shape == (8, 9, 3)  # the codestream's orientation holds, not EXIF's
    assert b"Zoe" in again.exif
    assert b'Orientation="1" xmp:Rating="4"' in again.about.xmp
    assert picture.lost == ()


def header(bits):
    """A codestream that begins with these bits, given in the order in which they are read."""
    whole = sum(int(bit) << at for at, bit in enumerate(bits.replace(" ", "")))
    return b"\xff\x0a" + whole.to_bytes(60, "little")


def u(value, count):
    return format(value, f"0{count}b")[::-1]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (f"1 {u(2, 5)} {u(1, 3)} 1", (24, 24, False)),
        (f"1 {u(2, 5)} {u(0, 3)} {u(4, 5)} 1", (40, 24, False)),
        (f"0 {u(1, 2)} {u(2999, 13)} {u(4, 3)} 0 0", (4500, 3000, False)),
        (f"0 {u(2, 2)} {u(4, 18)} 000 {u(3, 2)} {u(6, 30)} 0 1 {u(5, 3)} 0 0 1", (5, 7, True)),
        (f"1 {u(2, 5)} {u(1, 3)} 0 1 000 0 1 1 {u(0, 2)} {u(1, 3)} 1", (24, 24, True)),
        (f"1 {u(2, 5)} {u(1, 3)} 0 1 000 1 1 {u(0, 5)} {u(1, 3)} 0 0", (24, 24, False)),
    ],
)
def test_size_and_frames_are_known_before_pixels(bits, expected):
    pytest.importorskip("OpenImageIO")
    from llflow.picture import jxl

    assert jxl._header(header(bits)) == expected


def test_an_animated_jpeg_xl_is_refused(tmp_path):
    pytest.importorskip("OpenImageIO")
    (tmp_path / "a.jxl").write_bytes(header(f"1 {u(2, 5)} {u(1, 3)} 0 1 000 0 0 1"))
    with pytest.raises(PictureError, match="animated JPEG XL"):
        read(tmp_path / "a.jxl")


# --- raw -------------------------------------------------------------------------------------

# CIE 1931 under D65 to linear sRGB (IEC 61966-2-1): the made-up camera sees as sRGB does.
TO_SRGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)


def rational(values):
    return tuple(whole for value in values for whole in (round(value * 10000), 10000))


def scene(height, width):
    """(H, W, 3) linear light in slopes, brightest 0.5."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x / width / 2, y / height / 2, np.full((height, width), 0.2)], -1)


def dng(path, *, neutral=(1, 1, 1), orientation=1, size=(60, 80)):
    """A raw file behind an 20×15 thumbnail, as cameras write them: its RGGB mosaic in a SubIFD."""
    tifffile = pytest.importorskip("tifffile")
    light = scene(*size) * np.array(neutral)
    mosaic = light[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = light[0::2, 0::2, 0], light[1::2, 1::2, 2]
    about = [
        (50706, 1, 4, bytes([1, 4, 0, 0]), True),
        (50708, 2, 0, "Acme Eye", True),
        (271, 2, 0, "Acme", True),
        (272, 2, 0, "Eye", True),
        (274, 3, 1, orientation, True),
        (315, 2, 0, "Zoe", True),
        (700, 1, len(XMP), XMP, True),
        (50721, 10, 9, rational(np.ravel(TO_SRGB)), True),
        (50728, 5, 3, rational(neutral), True),
        (50778, 3, 1, 21, True),
    ]
    sensor = [
        (33421, 3, 2, (2, 2), True),
        (33422, 1, 4, bytes([0, 1, 1, 2]), True),
        (50714, 3, 1, 0, True),
        (50717, 3, 1, 4095, True),
    ]
    with tifffile.TiffWriter(path) as out:
        thumbnail = np.full((15, 20, 3), 200, np.uint8)
        out.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, extratags=about)
        mosaic = np.rint(mosaic * 4095).astype(np.uint16)
        out.write(mosaic, photometric=32803, subfiletype=0, extratags=sensor)
    return path


@pytest.mark.parametrize("neutral_of_camera", [(1, 1, 1), (0.5, 1, 0.8)])
def test_a_raw_file_is_developed_as_the_docs_say(tmp_path, neutral_of_camera):
    pytest.importorskip("rawpy")
    picture = read(dng(tmp_path / "a.dng", neutral=neutral_of_camera))
    assert (picture.format, picture.bits) == ("TIFF", 16)
    assert picture.icc_profile == profile_of("Display P3")
    assert picture.image.shape == (3, 60, 80)
    seen = picture.image.permute(1, 2, 0).numpy()
    linear = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)
    inner = (slice(8, -8), slice(8, -8))  # the interpolation's edges aside
    # Two sides of a slope's pixel, 12 bits of the sensor: 1/160 + 1/4096.
    assert np.abs(linear - scene(60, 80))[inner].max() < 0.007


def test_a_raw_files_result_says_what_the_file_said(tmp_path):
    pytest.importorskip("rawpy")
    picture, again = neutral(tmp_path, dng(tmp_path / "a.nef", orientation=6), ".tif")
    assert picture.image.shape == (3, 80, 60)
    assert again.bits == 16
    assert np.array_equal(again.stored, picture.stored)
    assert picture.lost == ()
    with Image.open(tmp_path / "again.tif") as image:
        tags = image.getexif()
    assert (tags[271], tags[272], tags[315]) == ("Acme", "Eye", "Zoe")
    assert tags.get(274, 1) == 1
    assert b'Orientation="1" xmp:Rating="4"' in again.about.xmp


def test_raw_files_through_the_command(llflow, weights, tmp_path):
    pytest.importorskip("rawpy")
    (tmp_path / "in").mkdir()
    dng(tmp_path / "in" / "DSC_0001.dng")
    dng(tmp_path / "in" / "DSC_0002.NEF")
    call = ("enhance", tmp_path / "in", "-o", tmp_path / "out", "--weights", weights)
    code, _, err = llflow(*call)
    assert (code, err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["DSC_0001.tif", "DSC_0002.tif"]
    for path in (tmp_path / "out").iterdir():
        assert read(path).stored.shape == (60, 80, 3)


@pytest.mark.parametrize("size", [(60, 80)])
def test_sizes_are_checked_before_pixels(tmp_path, size):
    for path in (
        dng(tmp_path / "a.dng", size=size),
        heic(tmp_path / "a.heic", np.zeros((*size, 3), np.uint8)),
        jxl(tmp_path / "a.jxl", np.zeros((*size, 3), np.uint8)),
    ):
        with pytest.raises(PictureError, match="too large: 80×60 pixels, the limit is 4,799"):
            read(path, max_pixels=4799)
        assert read(path, max_pixels=4800).image.shape == (3, *size)


def test_what_is_cut_off_is_refused(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for path in (
        dng(tmp_path / "a.dng"),
        heic(tmp_path / "a.heic", samples),
        jxl(tmp_path / "a.jxl", samples),
    ):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(PictureError):
            read(path)
