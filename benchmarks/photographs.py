"""What becomes of real photographs, dark, bright and at night? No references are needed.

python benchmarks/photographs.py FOLDER [--weights W ...] [--out DIR]

Every picture is enhanced with each of the weights, and equalised for comparison. Measured are

- white, black: share of the values that are clipped at 1 or 0 and weren't in the photograph
- sky before, sky after: mean luminance of what is darkest and smoothest: of cells of 16×16 pixels,
  the tenth that is darkest, and of these the half with the least contrast
- noise: Immerkær's estimate (1996) in the flattest fifth of the cells (of the least contrast of
  means of 4×4 pixels), as the median of its ratio to the photograph's own noise there times the
  cell's gain; cells that are black or clipped, or whose noise is below half a level, don't count
- same: PSNR to the photograph, in dB, where that is well exposed: its mean is at least --bright

DIR receives photographs.json, photographs.md and photographs.jpg, before and after side by side;
nothing of the pictures is kept beside benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import measure
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from llflow import enhance, load
from llflow.atomic import write_atomically
from llflow.data.pairs import read_picture, visible_files
from llflow.evaluation.metrics import psnr
from llflow.picture import retinex
from llflow.picture.files import to_pil

CELL = 16
BRIGHT = 0.3  # mean from which a photograph is taken for well exposed
EQUALISED = "histogram equalisation"
LEVEL = 1 / 255
WIDTH, HEIGHT, GAP = 420, 300, 4


def figures(before: Tensor, after: Tensor, bright: float = BRIGHT) -> dict[str, float | None]:
    """What is measured of a photograph (3, H, W) in [0, 1] and what became of it."""
    sky = darkest_and_smoothest(before)
    return {
        "mean before": before.mean().item(),
        "mean after": after.mean().item(),
        "white": ((after >= 1) & (before < 1)).float().mean().item(),
        "black": ((after <= 0) & (before > 0)).float().mean().item(),
        "sky before": _cells(before.mean(0)).flatten()[sky].mean().item(),
        "sky after": _cells(after.mean(0)).flatten()[sky].mean().item(),
        "noise": noise_for_its_gain(before, after),
        "same": min(99.0, psnr(after, before)) if before.mean() >= bright else None,
    }


def darkest_and_smoothest(image: Tensor) -> Tensor:
    """Indices of cells: of the darkest tenth, the half with the least contrast."""
    light = _cells(image.mean(0))
    contrast = (_cells(image.mean(0).square()) - light.square()).clamp(min=0).flatten()
    dark = light.flatten().argsort()[: math.ceil(light.numel() / 10)]
    return dark[contrast[dark].argsort()][: math.ceil(len(dark) / 2)]


def noise_for_its_gain(before: Tensor, after: Tensor) -> float | None:
    """Median over the flattest fifth of the cells; None where none of them has any noise."""
    light, bright = (_cells(image.mean(0)).flatten() for image in (before, after))
    own, came = (_noise(image.mean(0)) for image in (before, after))
    counts = (own > LEVEL / 2) & (light > 2 * LEVEL) & (bright < 0.95)
    if not counts.any():
        return None
    ratio = (came / (own * bright / light))[counts]
    smooth = F.avg_pool2d(before.mean(0)[None, None], 4, ceil_mode=True, count_include_pad=False)
    smooth = F.interpolate(smooth, scale_factor=4.0)[0, 0, : before.shape[1], : before.shape[2]]
    contrast = (_cells(smooth.square()).flatten() - light.square()).clamp(min=0).sqrt() / light
    flat = contrast[counts].argsort()[: math.ceil(int(counts.sum()) / 5)]
    return ratio[flat].median().item()


def _noise(plane: Tensor) -> Tensor:
    """Standard deviation of the noise in every cell, by what a difference of Laplacians leaves."""
    kernel = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None] / 6
    padded = F.pad(plane[None, None], (1, 1, 1, 1), "replicate")
    return math.sqrt(math.pi / 2) * _cells(F.conv2d(padded, kernel)[0, 0].abs()).flatten()


def _cells(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane[None, None], CELL, ceil_mode=True, count_include_pad=False)[0, 0]


def summary(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means, the worst noise and the worst PSNR to the input."""
    of = {name: [value for row in rows if (value := row[name]) is not None] for name in rows[0]}
    means = {name: fmean(values) if values else None for name, values in of.items()}
    return means | {
        "worst noise": max(of["noise"], default=None),
        "worst same": min(of["same"], default=None),
    }


