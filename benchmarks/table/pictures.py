"""Bits per dimension of Fashion-MNIST after ten minutes of a processor.

Glow of every library: two levels of six steps, nets of 64 channels, the same batches, Adam whose
rate falls over the ten minutes along half a cosine, uniform dequantisation. Counted is the
processor time of training steps alone, so that a shared processor changes nothing.
"""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import of_flowkit
import of_freia
import of_nflows
import of_normflows
import torch
from density import Density
from likelihood import Diverged
from part import Part
from torch import Tensor, nn

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SECONDS, BATCH, RATE, CLIP, LEVELS = 600.0, 64, 1e-3, 50.0, 256
PEERS: dict[str, Callable[[tuple[int, int, int]], Density]] = {
    "flowkit": of_flowkit.glow,
    "nflows": of_nflows.glow,
    "normflows": of_normflows.glow,
    "FrEIA": of_freia.glow,
}


def fashion(part: str) -> Tensor:
    """(N, 1, 28, 28) of "train" or "t10k", whole numbers below 256.

    Raises:
        SystemExit: they aren't there.
    """
    path = FOLDER / f"{part}-images-idx3-ubyte.gz"
    if not path.exists():
        raise SystemExit(f"expected {path}: apt-get install dataset-fashion-mnist")
    with gzip.open(path) as file:
        numbers = bytearray(file.read()[16:])
    return torch.frombuffer(numbers, dtype=torch.uint8).view(-1, 1, 28, 28)


def continuous(pictures: Tensor) -> Tensor:
    """Uniform in each level's interval, all of them on ±0.5."""
    return (pictures + torch.rand(pictures.shape)) / LEVELS - 0.5


def bits(density: Density, pictures: Tensor) -> Tensor:
    """Mean of the bits per dimension, a bound."""
    size = pictures[0].numel()
    return math.log2(LEVELS) - density.log_prob(continuous(pictures), None).mean() / (
        size * math.log(2)
    )


def measure(task: str, peer: str, seed: int, quick: bool) -> dict[str, Any]:
    train, test = fashion("train"), fashion("t10k")
    if quick:
        test = test[:8]
    torch.manual_seed(seed)
    density = PEERS[peer]((1, 28, 28))
    torch.manual_seed(seed)
    steps, seconds = fitted(density, train, 0.0 if quick else SECONDS)
    density.module.eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        value = torch.stack([len(x) * bits(density, x) for x in test.split(500)]).sum() / len(test)
    learned = sum(p.numel() for p in density.module.parameters() if p.requires_grad)
    if not value.isfinite():
        raise Diverged("the test pictures' density isn't finite")
    return {"value": value.item(), "steps": steps, "seconds": seconds, "parameters": learned}


def fitted(density: Density, pictures: Tensor, budget: float) -> tuple[int, float]:
    """Train for so many seconds of the processor; one step at least. The steps, and the seconds."""
    density.module.train()
    began = time.process_time()
    density.first(continuous(pictures[torch.randint(len(pictures), (BATCH,))]), None)
    learned = [p for p in density.module.parameters() if p.requires_grad]
    adam = torch.optim.Adam(learned, RATE)
    steps, skipped, taken = 0, 0, time.process_time() - began
    while not steps or taken < budget:
        began = time.process_time()
        batch = pictures[torch.randint(len(pictures), (BATCH,))]
        share = min(taken / budget, 1.0) if budget else 0.0
        adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * share)) / 2
        adam.zero_grad()
        loss = bits(density, batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(learned, CLIP)
        if loss.isfinite() and norm.isfinite():
            adam.step()
        else:
            skipped += 1
        if 10 * skipped > max(steps, 100):
            raise Diverged(f"{skipped} of {steps} steps weren't finite")
        steps, taken = steps + 1, taken + time.process_time() - began
    return steps, taken


PART = Part("pictures", {"Fashion-MNIST": list(PEERS)}, measure)
