"""What does training keep for the backward pass, and what does keeping less cost in time?

python benchmarks/memory.py

Bytes are those that autograd saves, each storage once, without parameters and inputs. Times are
ratios of processor time, the ways taken in turn in one process on one thread.
"""

from collections.abc import Callable, Iterable
from functools import partial
from time import process_time

import torch
from torch import Tensor

from flowkit import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    ConvNet,
    InvConv1x1,
    Reversible,
    initialize,
)
from llflow import LLFlow
from llflow.model import KEEP, SIZES

REPEATS = 5


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


def steps() -> None:
    """16 coupling steps at 12×80×80, batch 4."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = partial(ConvNet, hidden=64)
    chain = Chain(
        *(
            layer
            for _ in range(16)
            for layer in (ActNorm(12), InvConv1x1(12), AffineCoupling(12, net, cond_channels=32))
        )
    )
    x, cond = torch.randn(4, 12, 80, 80), torch.randn(4, 32, 80, 80)
    initialize(chain, x, cond)
    ways: dict[str, Bijection] = {
        "all": chain,
        "inputs": Reversible(chain, keep="inputs"),
        "nothing": Reversible(chain),
    }
    known = [x, cond, *chain.parameters()]
    counted = {keep: saved_bytes(lambda w=way: w(x, cond), known) for keep, way in ways.items()}
    seconds: dict[str, list[float]] = {keep: [] for keep in ways}
    for _ in range(REPEATS):
        for keep, way in ways.items():
            began = process_time()
            y, logdet = way(x, cond)
            (y.square().mean() - logdet.mean() / x[0].numel()).backward()
            seconds[keep].append(process_time() - began)
    print("\n16 coupling steps, 12×80×80, batch 4\n")
    print(
        "| keep | saved (MB) | of all | training time, ratio (least to most) |\n|---|---|---|---|"
    )
    for keep in ways:
        ratios = sorted(s / a for s, a in zip(seconds[keep], seconds["all"], strict=True))
        print(
            f"| {keep} | {counted[keep] / 1e6:.2f} | 1/{counted['all'] / counted[keep]:.1f} "
            f"| {ratios[REPEATS // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


def networks() -> None:
    """A whole training step, batch 16 of 160×160: shapes only, on the meta device."""
    print("\nLLFlow, one training step, batch 16, 160×160\n")
    print("| size | keep | saved (GB) | of all |\n|---|---|---|---|")
    for name, config in SIZES.items():
        with torch.device("meta"):
            model = LLFlow(config)
            pair = torch.zeros(16, 3, 160, 160), torch.zeros(16, 6, 160, 160)
            run = partial(model.nll, *pair)
            counted = {}
            for keep in KEEP:
                model.keep = keep
                counted[keep] = saved_bytes(run, [*pair, *model.parameters()])
        for keep, count in counted.items():
            print(f"| {name} | {keep} | {count / 1e9:.2f} | 1/{counted['all'] / count:.1f} |")


if __name__ == "__main__":
    steps()
    networks()
