"""At strength 0 a file comes back: every sample, and every tag but those that can't stay true."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import pyvips
from profiles import profile_of

from llflow.picture import files

HEIGHT, WIDTH = 24, 32
NAMES = {8: "uchar", 16: "ushort", 32: "float", 10: "ushort", 12: "ushort"}
INTERPRETATIONS = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16"), 4: ("cmyk", "cmyk")}
TAGS = [
    "-EXIF:Artist=Zoë Žižka",
    "-EXIF:Copyright=© 2026 Zoë",
    "-EXIF:Make=Maker",
    "-EXIF:ModifyDate=2026:01:02 03:04:05",
    "-EXIF:DateTimeOriginal=2026:01:02 03:04:05",
    "-EXIF:ExposureTime=1/60",
    "-EXIF:ISO=6400",
    "-EXIF:UserComment=dark",
    "-EXIF:LensModel=50mm f/1.4",
    "-EXIF:GPSLatitude=48.1",
    "-EXIF:GPSLatitudeRef=N",
    "-EXIF:GPSLongitude=11.5",
    "-EXIF:GPSLongitudeRef=E",
    "-EXIF:XResolution=300",
    "-EXIF:YResolution=300",
    "-EXIF:ResolutionUnit=inches",
    "-EXIF:Orientation#=6",
    "-XMP-xmp:Rating=4",
    "-XMP-dc:Title=Zoë",
    "-XMP-lr:HierarchicalSubject=a|b",
    "-XMP-tiff:Orientation#=6",
]
IPTC = ["-IPTC:Keywords=night", "-IPTC:Caption-Abstract=Zoë", "-IPTC:CodedCharacterSet=UTF8"]
CASES = [
    # suffix, bits, channels, opacity, profile
    (".png", 8, 3, False, None),
    (".png", 8, 3, True, "Display P3"),
    (".png", 8, 1, False, "grey"),
    (".png", 16, 3, False, "ProPhoto"),
    (".png", 16, 3, True, "Adobe RGB"),
    (".png", 16, 1, False, None),
    (".png", 16, 1, True, None),
    (".tif", 8, 3, False, "Adobe RGB"),
    (".tif", 8, 1, True, None),
    (".tif", 8, 4, False, "inks"),
    (".tif", 16, 3, False, "ProPhoto"),
    (".tif", 16, 3, True, "Display P3"),
    (".tif", 16, 1, False, "grey"),
    (".tif", 16, 4, False, "inks"),
    (".tif", 32, 3, False, None),
    (".tif", 32, 3, False, "P3, linear"),
    (".tif", 32, 1, False, None),
    (".webp", 8, 3, False, "Display P3"),
    (".webp", 8, 3, True, None),
    (".avif", 8, 3, False, None),
    (".avif", 10, 3, False, "Display P3"),
    (".avif", 12, 3, True, "Adobe RGB"),
    (".jpg", 8, 3, False, "Adobe RGB"),
    (".jpg", 8, 1, False, None),
    (".jpg", 8, 4, False, "inks"),
]
# What says how samples are stored, where the file is, or that it has been turned upright.
OTHERWISE = {
    "SourceFile",
    "System",
    "ExifTool",
    "ImageWidth",
    "ImageHeight",
    "Orientation",
    "ExifImageWidth",
    "ExifImageHeight",
    "StripOffsets",
    "StripByteCounts",
    "RowsPerStrip",
    "Compression",
    "Predictor",
    "ExifByteOrder",
    "CurrentIPTCDigest",
    "PhotometricInterpretation",
    "YCbCrSubSampling",
    "PlanarConfiguration",
    "ImageSize",
    "Megapixels",
    "XMPToolkit",
    "SampleFormat",
    "ImageSpatialExtent",
    "MediaDataSize",
    "MediaDataOffset",
    "ImagePixelDepth",
    "AV1ConfigurationVersion",
    "ExtraSamples",
    "Interlace",
    "BitsPerSample",
    "MetaImageSize",
    "WarningTag",
    "Warning",
    "JFIFVersion",
    "Filter",
    "EncodingProcess",
    "ColorComponents",
    "DCTEncodeVersion",
    "APP14Flags0",
    "APP14Flags1",
    "NewSubfileType",
    "SubfileType",
    "ColorTransform",
    "TileWidth",
    "TileLength",
    "FillOrder",
    "Adobe",
}


def made(path, bits, channels, opacity, profile):
    """A file with random samples, lossless where its format can be."""
    random = np.random.default_rng(bits + channels)
    bands = channels + opacity
    if bits == 32:
        samples = random.random((HEIGHT, WIDTH, bands), np.float32) * 1.2 - 0.1
        samples[..., channels:] = samples[..., channels:].clip(0, 1)
    else:
        samples = random.integers(0, 2**bits, (HEIGHT, WIDTH, bands), np.uint16)
        samples = samples.astype(np.uint8) if bits == 8 else samples << (16 - bits)
    image = pyvips.Image.new_from_memory(samples.tobytes(), WIDTH, HEIGHT, bands, NAMES[bits])
    kind = "srgb" if bits == 32 and channels == 3 else INTERPRETATIONS[channels][bits > 8]
    image = image.copy(interpretation="b-w" if bits == 32 and channels == 1 else kind)
    image = image.copy(xres=11.811, yres=11.811)
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile_of(profile))
    options = {".webp": {"lossless": True, "exact": True}, ".jpg": {"Q": 90}}.get(path.suffix, {})
    if path.suffix == ".avif":
        options = {"lossless": True, "bitdepth": bits, "compression": "av1"}
    image.write_to_file(str(path), keep="icc", **options)
    return samples


def pixels(path):
    image = pyvips.Image.new_from_file(str(path))
    return image.numpy().reshape(image.height, image.width, -1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_samples_are_those_of_the_file(tmp_path, case):
    suffix, *kind = case
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    samples = made(source, *kind)
    assert suffix == ".jpg" or np.array_equal(pixels(source), samples)
    picture = files.read(source)
    assert picture.lost == ()
    assert files.write(target, picture) == ()
    off = np.abs(pixels(target).astype(float) - pixels(source))
    # An AVIF under a profile doesn't say that it lost nothing; then and in a JPEG, noise is coded.
    coded = suffix == ".jpg" or (suffix == ".avif" and picture.icc_profile and not kind[2])
    assert off.mean() < 0.02 * 2 ** (8 if kind[0] == 8 else 16) if coded else off.max() == 0
    before, after = (pyvips.Image.new_from_file(str(path)) for path in (source, target))
    assert (before.interpretation, before.format) == (after.interpretation, after.format)
    if kind[-1]:
        assert after.get("icc-profile-data") == profile_of(kind[-1])


def tags(path):
    call = ["exiftool", "-j", "-G1", "-a", "-n", "-struct", str(path)]
    (found,) = json.loads(subprocess.run(call, capture_output=True, check=True, text=True).stdout)
    return {
        name: value
        for name, value in found.items()
        if not name.startswith(("System:", "ExifTool:", "File:", "Composite:"))
        and name.partition(":")[2] not in OTHERWISE
        and name not in OTHERWISE
    }


@pytest.mark.skipif(not shutil.which("exiftool"), reason="needs exiftool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_exiftool_finds_every_tag_again(tmp_path, case):
    suffix, *kind = case
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    made(source, *kind)
    given = TAGS + (IPTC if suffix in (".jpg", ".tif", ".png") else [])
    call = ["exiftool", "-q", "-m", "-overwrite_original", *given, str(source)]
    subprocess.run(call, check=True)
    before = tags(source)
    picture = files.read(source)
    lost = picture.lost + files.write(target, picture)
    assert lost == ()
    after = tags(target)
    assert after == before
    assert any(name.endswith(":Artist") and value == "Zoë Žižka" for name, value in after.items())
    verdict = ["exiftool", "-validate", "-warning", "-a", str(target)]
    said = subprocess.run(verdict, capture_output=True, check=True, text=True).stdout
    assert "Error" not in said, said
