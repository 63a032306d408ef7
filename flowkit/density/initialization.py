"""Data-dependent initialisation: one pass of one batch."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flowkit.combine.parts import run
from flowkit.conditions import batch_of, tensors_of
from flowkit.contract import Bijection, Cond, require_channels
from flowkit.density.bound import LowerBound
from flowkit.density.flow import Flow


@runtime_checkable
class InitializedFromData(Protocol):
    """A module (layer or part of a net) that sets its parameters from its first input."""

    def initialize_from(self, x: Tensor) -> None: ...


@torch.no_grad()
def broadcast(module: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers; nothing without a process group."""
    if dist.is_available() and dist.is_initialized():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, src=0)


@torch.no_grad()
def initialize(flow: Flow | LowerBound | Bijection, batch: Tensor, cond: Cond = None) -> None:
    """Set every ActNorm, and every norm inside conditioner nets, from one batch of data.

    The batch passes through once, data -> noise, and each module with an `initialize_from` method
    sees its own input just before it is used, so later ones see what earlier ones normalise.
    Calling it again starts over. Under an initialised process group rank 0's parameters and buffers
    go to all ranks first (`broadcast`) and statistics are taken over the batches of all ranks, so
    every rank ends with the same weights. If a network makes the condition, `broadcast` it before.

    Args:
        flow: a `Flow` or another density, or a `Bijection`, not yet wrapped in
            DistributedDataParallel.
        batch: (B, C, *S) on the data side; a typical training batch.
        cond: the condition of that batch.

    Raises:
        TypeError: `flow` is something else.
        ValueError: the batch is empty, or it, the condition or what becomes of them holds values
            that aren't finite; no layer reads the condition; or the pass calls a module that wants
            its input twice or not at all, such as an ActNorm inside `Inverse`, which runs backwards
            there. Modules before it have been set by then.
    """
    if isinstance(flow, LowerBound):
        for inner, its_batch, its_cond in flow.inputs(batch, cond):
            initialize(inner, its_batch, its_cond)  # pyright: ignore[reportArgumentType]
        return
    bijection = flow.bijection if isinstance(flow, Flow) else flow
    if not isinstance(bijection, Bijection):
        raise TypeError(
            f"initialize: expected a Flow or a Bijection, got {type(flow).__name__} "
            "(call it before wrapping the flow)"
        )
    require_channels("initialize", batch)
    if batch.numel() == 0:
        raise ValueError(f"initialize: expected samples, got a batch of shape {tuple(batch.shape)}")
    for name, tensor in (("batch", batch), *tensors_of(cond)):
        if not tensor.isfinite().all():
            raise ValueError(f"initialize: expected a finite {name}, got NaN or infinity")
    if cond is not None:
        batch_of("initialize", cond)
        if not flow.conditional:
            raise ValueError(
                "initialize: expected no condition, since nothing in this flow reads one "
                "(cond_channels= makes a layer conditional)"
            )
    broadcast(flow)
    names = {m: n for n, m in bijection.named_modules() if hasattr(m, "initialize_from")}
    called: set[nn.Module] = set()

    def initialize_from_input(module: nn.Module, args: tuple) -> None:
        if module in called:
            raise ValueError(f"initialize: expected one pass through {names[module]}, got a second")
        if not args[0].isfinite().all():
            raise ValueError(
                f"initialize: expected finite values to reach {names[module]}, got NaN or infinity"
            )
        assert isinstance(module, InitializedFromData)
        module.initialize_from(args[0])
        called.add(module)

    hooks = [module.register_forward_pre_hook(initialize_from_input) for module in names]
    try:
        run(bijection, batch, cond)
    finally:
        for hook in hooks:
            hook.remove()
    if missed := [name for module, name in names.items() if module not in called]:
        raise ValueError(
            f"initialize: expected the batch to pass through every norm, got none through {missed}"
        )
