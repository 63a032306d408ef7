"""Which parameters learn how fast."""

from __future__ import annotations

from typing import Any

from torch import nn

from flowkit import ActNorm, InvertibleLinear
from llflow.network.model import LLFlow
from llflow.training.recipe import Recipe


def parameter_groups(model: LLFlow, recipe: Recipe) -> list[dict[str, Any]]:
    """The optimiser's groups: encoder and illumination, then the flow's nets, then its scales
    (ActNorms, mixings, and the log scales within nets), each with its "share" of the learning rate.

    A step of Adam changes every number by about the learning rate. A log scale multiplies all that
    comes after it, in both directions of the flow, so it takes smaller ones.
    """
    scales = {
        parameter
        for module in model.flow.modules()
        if isinstance(module, ActNorm | InvertibleLinear)
        for parameter in module.parameters()
    }
    named = model.flow.named_parameters()
    scales |= {parameter for name, parameter in named if name.endswith("log_scale")}
    nets = {parameter for parameter in model.flow.parameters() if parameter not in scales}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        share = 1.0
        if parameter in nets:
            share = recipe.nets_rate
        elif parameter in scales:
            share = recipe.scales_rate
        groups.setdefault(share, []).append(parameter)
    return [{"params": group, "share": share} for share, group in groups.items()]
