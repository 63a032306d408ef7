"""Color profiles (ICC.1, version 2) made from what defines a space: primaries, white, a power."""

import struct

import numpy as np
import pyvips

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# Chromaticities of red, green, blue and white, and the power that samples are raised to.
SPACES = {
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290), 2.19921875),
    "ProPhoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585), 1.8),
    "P3, linear": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.3290), 1.0),
    "sRGB, linear": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290), 1.0),
}


def to_xyz(name):
    """Linear RGB of a space to XYZ under D50 (Bradford), float64."""
    *primaries, white, _ = SPACES[name]
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    x, y = white
    white = np.array([x / y, 1, (1 - x - y) / y])
    own = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapt @ own


def profile_of(name):
    """The space's profile; "Display P3" and "inks" are those that libvips brings."""
    if name in ("Display P3", "inks"):
        image = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
        known = {"Display P3": "p3", "inks": "cmyk"}[name]
        return image.icc_transform(known, input_profile="srgb").get("icc-profile-data")
    if name == "grey":
        curve = struct.pack(">4s4xLH2x", b"curv", 1, round(1.8 * 256))
        return packed(b"GRAY", {b"kTRC": curve, b"wtpt": xyz(D50)})
    curve = struct.pack(">4s4xLH2x", b"curv", 1, round(SPACES[name][-1] * 256))
    columns = to_xyz(name).T
    tags = {tag: xyz(c) for tag, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return packed(b"RGB ", tags | {b"wtpt": xyz(D50)})


def xyz(values):
    return struct.pack(">4s4x3l", b"XYZ ", *(round(65536 * v) for v in values))


def packed(space, tags):
    tags = tags | {b"cprt": b"text\0\0\0\0none\0\0\0\0", b"desc": b"desc" + bytes(96)}
    at, table, data = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sLL", name, at + len(data), len(content))
        data += content
    head = struct.pack(">L4sL4s4s4s", at + len(data), b"    ", 0x02100000, b"mntr", space, b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp" + bytes(28) + xyz(D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + data
