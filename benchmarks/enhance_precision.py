"""How long does enhancing a picture take with networks in bf16, against float32 and plain?

python benchmarks/enhance_precision.py [--threads 2] [--rounds 3]

The core of `llflow enhance` on a picture of 400×600: condition and inverse of the folded model,
without files and equalisation. "small" has random weights and "plain" is
`benchmarks/plain_llflow.py` with the same in float32; `tiny` has its shipped weights. What bf16
changes in the picture is a column: the largest and the mean difference from float32, of 255.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import measure
import torch
from enhance import random_model
from measure import Target
from plain_llflow import PlainLLFlow
from torch import Tensor

from llflow import load
from llflow.network.precision import computes_in_bf16, networks_in
from llflow.picture.preprocess import network_input

TARGETS = {
    "small": Target("enhancing 400×600, small in bf16, time of the plain network's", 0.4),
    "tiny": Target("enhancing 400×600, tiny in bf16, time of its float32's", 0.65),
}
TO = {"small": "plain", "tiny": "float32"}


def ways_of(size: str, height: int, width: int) -> dict[str, Callable[[], Tensor]]:
    """The same picture in either precision, and by the plain network where there is one."""
    picture = torch.rand(3, height, width)
    dark, equalized = 0.2 * picture, picture
    low = network_input(dark, equalized)[None]
    model = load("tiny") if size == "tiny" else random_model(size)
    folded = model.fold()

    def ours(precision: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            light = None
            if folded.illumination is not None:
                light = folded.light(dark[None], equalized[None])
            over = None if light is None else light.over(height, width)
            with networks_in(precision, low.device):
                return folded.typical(folded.condition(low, light, over))

        return run

    ways = {precision: ours(precision) for precision in ("float32", "bf16")}
    if size == "tiny":
        return ways
    plain = PlainLLFlow.like(model)
    return ways | {"plain": lambda: plain.enhance(low)}


@torch.no_grad()
def compare(size: str, args) -> tuple[list[dict], float]:
    height, width = (32, 48) if args.quick else (400, 600)
    ways = ways_of(size, height, width)
    pictures = {way: run() for way, run in ways.items()}
    exact = pictures["float32"]
    if "plain" in pictures:
        measure.agree(f"llflow, {size}", exact, pictures["plain"], 1e-4)
    # Random networks amplify rounding; what is wrong altogether is off by far more.
    measure.agree(f"llflow, {size}, bf16", pictures["bf16"], exact, 0.3)
    times = measure.take_turns(ways, seconds=args.seconds, rounds=args.rounds)
    rows = []
    for way, picture in pictures.items():
        off = (picture.clamp(0, 1) - exact.clamp(0, 1)).abs() * 255
        rows.append(
            {
                "size": size,
                "way": way,
                "least s": times.least(way),
                "time, of float32's": times.ratio(way, "float32"),
                "time, of plain's": times.ratio(way, "plain") if "plain" in ways else "–",
                "off, of 255": "–" if way == "float32" else f"{off.max():.2f} / {off.mean():.3f}",
            }
        )
    return rows, times.ratio("bf16", TO[size]).median


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--rounds", type=int, help="(default: as many as the seconds allow)")
    parser.set_defaults(seconds=40.0)
    args = measure.begin(parser, argv)
    rows, judged = [], []
    remark = "" if computes_in_bf16(torch.device("cpu")) else "no units for bf16"
    for size in args.sizes:
        found, ratio = compare(size, args)
        rows += found
        judged.append(TARGETS[size].judged(ratio, remark))
    measure.record(
        f"enhance_precision_{args.threads}",
        args,
        doc=__doc__ or "",
        tables={f"Enhancing 400×600, threads: {args.threads}": rows},
        targets=judged,
    )


if __name__ == "__main__":
    sys.exit(main())
