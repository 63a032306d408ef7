"""Color profiles (ICC.1:2022, v2 and v4): a file's samples to linear light in sRGB's primaries, and
back.

A profile of curves and a matrix is computed as it is defined, without bounds: what lies outside
sRGB comes out below 0 or above 1 and finds its way back. One of tables, for inks above all, goes
through Little CMS at 16 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyvips

from llflow.errors import first_line

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # IEC 61966-2-1
# Linear sRGB to XYZ: relative to D50, as profiles have it, and to its own white, D65.
_TO_D50 = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
_TO_D65 = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_CHANNELS = {b"RGB ": 3, b"GRAY": 1, b"CMYK": 4}
_NAMES = {1: "grey", 3: "RGB", 4: "inks"}
_VIPS = {3: "rgb16", 4: "cmyk"}
_PROBE = np.linspace(0, 1, 256, dtype=np.float32)

Curve = Callable[[np.ndarray], np.ndarray]


class Space(Protocol):
    """What samples (..., C) in [0, 1] mean: C is 1 for grey, 3 for RGB, 4 for inks."""

    @property
    def channels(self) -> int: ...

    def to_linear(self, samples: np.ndarray) -> np.ndarray:
        """(..., C) -> (..., 3), linear light in sRGB's primaries, (1, 1, 1) for white."""
        ...

    def from_linear(self, linear: np.ndarray) -> np.ndarray:
        """The inverse of `to_linear`, where there is one."""
        ...


