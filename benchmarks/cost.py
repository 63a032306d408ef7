"""What does each size cost? Parameters, and multiply-adds of enhancing one picture of 400×600.

python benchmarks/cost.py
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from llflow import LLFlow
from llflow.network.model import SIZES

print("| size | parameters | encoder (G) | flow (G) | total (G) |\n|---|---|---|---|---|")
for name, config in SIZES.items():
    # On the meta device shapes are computed and nothing else.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = LLFlow(config)
        cond = model.condition(torch.zeros(1, 6, 400, 600))
        encoder = counter.get_total_flops() / 2e9
        model.flow.bijection.inverse(model.flow.base(cond).mean, cond)
    total = counter.get_total_flops() / 2e9
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"| {name} | {parameters:,} | {encoder:.1f} | {total - encoder:.1f} | {total:.1f} |")
