"""The first weights of a run, set from its first batch."""

from __future__ import annotations

import torch
from torch import Tensor

from flowkit import ConvNet, broadcast, initialize
from llflow.network.model import LLFlow
from llflow.training.objective import conditions

LARGEST = 1.0  # log scale of a net's norm


@torch.no_grad()
def initialize_from(model: LLFlow, batch: dict[str, Tensor]) -> None:
    """Set every ActNorm and every norm of the conditioner nets from one batch, in all processes
    alike, see `flowkit.initialize`.

    Of a network with an illumination branch the nets' norms keep log scales of 1 at most: the
    conditions of its untrained encoder vary little, so that norms would multiply by e³, and every
    later step of the weights before them, too. What is more goes into these weights, and the nets
    compute the same.
    """
    if model.illumination is None:
        model.initialize(batch["bright"], batch["low"])
        return
    broadcast(model)
    cond = conditions(model, batch["low"], batch["illumination"], batch["log_exposure"])
    initialize(model.flow, batch.get("noisy", batch["bright"]), cond)
    for net in model.flow.modules():
        if isinstance(net, ConvNet):
            temper(net)


@torch.no_grad()
def temper(net: ConvNet) -> None:
    """Move what the log scales of a net's norms have above 1 into the convolutions before them."""
    convolutions = {net.first_norm: (net.first, net.first_cond), net.second_norm: (net.second,)}
    for norm, before in convolutions.items():
        excess = (norm.log_scale - LARGEST).clamp(min=0)
        norm.log_scale.sub_(excess)
        norm.bias.mul_(excess.exp())
        for convolution in before:
            if convolution is not None:
                convolution.weight.mul_(excess.exp().reshape(-1, 1, 1, 1))