def linear_of_srgb(values: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, odd around 0 and going on above 1."""
    size = np.abs(values)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.copysign(light, values).astype(np.float32)


def srgb_of_linear(light: np.ndarray) -> np.ndarray:
    """The inverse of `linear_of_srgb`."""
    size = np.abs(light)
    values = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.copysign(values, light).astype(np.float32)


@dataclass(frozen=True)
class Shaped:
    """A curve for each channel, then a matrix to linear sRGB; for grey the curve alone."""

    curves: tuple[Curve, ...]
    inverses: tuple[Curve, ...]
    matrix: np.ndarray | None

    @property
    def channels(self) -> int:
        return len(self.curves)

    def to_linear(self, samples: np.ndarray) -> np.ndarray:
        planes = [curve(samples[..., k]) for k, curve in enumerate(self.curves)]
        if self.matrix is None:
            planes *= 3 // len(planes)
        light = np.stack(planes, -1)
        return light if self.matrix is None else light @ self.matrix.T.astype(np.float32)

    def from_linear(self, linear: np.ndarray) -> np.ndarray:
        if self.channels == 1:
            light = (linear @ LUMINANCE)[..., None]
        elif self.matrix is None:
            light = linear
        else:
            light = linear @ np.linalg.inv(self.matrix).T.astype(np.float32)
        return np.stack([curve(light[..., k]) for k, curve in enumerate(self.inverses)], -1)


SRGB = Shaped((linear_of_srgb,) * 3, (srgb_of_linear,) * 3, None)
GREY = Shaped((linear_of_srgb,), (srgb_of_linear,), None)


@dataclass(frozen=True)
class Tables:
    """A profile that is looked up, relative colorimetric; or the default for inks without one."""

    channels: int
    profile: bytes | None

    def to_linear(self, samples: np.ndarray) -> np.ndarray:
        image = _vips(_whole(samples, 65535), _VIPS[self.channels])
        if self.profile is not None:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.profile)
            xyz = image.icc_import(embedded=True, pcs="xyz", intent="relative")
        else:
            xyz = image.icc_import(input_profile="cmyk", pcs="xyz", intent="relative")
        return (xyz.numpy() / 100 @ np.linalg.inv(_TO_D65).T).astype(np.float32)

    def from_linear(self, linear: np.ndarray) -> np.ndarray:
        xyz = _vips((100 * linear @ _TO_D65.T).astype(np.float32), "xyz")
        options = {"pcs": "xyz", "intent": "relative", "depth": 16}
        if self.profile is not None:
            xyz.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.profile)
        else:
            options["output_profile"] = "cmyk"
        return xyz.icc_export(**options).numpy().astype(np.float32) / 65535


def space_of(profile: bytes | None, channels: int) -> Space:
    """What samples of so many channels mean under a profile; sRGB, or a usual offset press, where
    there is none.

    Raises:
        ValueError: the profile is damaged, or describes something else.
    """
    if profile is None:
        return {1: GREY, 3: SRGB, 4: Tables(4, None)}[channels]
    tags = _tags(profile)
    described = _CHANNELS.get(profile[16:20])
    if described != channels:
        what = _NAMES.get(described or 0, repr(profile[16:20].decode("latin-1")))
        raise ValueError(f"it describes {what}, and the picture is {_NAMES[channels]}")
    if channels == 1:
        return _unless_srgb(Shaped(*_curves([_tag(profile, tags, b"kTRC")]), None), GREY)
    if channels == 4 or b"A2B0" in tags:
        return _proven(Tables(channels, profile))
    curves, inverses = _curves([_tag(profile, tags, name) for name in (b"rTRC", b"gTRC", b"bTRC")])
    primaries = [_xyz(_tag(profile, tags, name)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    matrix = np.linalg.inv(_TO_D50) @ np.stack(primaries, -1)
    if not abs(np.linalg.det(matrix)) > 1e-6:
        raise ValueError("its primaries lie on a line")
    # White is white: profiles' own rounding, some 1e-4, would tint what is grey.
    matrix /= matrix.sum(1, keepdims=True)
    return _unless_srgb(Shaped(curves, inverses, matrix), SRGB)


def _unless_srgb(space: Shaped, srgb: Shaped) -> Shaped:
    """sRGB itself for one of its many profiles, which differ by less than half a step of 8 bits."""
    ramps = np.eye(space.channels)[:, None] * _PROBE[:, None]
    near = np.abs(srgb_of_linear(space.to_linear(ramps)) - srgb_of_linear(srgb.to_linear(ramps)))
    return srgb if near.max() < 0.5 / 255 else space


def _proven(space: Tables) -> Tables:
    """Tables that Little CMS takes, both ways."""
    try:
        space.from_linear(space.to_linear(np.zeros((1, 1, space.channels), np.float32)))
    except pyvips.Error as error:
        raise ValueError(first_line(error)) from error
    return space


def _vips(array: np.ndarray, interpretation: str) -> Any:
    return pyvips.Image.new_from_array(array).copy(interpretation=interpretation)


def _whole(samples: np.ndarray, top: int) -> np.ndarray:
    return np.rint(samples.clip(0, 1) * top).astype(np.uint16)


def _tags(profile: bytes) -> dict[bytes, tuple[int, int]]:
    """Offset and size of each tag (7.3)."""
    try:
        (count,) = struct.unpack_from(">L", profile, 128)
        if profile[36:40] != b"acsp" or count > 200:
            raise ValueError("it doesn't begin as profiles do")
        entries = [struct.unpack_from(">4sLL", profile, 132 + 12 * k) for k in range(count)]
    except struct.error as error:
        raise ValueError("it is cut off") from error
    return {name: (offset, size) for name, offset, size in entries}


def _tag(profile: bytes, tags: dict[bytes, tuple[int, int]], name: bytes) -> bytes:
    if name not in tags:
        raise ValueError(f"it has no tag {name.decode()}")
    offset, size = tags[name]
    return profile[offset : offset + size]


def _xyz(tag: bytes) -> np.ndarray:
    """XYZType (10.31)."""
    if tag[:4] != b"XYZ " or len(tag) < 20:
        raise ValueError("its primaries can't be read")
    return np.array(struct.unpack_from(">3l", tag, 8)) / 65536


def _curves(tags: list[bytes]) -> tuple[tuple[Curve, ...], tuple[Curve, ...]]:
    pairs = [_curve(tag) for tag in tags]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _curve(tag: bytes) -> tuple[Curve, Curve]:
    """curveType (10.6) or parametricCurveType (10.18), and its inverse."""
    try:
        if tag[:4] == b"curv":
            (count,) = struct.unpack_from(">L", tag, 8)
            if count < 2:
                gamma = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
                return _power(gamma, 1, 0, 0, 0, 0, 0)
            table = np.array(struct.unpack_from(f">{count}H", tag, 12)) / 65535
            return _table(table)
        if tag[:4] == b"para":
            (kind,) = struct.unpack_from(">H", tag, 8)
            count = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}[kind]
            g, *rest = (v / 65536 for v in struct.unpack_from(f">{count}l", tag, 12))
            a, b, c, d, e, f = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            if kind in (1, 2):
                a, b = rest[:2]
                d = -b / a
                e = f = rest[2] if kind == 2 else 0.0
            elif kind >= 3:
                a, b, c, d = rest[:4]
                e, f = rest[4:] if kind == 4 else (0.0, 0.0)
            return _power(g, a, b, c, d, e, f)
    except (struct.error, KeyError, ZeroDivisionError) as error:
        raise ValueError("its curves can't be read") from error
    raise ValueError("its curves can't be read")


def _power(
    g: float, a: float, b: float, c: float, d: float, e: float, f: float
) -> tuple[Curve, Curve]:
    """y = (a·x + b)^g + e from x = d on, c·x + f below; odd around 0."""
    if not (g > 0 and a > 0):
        raise ValueError("its curves aren't increasing")

    def forward(x: np.ndarray) -> np.ndarray:
        size = np.abs(x)
        y = np.where(size >= d, np.maximum(a * size + b, 0) ** g + e, c * size + f)
        return np.copysign(y, x).astype(np.float32)

    bend = max(a * d + b, 0) ** g + e

    def inverse(y: np.ndarray) -> np.ndarray:
        size = np.abs(y)
        below = (size - f) / c if c else np.full_like(size, max(d, 0))
        x = np.where(size >= bend, (np.maximum(size - e, 0) ** (1 / g) - b) / a, below)
        return np.copysign(np.maximum(x, 0), y).astype(np.float32)

    return forward, inverse


def _table(table: np.ndarray) -> tuple[Curve, Curve]:
    """Straight lines between the entries; the last goes on beyond 1."""
    if not (np.diff(table) >= 0).all() or table[0] == table[-1]:
        raise ValueError("its curves aren't increasing")
    places = np.linspace(0, 1, len(table))
    keep = np.concatenate([[True], np.diff(table) > 0])  # an inverse needs one place a value
    return partial(_between, places, table), partial(_between, table[keep], places[keep])


def _between(xs: np.ndarray, ys: np.ndarray, x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
    y = np.interp(size, xs, ys) + slope * np.maximum(size - xs[-1], 0)
    return np.copysign(y, x).astype(np.float32)
