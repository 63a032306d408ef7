"""Is one stop of --brightness twice the light?

python benchmarks/brightness.py FOLDER [--count 10] [--weights W] [--out DIR]

Photographs, spread evenly over the folder's, are enhanced at every brightness, and rounded to 8
bits as a file has them. Light is what sRGB's curve (IEC 61966-2-1) says that a screen shows, not
the power of 2.2 that llflow multiplies in. A row tells its mean at every brightness, which has to
grow strictly, and the largest deviation from 2^stops times the light at 0, over the pixels that
clip at neither; at most 15 % is asked for. What isn't so ends the command with exit code 1.

DIR receives brightness.json, brightness.md and the plot brightness.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import measure
import torch
from matplotlib.figure import Figure
from photographs import pictures_in
from torch import Tensor

from llflow import bracket, load
from llflow.atomic import write_atomically
from llflow.data.pairs import read_picture
from llflow.evaluation.metrics import eight_bit

STOPS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
MOST = 0.15


def light(values: Tensor) -> Tensor:
    """Linear light of sRGB's values in [0, 1]."""
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def figures(results: Mapping[float, Tensor]) -> dict[str, float | bool]:
    """Of one picture at several brightnesses, 0 among them; pictures (3, H, W) in [0, 1]."""
    results = {stops: eight_bit(results[stops]).double() for stops in sorted(results)}
    means = {stops: light(result).mean().item() for stops, result in results.items()}
    plain = results[0.0]
    deviations = {}
    for stops, result in results.items():
        both = torch.cat([result, plain])
        inside = ((both > 0) & (both < 1)).all(0)
        if inside.any():
            ratio = light(result)[:, inside].sum() / light(plain)[:, inside].sum()
            deviations[stops] = ratio.item() / 2**stops - 1
    worst = max(deviations.values(), key=abs, default=0.0)
    monotone = all(less < more for less, more in pairwise(means.values()))
    return {f"{stops:+g}": mean for stops, mean in means.items()} | {
        "monotone": monotone,
        "deviation": worst,
    }


def plot(rows: Mapping[str, Mapping]) -> Figure:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, row in rows.items():
        lights = [row[f"{stops:+g}"] / row["+0"] for stops in STOPS]
        axes.plot(STOPS, lights, marker=".", linewidth=1, label=name)
    axes.plot(STOPS, [2**stops for stops in STOPS], "k--", label="2^stops")
    axes.set_yscale("log", base=2)
    axes.set_xlabel("--brightness, stops")
    axes.set_ylabel("mean light, of that at 0")
    axes.legend(fontsize=6)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--weights", default="tiny", help="by name or file")
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--out", type=Path, default=Path("brightness"))
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        parser.error(f"{args.folder}: expected a folder of photographs")
    if args.count < 1:
        parser.error(f"expected a count of at least 1, got {args.count}")
    files = pictures_in(args.folder)
    count = min(args.count, len(files))
    model = load(args.weights).fold()
    rows = {}
    for path in (files[index * len(files) // count] for index in range(count)):
        image = read_picture(path)
        results = bracket(model, image, STOPS, precision=args.precision)
        rows[path.name] = figures(dict(zip(STOPS, results, strict=True)))
    text = measure.markdown([{"picture": name} | row for name, row in rows.items()])
    worst = max(rows.values(), key=lambda row: abs(row["deviation"]))["deviation"]
    monotone = all(row["monotone"] for row in rows.values())
    text += f"\n\nstrictly monotone: {'yes' if monotone else 'NO'}"
    text += f"; largest deviation where nothing clips: {worst:+.1%}"
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    record = {"stops": STOPS, "weights": args.weights, "pictures": rows}
    content = json.dumps(record, indent=1)
    write_atomically(args.out / "brightness.json", lambda file: file.write(content.encode()))
    write_atomically(args.out / "brightness.md", lambda file: file.write(f"{text}\n".encode()))
    figure = plot(rows)
    write_atomically(args.out / "brightness.png", lambda file: figure.savefig(file, format="png"))
    return 0 if monotone and abs(worst) <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
