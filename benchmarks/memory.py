"""What does training keep for the backward pass, and what does keeping less cost in time?

python benchmarks/memory.py

Bytes are those that autograd saves, each storage once, without parameters and inputs. Whole
networks are counted on the meta device, where shapes are computed and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import measure
import torch
from measure import Target
from torch import Tensor
from whole_step import CONFIGS

from flowkit import (
    ActNorm,
    Bijection,
    Chain,
    ConvNet,
    Coupling,
    Inverse,
    InvertibleLinear,
    Reversible,
    Squeeze,
    initialize,
    split,
)
from flowkit.ops import affine_coupling_choice
from llflow import LLFlow
from llflow.network.model import KEEP

STEPS = 16
NUMBERS = (2, 4, 8, 16)
FEWER = Target("saved by 16 coupling steps, of them reversible", 100, "× fewer bytes", True)
CONSTANT = Target("saved by 16 steps a level, reversible, of 2 steps a level's", 1, "×")
SLOWER = Target("training time of 16 coupling steps, reversible", 1.35, "×")
LARGE = Target("saved by a training step of large, keeping nothing", 6, "× fewer bytes", True)


def saved_bytes(run: Callable[[], object], known: Iterable[Tensor]) -> int:
    excluded = {tensor.untyped_storage()._cdata for tensor in known}
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in excluded:
            storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(storage.nbytes() for storage in storages.values())


def gradients(way: Bijection, x: Tensor, cond: Tensor) -> tuple[Tensor, ...]:
    y, logdet = way(x, cond)
    loss = y.square().mean() - logdet.mean() / x[0].numel()
    return torch.autograd.grad(loss, list(way.parameters()))


def steps(args) -> tuple[str, list[dict], list[dict]]:
    """Title, rows and judged targets of a chain of coupling steps at 12×80×80, batch 4."""
    side = 8 if args.quick else 80
    net = partial(ConvNet, hidden=64)
    chain = Chain(
        *(
            layer
            for _ in range(STEPS)
            for layer in (ActNorm(12), InvertibleLinear(12), Coupling(12, net, cond_channels=32))
        )
    )
    x, cond = torch.randn(4, 12, side, side), torch.randn(4, 32, side, side)
    initialize(chain, x, cond)
    ways: dict[str, Bijection] = {
        "all": chain,
        "inputs": Reversible(chain, keep="inputs"),
        "nothing": Reversible(chain),
    }
    known = [x, cond, *chain.parameters()]
    expected = gradients(chain, x, cond)
    counted, timed = {}, {}
    for keep, way in ways.items():
        measure.agree(f"Reversible, keep={keep!r}", gradients(way, x, cond), expected, 1e-3)
        counted[keep] = saved_bytes(partial(way, x, cond), known)
        timed[keep] = partial(gradients, way, x, cond)
    times = measure.take_turns(timed, seconds=args.seconds)
    rows = [
        {
            "keep": keep,
            "saved, MB": counted[keep] / 1e6,
            "times fewer bytes": counted["all"] / counted[keep],
            "least ms": 1e3 * times.least(keep),
            "training time, of all": times.ratio(keep, "all"),
        }
        for keep in ways
    ]
    judged = [
        FEWER.judged(counted["all"] / counted["nothing"]),
        SLOWER.judged(times.ratio("nothing", "all").median),
    ]
    return f"{STEPS} coupling steps, 12×{side}×{side}, batch 4", rows, judged


def multiscale(steps: int) -> Chain:
    """Three levels, each with `steps` steps and a split after the first two."""

    def level(channels: int, *rest: Bijection) -> Chain:
        net = partial(ConvNet, hidden=16)
        layers = [
            layer
            for _ in range(steps)
            for layer in (ActNorm(channels), InvertibleLinear(channels), Coupling(channels, net))
        ]
        after = [
            split(channels // 2, inner, Coupling(channels, net, kept=channels // 2))
            for inner in rest
        ]
        return Chain(Squeeze(), *layers, *after, Inverse(Squeeze()))

    return level(12, level(24, level(48)))


def by_steps() -> list[dict]:
    """What a multi-scale flow saves, by its number of steps; batch 4 of 32×32."""
    x = torch.randn(4, 3, 32, 32)
    rows = []
    for steps in NUMBERS:
        flow = multiscale(steps)
        known = [x, *flow.parameters()]
        counted = {
            way: saved_bytes(partial(bijection, x), known)
            for way, bijection in {"all": flow, "nothing": Reversible(flow)}.items()
        }
        rows.append(
            {
                "steps a level": steps,
                "saved, MB": counted["all"] / 1e6,
                "saved by Reversible, MB": counted["nothing"] / 1e6,
            }
        )
    return rows


def networks(sizes: Iterable[str]) -> list[dict]:
    """A whole training step, batch 16 of 160×160."""
    rows = []
    for name in sizes:
        with torch.device("meta"):
            model = LLFlow(CONFIGS[name]())
            pair = torch.zeros(16, 3, 160, 160), torch.zeros(16, 6, 160, 160)
            known = [*pair, *model.parameters()]
            counted = {}
            for keep in KEEP:
                model.keep = keep
                counted[keep] = saved_bytes(partial(model.nll, *pair), known)
        for keep, count in counted.items():
            fewer = counted["all"] / count
            row = {"size": name, "keep": keep, "saved, GB": count / 1e9, "times fewer bytes": fewer}
            rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.set_defaults(seconds=30.0)
    args = measure.begin(parser, argv)
    title, chain, targets = steps(args)
    levels = by_steps()
    first, last = (row["saved by Reversible, MB"] for row in (levels[0], levels[-1]))
    targets.append(CONSTANT.judged(last / first))
    whole = networks(["narrow"] if args.quick else CONFIGS)
    if not args.quick:
        targets.append(LARGE.judged(whole[-1]["times fewer bytes"]))
    probe = torch.randn(4, 12, 8, 8)
    measure.record(
        "memory",
        args,
        doc=__doc__,
        tables={
            title: chain,
            "Three levels with splits, batch 4 of 32×32": levels,
            "LLFlow, one training step, batch 16, 160×160": whole,
        },
        targets=targets,
        implementation={"affine_coupling": affine_coupling_choice(probe, probe)},
    )


if __name__ == "__main__":
    sys.exit(main())
