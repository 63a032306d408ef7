"""How much faster are eight samples of one picture than eight pictures of one sample each?

python benchmarks/samples.py [--size small]

`llflow.enhance.draw` on a picture of 400×600: what depends on the dark picture alone is computed
once for all samples.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import measure
import torch
from enhance import random_model
from measure import Target
from torch import Tensor

from flowkit.ops import affine_coupling_choice
from llflow.enhancement import draw
from llflow.network.model import SIZES

SAMPLES = 8


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.set_defaults(threads=torch.get_num_threads())
    args = measure.begin(parser, argv)
    if args.quick:
        args.size = "tiny"
    model = random_model(args.size).fold()
    height, width = (32, 48) if args.quick else (400, 600)
    image = 0.2 * torch.rand(3, height, width)

    def together() -> list[Tensor]:
        return draw(model, image, samples=SAMPLES)

    def separately() -> list[Tensor]:
        return [draw(model, image, seed=seed)[0] for seed in range(SAMPLES)]

    # A sample's noise is its index's and seed's, so index 0 of seed 0 is in both.
    measure.agree("draw, 8 samples", together()[0], separately()[0], 1e-5)
    ways = {"8 samples of one picture": together, "8 separate ones": separately}
    times = measure.take_turns(ways, rounds=args.rounds)
    rows = [
        {
            "way": way,
            "least s": times.least(way),
            "time, of 8 separate ones": times.ratio(way, "8 separate ones"),
        }
        for way in ways
    ]
    faster = times.ratio("8 separate ones", "8 samples of one picture").median
    target = Target(
        f"8 samples of one picture, {args.size}, against 8 apart", 2.5, "× faster", True
    )
    measure.record(
        "samples",
        args,
        doc=__doc__,
        tables={f"Samples of {height}×{width}, {args.size}, threads: {args.threads}": rows},
        targets=[target.judged(faster)],
        implementation={"affine_coupling": affine_coupling_choice(image[None], image[None])},
    )


if __name__ == "__main__":
    sys.exit(main())
