"""Whole steps of the llflow that Python finds: what `against.py` runs in two checkouts in turn.

Reads lines SIZE, tab, WHAT and answers each with the seconds that one such step took; WHAT is one
of STEPS or "parameters", which asks how many the network has. The networks are the released one's
kind in three sizes, spelled out here: `narrow` is what `tiny` was before it became a network of
another kind, which these benchmarks can't take apart as they do the released one's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import nn

from llflow import Config, LLFlow

CONFIGS = {
    "narrow": partial(
        Config,
        features=16,
        growth=8,
        blocks=2,
        taps=(1,),
        steps=3,
        hidden=24,
        scale_floor=0.1,
    ),
    "small": partial(Config, features=32, blocks=4, taps=(1,), steps=4),
    "large": partial(Config, features=64, blocks=24, taps=(1, 3, 5, 7), steps=12),
}
STEPS = ("train", "train, keep nothing", "enhance")
CROPS, PICTURE = (2, 3, 160, 160), (1, 3, 400, 600)


def network(size: str) -> LLFlow:
    """Random weights that move every layer off the identity."""
    torch.manual_seed(0)
    model = LLFlow(CONFIGS[size]())
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=2e-3)
    return model


@cache
def step_of(size: str, what: str) -> Callable[[], object]:
    model = network(size)
    dark, bright = torch.rand(2, *(PICTURE if what == "enhance" else CROPS))
    low = torch.cat([(0.2 * dark + 1e-3).log(), dark], dim=1)
    if what == "enhance":
        folded = model.fold()
        return torch.no_grad()(lambda: folded.typical(folded.condition(low)))
    model.keep = what.partition("keep ")[2] or "all"
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)

    def train() -> None:
        optimizer.zero_grad()
        model.nll(bright, low).mean().backward()
        optimizer.step()

    return train


def seconds(step: Callable[[], object]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        size, what = line.rstrip("\n").split("\t")
        if what == "parameters":
            print(sum(parameter.numel() for parameter in network(size).parameters()), flush=True)
        else:
            print(seconds(step_of(size, what)), flush=True)


if __name__ == "__main__":
    main()
