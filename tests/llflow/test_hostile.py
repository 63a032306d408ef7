"""Malformed and hostile files through the command: each is named, and nothing else happens."""

import json
import random
import resource
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
import pyvips
from PIL import Image
from test_optional_formats import dng, heic, jxl

from llflow.picture import files

COUNT = 500
ENDINGS = (".jpg", ".png", ".tif")
WIDTH, HEIGHT = 33, 27


def noise(bands, kind=np.uint8):
    return np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, bands)).astype(kind)


def by_pillow(file_format, bands=3, **options):
    buffer = BytesIO()
    Image.fromarray(noise(bands)).save(buffer, file_format, **options)
    return buffer.getvalue()


def by_libvips(suffix, samples, **options):
    image = pyvips.Image.new_from_array(samples)
    return image.write_to_buffer(suffix, **options)


def wholes(folder):
    """A sound file of every kind that is known."""
    exif = Image.Exif()
    exif[0x10E], exif[274] = "said", 6
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "blue")]
    animation = {"save_all": True, "append_images": frames}
    found = {
        "png": by_pillow("PNG", 4, exif=exif),
        "png16": by_libvips(".png", noise(3, np.uint16) * 300),
        "grey": by_libvips(".png", noise(1)),
        "jpeg": by_pillow("JPEG", exif=exif, comment=b"x"),
        "progressive": by_pillow("JPEG", progressive=True),
        "webp": by_pillow("WEBP", 4, lossless=True, exif=exif),
        "bmp": by_pillow("BMP"),
        "tiff": by_pillow("TIFF"),
        "tiff16": by_libvips(".tif", noise(3, np.uint16), compression="lzw", predictor="none"),
        "tiled": by_libvips(".tif", noise(4), tile=True, tile_width=16, tile_height=16),
        "bigtiff": by_libvips(".tif", noise(1), bigtiff=True, compression="deflate"),
        "avif": by_pillow("AVIF", exif=exif),
        "gif": by_pillow("GIF"),
        "apng": by_pillow("PNG", **animation),
        "awebp": by_pillow("WEBP", **animation),
    }
    for name, make in (("raw", dng), ("heic", heic), ("jxl", jxl)):
        path = folder / f"sound.{name}"
        try:
            made = make(path) if name == "raw" else make(path, noise(3))
        except pytest.skip.Exception:
            continue
        found[name] = made.read_bytes()
        path.unlink()
    return found


def lying(content, numbers, chance):
    """The file with one of its two dimensions, wherever that stands, said to be another."""
    for width in (WIDTH, HEIGHT, 60, 80):
        for form in ("<H", ">H", "<L", ">L"):
            told = struct.pack(form, width)
            if chance.random() < 0.5 and told in content:
                most = 2 ** (8 * struct.calcsize(form)) - 1
                content = content.replace(told, struct.pack(form, min(most, numbers)), 1)
    return content


def sound_sums(content):
    """A PNG whose chunks have the right sums again, so that it is read further."""
    if content[:4] != b"\x89PNG":
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">L", content, at)
        body = content[at + 4 : at + 8 + length]
        parts += [content[at : at + 4], body, struct.pack(">L", zlib.crc32(body))]
        at += length + 12
    return b"".join(parts)


def hostile(sound, number):
    """A file of some kind with something wrong; the same for the same number."""
    chance = random.Random(number)
    content = sound[sorted(sound)[number % len(sound)]]
    way = chance.choice(["cut", "bytes", "early", "lie", "splice", "tail", "twice"])
    if way == "cut":
        content = content[: chance.randrange(len(content))]
    elif way in ("bytes", "early"):
        changed = bytearray(content)
        reach = len(changed) if way == "bytes" else min(200, len(changed))
        for _ in range(chance.randint(1, 12)):
            changed[chance.randrange(reach)] = chance.randrange(256)
        content = bytes(changed)
    elif way == "lie":
        content = lying(content, chance.choice([0, 1, 5, 255, 6000, 40_000, 2**31 - 1]), chance)
    elif way == "splice":
        other = sound[chance.choice(sorted(sound))]
        at = chance.randrange(min(len(content), len(other)))
        content = content[:at] + other[at:]
    elif way == "tail":
        content = content[: chance.randrange(4, 64)] + chance.randbytes(chance.randrange(2000))
    else:
        at = chance.randrange(len(content))
        content = content[:at] + content[at // 2 :]
    return sound_sums(content) if chance.random() < 0.5 else content


@pytest.mark.slow
def test_five_hundred_hostile_files_through_the_command(weights, tmp_path):
    (tmp_path / "in").mkdir()
    sound = wholes(tmp_path)
    for number in range(COUNT):
        ending = ENDINGS[number // len(sound) % len(ENDINGS)]
        (tmp_path / "in" / f"{number:03}{ending}").write_bytes(hostile(sound, number))
    line = [sys.executable, "-m", "llflow", "enhance", tmp_path / "in", "-o", tmp_path / "out"]
    bounds = ["--max-pixels", "10000000", "--max-memory", "600M"]  # a header may lie up to these
    call = [*map(str, line), "--weights", str(weights), "--json", *bounds]
    done = subprocess.run(call, capture_output=True, text=True, timeout=COUNT * 10)
    assert done.returncode == 1, done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == COUNT
    assert max(one["seconds"] for one in said) < 10
    failed = [one for one in said if one["status"] == "failed"]
    assert 0.3 * COUNT < len(failed) < COUNT
    for one in failed:
        assert one["reason"]
        assert "Traceback" not in one["reason"]
        assert f"llflow: {one['source']}: " in done.stderr
    whole = sorted(one["target"] for one in said if one["status"] == "done")
    assert sorted(map(str, (tmp_path / "out").iterdir())) == whole  # and no temporary file
    for path in whole:
        files.read(path)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_000_000  # kB
