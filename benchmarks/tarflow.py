"""How fast is an inverse by rounds, against one place after another, where its error is 1e-3?

python benchmarks/tarflow.py [--device cuda]

A tarflow of 64 tokens, trained for a while on waves, decodes noise: step by step with the keys and
values of the tokens before, and in rounds of all tokens, until nothing moves by more than a
tolerance. The error is the root mean square against the steps' result in float64, relative to that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import measure
import torch
from measure import Target
from torch import Tensor

from flowkit import Flow, TokenAutoregressive, fit, flows

SIZE, ERROR = 32, 1e-3
TARGETS = {
    batch: Target(f"tarflow, rounds against steps, {batch} of 64 tokens", 2.5, "× faster", True)
    for batch in (1, 4)
}


def waves(count: int, size: int) -> Tensor:
    """Pictures (count, 1, size, size) of two plane waves and a little noise."""
    where = torch.linspace(-3, 3, size)
    across, down = torch.meshgrid(where, where, indexing="xy")
    a, b, phase = (torch.rand(count, 2, 1, 1) for _ in range(3))
    pictures = (2 * (a * across + (b - 0.5) * down) + 6.3 * phase).sin()
    return pictures.mean(1, keepdim=True) + 0.1 * torch.randn(count, 1, size, size)


def decoded(flow: Flow, parallel: float | None, z: Tensor) -> Tensor:
    for layer in flow.modules():
        if isinstance(layer, TokenAutoregressive):
            layer.parallel = parallel
    return flow.decode(z)[0]


@torch.no_grad()
def compare(flow: Flow, exact: Flow, batch: int, args) -> list[dict]:
    z = torch.randn(batch, *flow.bijection.shape((1, args.size, args.size)), device=args.device)
    expected = decoded(exact, None, z.double())
    ways = {"steps": partial(decoded, flow, None)}
    errors = {}
    for tolerance in (1e-2, 1e-3, 5e-4, 1e-4):
        ways[f"rounds to {tolerance:g}"] = partial(decoded, flow, tolerance)
    for way, run in ways.items():
        error = (run(z).double() - expected).square().mean() / expected.square().mean()
        errors[way] = error.sqrt().item()
    inputs = measure.copies(z)
    times = measure.take_turns(ways, inputs, seconds=args.seconds, device=args.device)
    return [
        {
            "samples": batch,
            "way": way,
            "least ms": 1e3 * times.least(way),
            "speed, of steps": times.ratio("steps", way),
            "error": errors[way],
        }
        for way in ways
    ]


def main(argv: Sequence[str] | None = None) -> None:
    args = measure.begin(measure.arguments(__doc__), argv)
    args.size = 8 if args.quick else SIZE
    flow = flows.tarflow((1, args.size, args.size), patch=4, steps=4, hidden=48, depth=2)
    steps = 2 if args.quick else 200
    data = waves(64 if args.quick else 4000, args.size)
    fitted = fit(flow, data, steps=steps, batch=32, learning_rate=2e-3, anneal=True, progress=False)
    print(f"trained: {fitted.validation[-1] / args.size**2:.3f} nats a pixel")
    flow = flow.to(args.device).requires_grad_(False)
    exact = flow.fold().double()
    rows, judged = [], []
    for batch in (1, 4, 32):
        found = compare(flow, exact, batch, args)
        rows += found
        good = [row for row in found[1:] if row["error"] <= ERROR]
        if batch in TARGETS:
            speeds = [row["speed, of steps"].median for row in good]
            judged.append(TARGETS[batch].judged(max(speeds, default=None), f"error ≤ {ERROR:g}"))
    measure.record(
        "tarflow",
        args,
        doc=__doc__ or "",
        tables={"Decoding 64 tokens of 16 numbers through 4 maps": rows},
        targets=judged,
        implementation={},
    )


if __name__ == "__main__":
    sys.exit(main())