def sheet(pictures: Sequence[Sequence[Tensor]], columns: int = 2) -> Image.Image:
    """Photographs and what became of them side by side, so many photographs in a row."""
    rows = []
    for first in range(0, len(pictures), columns):
        together = [picture for row in pictures[first : first + columns] for picture in row]
        small = [to_pil(picture) for picture in together]
        for picture in small:
            picture.thumbnail((WIDTH, HEIGHT))
        rows.append(small)
    heights = [max(p.height for p in row) + GAP for row in rows]
    width = max(len(row) for row in rows) * (WIDTH + GAP)
    page = Image.new("RGB", (width, sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            page.paste(picture, (column * (WIDTH + GAP), top))
        top += height
    return page


def measured(
    files: Sequence[Path], weights: Sequence[str], precision: str, bright: float
) -> tuple[dict[str, list[dict]], list[list[Tensor]]]:
    """Figures by method, one entry a picture; and the pictures, photograph first."""
    models = {name: load(name).fold() for name in weights}
    rows: dict[str, list[dict]] = {}
    pictures = []
    for index, path in enumerate(files, 1):
        before = read_picture(path)
        results = {name: enhance(m, before, precision=precision) for name, m in models.items()}
        pictures.append([before, *results.values()])
        for name, after in {**results, EQUALISED: retinex.equalize(before)}.items():
            rows.setdefault(name, []).append(figures(before, after, bright))
        print(f"{index} of {len(files)}", end="\r", file=sys.stderr, flush=True)
    return rows, pictures


def table(rows: Mapping[str, Sequence[Mapping]], names: Sequence[str]) -> str:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    parts = []
    for method, of in rows.items():
        lines = [
            {"picture": name, **{key: shown(value) for key, value in row.items()}}
            for name, row in zip(names, of, strict=True)
        ]
        parts.append(f"**{method}**\n\n{measure.markdown(lines)}")
    sums = [
        {"all": method, **{key: shown(value) for key, value in summary(of).items()}}
        for method, of in rows.items()
    ]
    return "\n\n".join([*parts, measure.markdown(sums)])


def pictures_in(folder: Path) -> list[Path]:
    files = visible_files(folder)
    if not files:
        raise SystemExit(f"{folder}: expected a folder of photographs, it has no files")
    return files


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", nargs="+", default=["tiny"], help="by name or file")
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--bright", type=float, default=BRIGHT, help="mean of well-exposed ones")
    parser.add_argument("--out", type=Path, default=Path("photographs"))
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        parser.error(f"{args.folder}: expected a folder of photographs")
    files = pictures_in(args.folder)
    rows, pictures = measured(files, args.weights, args.precision, args.bright)
    names = [path.name for path in files]
    text = table(rows, names)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    record = {
        "pictures": names,
        "figures": rows,
        "all": {method: summary(of) for method, of in rows.items()},
    }
    for name, content in (
        ("photographs.json", json.dumps(record, indent=1)),
        ("photographs.md", text + "\n"),
    ):
        write_atomically(args.out / name, lambda file, c=content: file.write(c.encode()))
    page = sheet(pictures)
    write_atomically(args.out / "photographs.jpg", lambda file: page.save(file, "JPEG", quality=90))


if __name__ == "__main__":
    sys.exit(main())
