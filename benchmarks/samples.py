"""What do many samples of one condition cost, and their densities?

python benchmarks/samples.py [--size narrow]

512 samples of one condition, and their densities, against one batch of 512 conditions, on vectors
and on images. And `llflow.draw`: eight samples of one picture of 400×600 against eight pictures of
one sample each; what depends on the dark picture alone is computed once for all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import measure
import torch
from enhance import random_model
from measure import Target, Times
from torch import Tensor, nn
from whole_step import CONFIGS

from flowkit import MLP, ActNorm, Chain, ConvNet, Coupling, Flow, InvertibleLinear, StandardNormal
from flowkit.ops import affine_coupling_choice
from llflow import draw

MANY, PICTURES, STEPS, COND = 512, 8, 4, 16
KINDS = {
    "vectors, nets of 64": ((8,), partial(MLP, hidden=64)),
    "vectors, nets of 256": ((8,), partial(MLP, hidden=256)),
    "images, nets of 32": ((4, 8, 8), partial(ConvNet, hidden=32)),
}
TARGETS = {
    (kind, what): Target(f"512 {what} of one condition, {kind}, of a batch of 512", 1.2, "×")
    for kind in KINDS
    for what in ("samples", "densities")
}
APART = "8 samples of one picture, {}, against 8 apart"


def random_flow(kind: str) -> Flow:
    shape, net = KINDS[kind]
    channels = shape[0]
    layers = (
        layer
        for _ in range(STEPS)
        for layer in (
            ActNorm(channels),
            InvertibleLinear(channels),
            Coupling(channels, net, cond_channels=COND),
        )
    )
    flow = Flow(Chain(*layers), StandardNormal(shape)).eval()
    for parameter in flow.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return flow


@torch.no_grad()
def compare(kind: str, count: int, args) -> dict[str, Times]:
    """Of one condition and of as many as samples, by what is computed."""
    flow, (shape, _) = random_flow(kind), KINDS[kind]
    one = torch.randn(1, COND, *shape[1:])
    each = one.repeat(count, *[1] * (one.dim() - 1))
    noise = torch.randn(count, 1, *shape)

    def samples() -> Tensor:
        return flow.sample(one, num_samples=count, noise=noise)[:, 0]

    def batch() -> Tensor:
        return flow.sample(each, noise=noise[:, 0])

    x = batch()

    def densities() -> Tensor:
        return flow.given(one).log_prob(x[:, None])[:, 0]

    def batch_densities() -> Tensor:
        return flow.log_prob(x, each)

    found = {}
    for what, own, other in (
        ("samples", samples, batch),
        ("densities", densities, batch_densities),
    ):
        measure.agree(f"{count} {what} of one condition, {kind}", own(), other(), 1e-4)
        ways = {"of one condition": own, "of as many": other}
        found[what] = measure.take_turns(ways, seconds=args.seconds)
    return found


def pictures(args) -> tuple[Times, str]:
    """Eight samples of one picture, and eight apart; the picture's size."""
    model = random_model(args.size).fold()
    height, width = (32, 48) if args.quick else (400, 600)
    image = 0.2 * torch.rand(3, height, width)

    def together() -> list[Tensor]:
        return draw(model, image, samples=PICTURES)

    def separately() -> list[Tensor]:
        return [draw(model, image, seed=seed)[0] for seed in range(PICTURES)]

    # A sample's noise is its index's and seed's, so index 0 of seed 0 is in both.
    measure.agree("draw, 8 samples", together()[0], separately()[0], 1e-5)
    ways = {"8 samples of one picture": together, "8 separate ones": separately}
    return measure.take_turns(ways, rounds=args.rounds), f"{height}×{width}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--size", choices=CONFIGS, default="narrow")
    parser.add_argument("--rounds", type=int, default=5, help="of pictures (default %(default)s)")
    args = measure.begin(parser, argv)
    count = 8 if args.quick else MANY
    rows, targets = [], []
    for kind in KINDS:
        for what, times in compare(kind, count, args).items():
            rows += [
                {
                    "what": f"{what}, {kind}",
                    "way": way,
                    "least ms": 1e3 * times.least(way),
                    "time, of a batch": times.ratio(way, "of as many"),
                }
                for way in times.seconds
            ]
            targets.append(
                TARGETS[kind, what].judged(times.ratio("of one condition", "of as many").median)
            )
    times, size = pictures(args)
    drawn = [
        {
            "way": way,
            "least s": times.least(way),
            "time, of 8 separate ones": times.ratio(way, "8 separate ones"),
        }
        for way in times.seconds
    ]
    faster = times.ratio("8 separate ones", "8 samples of one picture").median
    targets.append(Target(APART.format(args.size), 2.5, "× faster", True).judged(faster))
    probe = torch.randn(1, 4, 8, 8)
    measure.record(
        "samples",
        args,
        doc=__doc__,
        tables={f"{count} of one condition": rows, f"Samples of {size}, {args.size}": drawn},
        targets=targets,
        implementation={"affine_coupling": affine_coupling_choice(probe, probe)},
    )


if __name__ == "__main__":
    sys.exit(main())
