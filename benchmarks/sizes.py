"""How do memory and time of `llflow enhance` grow with the picture?

python benchmarks/sizes.py [--megapixels 1 4 12 --depths 8] [--max-memory 1e9]

Each picture is a process of its own, which loads `tiny`, enhances a picture of a few pixels, and
then reads, enhances and writes one of this size and depth, as TIFF without compression, so that
files cost least. Memory is the most that was resident (Linux's VmHWM) above what was before that
picture, bytes of the result in a temporary file not among it; time is processor time. Work is the
pixels on which encoder and flow compute, of the picture's: where tiles overlap that is done twice.
At last 50 pictures of 0.1 megapixels are enhanced in one process: what is resident after the 10th
and after the last.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import pyvips
from measure import Target

DEPTHS = {8: np.uint8, 16: np.uint16}
MEGAPIXELS = (1.0, 4.0, 12.0, 24.0, 50.0, 100.0)
MEMORY = {24.0: 1.0, 100.0: 2.0}  # gigabytes, by megapixels
IN_A_ROW, SETTLED = 50, 10  # pictures, and after how many of them memory has to be flat
FLAT = Target(f"resident after {IN_A_ROW} pictures, above after {SETTLED}", 10, " MB")
LINEAR = Target("enhancing 100 megapixels, time a pixel of 1 megapixel's", 1.15, "×")


def write_picture(path: Path, megapixels: float, depth: int) -> None:
    """A dark picture 3:2, of smooth shapes and noise."""
    width = round((1.5e6 * megapixels) ** 0.5)
    height = round(1e6 * megapixels / width)
    across = pyvips.Image.xyz(width, height)
    shapes = (across[0] / 97).sin() * (across[1] / 61).cos() + (across[0] / 1511).sin()
    light = 0.06 + 0.02 * shapes + 0.01 * pyvips.Image.gaussnoise(width, height, sigma=1, mean=0)
    image = (light.bandjoin([0.8 * light, 1.1 * light]) * (2**depth - 1)).rint()
    image = image.cast("uchar" if depth == 8 else "ushort")
    image.copy(interpretation="srgb" if depth == 8 else "rgb16").tiffsave(str(path))


def child(source: str, target: str, max_memory: int | None) -> None:
    """Print what one picture took, as JSON."""
    from llflow.memory import prefer_huge_pages

    prefer_huge_pages()  # as the command does

    import torch

    import llflow
    from llflow import enhancement, inference
    from llflow.picture import files

    torch.set_num_threads(1)
    model = llflow.load().fold()
    enhancement.enhance(model, torch.full((3, 64, 64), 0.1))
    encoded: list[int] = []
    decoded: list[int] = []
    conditions, decode = inference._Part.conditions, inference._Part.decoded

    def encoding(self, tile):
        encoded.append(_pixels(tile))
        return conditions(self, tile)

    def decoding(self, cond, tile):
        decoded.append(_pixels(tile))
        return decode(self, cond, tile)

    inference._Part.conditions, inference._Part.decoded = encoding, decoding
    Path("/proc/self/clear_refs").write_text("5")  # the most resident begins anew
    before = _resident("VmRSS")
    began = time.process_time()
    dark = files.read(source, max_memory=max_memory)
    bright = enhancement.brighten(model, dark, max_memory=max_memory, folder=Path(target).parent)
    files.write(target, bright)
    seconds = time.process_time() - began
    height, width = dark.pixels.shape[1:]
    tiles = sum(size != inference.TRIAL**2 for size in decoded)
    told = {
        "bytes": _resident("VmHWM") - before,
        "seconds": seconds,
        "tiles": tiles,
        "encoder": sum(encoded) / (height * width),
        "flow": sum(decoded) / (height * width),
        "pixels": height * width,
    }
    print(json.dumps(told))


def _pixels(tile: Any) -> int:
    rows, columns = tile.outer
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def in_a_row(source: str, target: str) -> None:
    """Print the bytes that are resident after each of many pictures, as JSON."""
    import torch

    import llflow
    from llflow import enhancement
    from llflow.picture import files

    torch.set_num_threads(1)
    model = llflow.load().fold()
    resident = []
    for _ in range(IN_A_ROW):
        files.write(target, enhancement.brighten(model, files.read(source)))
        resident.append(_resident("VmRSS"))
    print(json.dumps(resident))


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def take(folder: Path, megapixels: float, depth: int, max_memory: int | None) -> dict:
    return _told("--child", folder, megapixels, depth, *([str(max_memory)] if max_memory else []))


def _told(mode: str, folder: Path, megapixels: float, depth: int, *more: str) -> Any:
    """What a process of its own prints of a picture."""
    source = folder / "dark.tif"
    write_picture(source, megapixels, depth)
    call = [sys.executable, __file__, mode, str(source), str(folder / "bright.tif"), *more]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def plot(rows: Sequence[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (memory, seconds) = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for depth in sorted({row["depth"] for row in rows}):
        own = [row for row in rows if row["depth"] == depth]
        size = [row["megapixels"] for row in own]
        memory.plot(size, [row["memory, MB"] for row in own], "o-", label=f"{depth} bits")
        seconds.plot(size, [row["µs a pixel"] for row in own], "o-", label=f"{depth} bits")
    for most, limit in MEMORY.items():
        memory.plot([most], [1000 * limit], "v", color="0.5")
    memory.set(xlabel="megapixels", ylabel="memory above the weights, MB", ylim=(0, None))
    slowest = max(row["µs a pixel"] for row in rows)
    seconds.set(xlabel="megapixels", ylabel="processor time, µs a pixel", ylim=(0, 1.1 * slowest))
    memory.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["--child"]:
        source, target, *most = argv[1:]
        child(source, target, int(float(most[0])) if most else None)
        return
    if argv[:1] == ["--in-a-row"]:
        in_a_row(*argv[1:])
        return
    parser = measure.arguments(__doc__)
    parser.add_argument("--megapixels", nargs="+", type=float, default=MEGAPIXELS)
    parser.add_argument("--depths", nargs="+", type=int, choices=DEPTHS, default=[*DEPTHS])
    parser.add_argument("--max-memory", type=float, help="bytes (default: llflow's own)")
    args = measure.begin(parser, argv)
    sizes = [0.05, 0.3] if args.quick else args.megapixels
    rows, judged = [], []
    with TemporaryDirectory(dir="/var/tmp") as folder:
        for depth in args.depths:
            for megapixels in sizes:
                most = None if args.max_memory is None else int(args.max_memory)
                told = take(Path(folder), megapixels, depth, most)
                row = {
                    "megapixels": megapixels,
                    "depth": depth,
                    "memory, MB": told["bytes"] / 1e6,
                    "µs a pixel": 1e6 * told["seconds"] / told["pixels"],
                    "tiles": told["tiles"],
                    "encoder's work": told["encoder"],
                    "flow's work": told["flow"],
                }
                rows.append(row)
                if megapixels in MEMORY:
                    name = f"enhancing {megapixels:g} megapixels of {depth} bits, memory"
                    target = Target(name, MEMORY[megapixels], " GB")
                    judged.append(target.judged(told["bytes"] / 1e9))
            ends = [row for row in rows if row["depth"] == depth]
            if {1.0, 100.0} <= {row["megapixels"] for row in ends}:
                first, last = (
                    next(row["µs a pixel"] for row in ends if row["megapixels"] == size)
                    for size in (1.0, 100.0)
                )
                judged.append(LINEAR.judged(last / first, f"{depth} bits"))
        if not args.quick:
            resident = _told("--in-a-row", Path(folder), 0.1, 8)
            judged.append(FLAT.judged((resident[-1] - resident[SETTLED - 1]) / 1e6))
    measure.record("sizes", args, doc=__doc__ or "", tables={"By size": rows}, targets=judged)
    if not args.quick:
        plot(rows, (args.out or measure.RESULTS) / "sizes.png")


if __name__ == "__main__":
    sys.exit(main())
