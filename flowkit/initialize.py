"""Data-dependent initialisation: one pass of one batch."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flowkit.bijection import Bijection, Cond
from flowkit.flow import Flow


@runtime_checkable
class InitializedFromData(Protocol):
    """A module (layer or part of a net) that sets its parameters from its first input."""

    def initialize_from(self, x: Tensor) -> None: ...


@torch.no_grad()
def initialize(flow: Flow | Bijection, batch: Tensor, cond: Cond = None) -> None:
    """Set every ActNorm, and every norm inside conditioner nets, from one batch of data.

    The batch passes through once, data -> noise, and each module with an `initialize_from` method
    sees its own input just before it is used, so later ones see what earlier ones normalise.
    Calling it again starts over. Under an initialised process group rank 0's parameters and buffers
    go to all ranks first and statistics are taken over the batches of all ranks, so every rank ends
    with the same weights. Call it before wrapping in DistributedDataParallel.

    Args:
        flow: a `Flow` or a `Bijection`.
        batch: (B, C, H, W) on the data side; a typical training batch.
        cond: the condition of that batch.

    Raises:
        ValueError: the pass doesn't call a module that wants its input, such as an ActNorm inside
            `Inverse`, which runs backwards there.
    """
    bijection = flow.bijection if isinstance(flow, Flow) else flow
    if dist.is_available() and dist.is_initialized():
        for tensor in (*flow.parameters(), *flow.buffers()):
            dist.broadcast(tensor.data, src=0)
    wanting = [
        named for named in bijection.named_modules() if isinstance(named[1], InitializedFromData)
    ]

    called: set[nn.Module] = set()

    def initialize_from_input(module: nn.Module, args: tuple) -> None:
        assert isinstance(module, InitializedFromData)
        module.initialize_from(args[0])
        called.add(module)

    hooks = [m.register_forward_pre_hook(initialize_from_input) for _, m in wanting]
    try:
        bijection(batch, bijection.prepare(cond))
    finally:
        for hook in hooks:
            hook.remove()
    if missed := [name for name, module in wanting if module not in called]:
        raise ValueError(
            f"initialize: expected the batch to pass through every norm, got none through {missed}"
        )
