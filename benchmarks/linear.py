"""How fast is a folded linear map, against ActNorm and then conv2d in plain PyTorch?

python benchmarks/linear.py [--device cuda]

"flowkit" is ActNorm and InvertibleLinear folded into one layer as a flow runs it, log-det included;
plain PyTorch owes none. On a GPU also at twice the size of a 4K picture, against the bandwidth of a
copy and against cuBLAS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import measure
import torch
from measure import Target
from torch import Tensor
from torch.nn import functional as F

from flowkit import ActNorm, Chain, InvertibleLinear
from flowkit.ops import linear_map_choice

SHAPES = ((16, 12, 80, 80), (16, 48, 40, 40), (16, 192, 20, 20))
BIG = ((2, 12, 1080, 1920), (2, 48, 540, 960), (2, 192, 270, 480))
QUICK = ((2, 12, 8, 8),)

GPU_TARGETS = {
    12: Target("actnorm + linear, C = 12, 4K, of copy bandwidth", 85, "%", True),
    48: Target("actnorm + linear, C = 48, 4K, of copy bandwidth", 75, "%", True),
    192: Target("actnorm + linear, C = 192, 4K, time of cuBLAS's", 1, "×"),
}


def random_step(channels: int) -> tuple[ActNorm, InvertibleLinear]:
    actnorm, mixing = ActNorm(channels), InvertibleLinear(channels)
    torch.nn.init.normal_(actnorm.bias)
    torch.nn.init.normal_(actnorm.log_scale, std=0.1)
    return actnorm, mixing


def ways_of(channels: int, device: str) -> dict[str, dict[str, Callable[[Tensor], Tensor]]]:
    """By direction."""
    actnorm, mixing = random_step(channels)
    chain = Chain(actnorm, mixing).to(device)
    folded = chain.fold()
    bias, log_scale = (p.detach()[:, None, None] for p in (actnorm.bias, actnorm.log_scale))
    weight = mixing.weight.matrix().detach()
    scaled = (weight.double() * log_scale[:, 0, 0].double().exp()).float()
    offset = scaled @ bias[:, 0, 0]

    def plain(x: Tensor) -> Tensor:
        return F.conv2d((x + bias) * log_scale.exp(), weight[:, :, None, None])

    def plain_inverse(y: Tensor) -> Tensor:
        inverse = torch.linalg.inv(weight.double()).float()
        return F.conv2d(y, inverse[:, :, None, None]) * (-log_scale).exp() - bias

    def library(x: Tensor) -> Tensor:
        """One call of the BLAS for all pixels."""
        expanded = scaled.expand(x.shape[0], -1, -1)
        return torch.baddbmm(offset[:, None], expanded, x.flatten(2)).unflatten(2, x.shape[2:])

    return {
        "forward": {
            "flowkit": lambda x: folded(x)[0],
            "plain": plain,
            "matrix product": library,
        },
        "inverse": {"flowkit": lambda y: folded.inverse(y)[0], "plain": plain_inverse},
    }


@torch.no_grad()
def compare(shape: Sequence[int], args) -> tuple[list[dict], float]:
    """Rows, and how many times a BLAS's time forward takes."""
    rows = []
    x = torch.randn(shape, device=args.device)
    of_library = 0.0
    for what, ways in ways_of(shape[1], args.device).items():
        for way, run in ways.items():
            who = f"{way}, {what} at {tuple(shape)}"
            measure.agree(who, run(x), ways["plain"](x), 1e-4)
        inputs = measure.copies(x)
        times = measure.take_turns(ways, inputs, seconds=args.seconds, device=args.device)
        for way in ways:
            rows.append(
                {
                    "size": "×".join(str(size) for size in shape),
                    "what": what,
                    "way": way,
                    "least ms": 1e3 * times.least(way),
                    "time, of plain": times.ratio(way, "plain"),
                }
            )
        if what == "forward":
            of_library = times.ratio("flowkit", "matrix product").median
    return rows, of_library


def copy_seconds(shape: Sequence[int], args) -> float:
    inputs = measure.copies(torch.randn(shape, device=args.device))
    ways = {"copy": lambda x: x.clone()}
    return measure.take_turns(ways, inputs, seconds=args.seconds, device=args.device).least("copy")


def main(argv: Sequence[str] | None = None) -> None:
    args = measure.begin(measure.arguments(__doc__), argv)
    found = [compare(shape, args)[0] for shape in (QUICK if args.quick else SHAPES)]
    tables = {"ActNorm and linear map, float32, batch 16": [row for rows in found for row in rows]}
    targets = [target.judged(None, "needs a GPU") for target in GPU_TARGETS.values()]
    if args.device == "cuda":
        big, targets = [], []
        for shape in QUICK if args.quick else BIG:
            rows, of_library = compare(shape, args)
            copied = copy_seconds(shape, args)
            for row in rows:
                row["of copy bandwidth, %"] = 1e5 * copied / row["least ms"]
            big += rows
            share = of_library if shape[1] == 192 else rows[0]["of copy bandwidth, %"]
            targets.append(GPU_TARGETS[shape[1]].judged(share))
        tables["ActNorm and linear map, 4K"] = big
    probes = {c: torch.randn(1, c, 4, 4, device=args.device) for c in GPU_TARGETS}
    measure.record(
        "linear",
        args,
        doc=__doc__,
        tables=tables,
        targets=targets,
        implementation={
            f"linear_map, C = {c}": linear_map_choice(probe, torch.eye(c, device=args.device))
            for c, probe in probes.items()
        },
    )


if __name__ == "__main__":
    sys.exit(main())
