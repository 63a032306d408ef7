"""How fast is a rational-quadratic spline, against nflows' and zuko's?

python benchmarks/spline.py [--device cuda]

Eight bins, from the raw numbers that a net gives, to values and log-slopes; zuko's and nflows' with
their bins last, as their flows have them. On a CPU flowkit is plain PyTorch as well; on a GPU also
on tensors that no cache holds, against the bandwidth of a copy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import measure
import torch
from measure import Target, Times
from nflows.transforms.splines import unconstrained_rational_quadratic_spline
from torch import Tensor
from zuko.transforms import MonotonicRQSTransform

from flowkit import RationalQuadraticSpline
from flowkit.ops import implementation, rational_quadratic_choice

BINS, BOUND = 8, 5.0
OURS = RationalQuadraticSpline(BINS, BOUND)
SHAPES = ((256, 8), (4096, 16), (16, 6, 32, 32))
BIG = ((32, 6, 256, 256), (1_000_000, 8))
QUICK = ((4, 3),)

WHAT = ("forward", "inverse", "forward + backward")
CPU_TARGETS = {
    (what, peer): Target(f"spline {what}, against {peer}, worst size", 1.5, "× faster", True)
    for what in WHAT
    for peer in ("nflows", "zuko")
}
GPU_TARGET = Target("spline forward, ≥ 100 MB, of copy bandwidth", 70, "%", True)

Operation = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def ours(x: Tensor, params: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    return (OURS.inverse if inverse else OURS.forward)(x, params)


def plain(x: Tensor, params: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    with implementation("reference"):
        return ours(x, params, inverse=inverse)


def of_nflows(x: Tensor, params: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    raw = params.movedim(1, -1).split([BINS, BINS, BINS - 1], dim=-1)
    return unconstrained_rational_quadratic_spline(
        x, *raw, inverse=inverse, tails="linear", tail_bound=BOUND
    )


def of_zuko(x: Tensor, params: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    raw = params.movedim(1, -1).split([BINS, BINS, BINS - 1], dim=-1)
    spline = MonotonicRQSTransform(*raw, bound=BOUND)
    return (spline.inv if inverse else spline).call_and_ladj(x)  # pyright: ignore


def trained(operation: Operation, x: Tensor, params: Tensor) -> tuple[Tensor, ...]:
    x, params = x.detach().requires_grad_(), params.detach().requires_grad_()
    y, log_slope = operation(x, params)
    return torch.autograd.grad(y.sum() + log_slope.sum(), [x, params])


def compare(what: str, shape: Sequence[int], args) -> Times:
    """One direction at one size."""
    inverse = what == "inverse"
    x = 2 * torch.randn(shape, device=args.device)
    params = torch.randn(shape[0], OURS.count, *shape[1:], device=args.device)
    ways: dict[str, Operation] = {
        "flowkit": partial(ours, inverse=inverse),
        "nflows": partial(of_nflows, inverse=inverse),
        "zuko": partial(of_zuko, inverse=inverse),
    }
    if args.device == "cuda":
        ways["plain"] = partial(plain, inverse=inverse)
    expected = plain(x.double(), params.double(), inverse=inverse)
    for way, operation in ways.items():
        # nflows and zuko parametrise slopes and shares otherwise: only their shapes agree.
        # (float32 in the narrowest bins of half a million is good for some 1e-3.)
        if way in ("flowkit", "plain"):
            measure.agree(f"{way}, {what} at {tuple(shape)}", operation(x, params), expected, 5e-3)
    if what == "forward + backward":
        ways = {way: partial(trained, operation) for way, operation in ways.items()}
        return _timed(ways, x, params, args)
    with torch.no_grad():
        return _timed(ways, x, params, args)


def _timed(ways: dict[str, Operation], x: Tensor, params: Tensor, args) -> Times:
    inputs = measure.copies(x, params)
    return measure.take_turns(ways, inputs, seconds=args.seconds, device=args.device)


def rows_of(times: Times, what: str, shape: Sequence[int]) -> list[dict]:
    return [
        {
            "size": "×".join(str(size) for size in shape),
            "what": what,
            "way": way,
            "least ms": 1e3 * times.least(way),
            "time, of flowkit": times.ratio(way, "flowkit"),
        }
        for way in times.seconds
    ]


def main(argv: Sequence[str] | None = None) -> None:
    args = measure.begin(measure.arguments(__doc__), argv)
    rows: list[dict] = []
    ratios: dict[tuple[str, str], list[float]] = {key: [] for key in CPU_TARGETS}
    for shape in QUICK if args.quick else SHAPES:
        for what in WHAT:
            times = compare(what, shape, args)
            rows += rows_of(times, what, shape)
            for peer in ("nflows", "zuko"):
                ratios[what, peer].append(times.ratio(peer, "flowkit").median)
    tables = {"Rational-quadratic spline, 8 bins, float32": rows}
    targets = [CPU_TARGETS[key].judged(min(values)) for key, values in ratios.items()]
    if args.device == "cuda":
        big, shares = [], []
        for shape in QUICK if args.quick else BIG:
            # Read: x and the raw numbers; written: y and the log-slopes.
            moved = torch.randn(shape[0], OURS.count + 3, *shape[1:], device=args.device)
            copied = _copied(moved, args) / 2
            for what in WHAT:
                big += rows_of(compare(what, shape, args), what, shape)
            shares.append(1e5 * copied / big[-len(WHAT) * 4]["least ms"])
        tables["Tensors of ≥ 100 MB"] = big
        targets.append(GPU_TARGET.judged(min(shares), "worst size"))
    else:
        targets.append(GPU_TARGET.judged(None, "needs a GPU"))
    probe = torch.randn(2, 3, device=args.device)
    params = torch.randn(2, OURS.count, 3, device=args.device)
    choice = rational_quadratic_choice(probe, params, OURS.knots)
    measure.record(
        "spline",
        args,
        doc=__doc__ or "",
        tables=tables,
        targets=targets,
        implementation={"rational_quadratic": choice},
    )


def _copied(source: Tensor, args) -> float:
    inputs = measure.copies(source)
    ways = {"copy": lambda x: x.clone()}
    return measure.take_turns(ways, inputs, seconds=args.seconds, device=args.device).least("copy")


if __name__ == "__main__":
    sys.exit(main())
