"""Guidance: samples that follow their condition more closely than the data do."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from flowkit.conditions import batch_of, mapped, tensors_of
from flowkit.contract import Cond, HoldsCondition, frozen, require_real
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.transformer import Transformer

Module = TypeVar("Module", bound=nn.Module)


def guided(module: Module, weight: float) -> Module:
    """A frozen copy whose transformers answer (1 + w)·net(x, cond) - w·net(x, 0): what a condition
    changes counts 1 + w times.

    It is a flow like any other, both ways, of another density. Train with `dropped` conditions, so
    that the nets know what to say without one.

    Args:
        module: a flow or a bijection with conditional `Transformer`s inside.
        weight: w; 0 changes nothing, 1 is much.

    Raises:
        TypeError: the module is none, such as a flow whose condition is given; or w is no number.
        ValueError: there is no conditional transformer inside, or one with a `forward` of its own,
            the condition is bound already, or w isn't a finite number.

    Ho & Salimans, Classifier-free diffusion guidance, 2022, arXiv:2207.12598; for flows, Zhai et
    al., TarFlow, 2024, arXiv:2412.06329, §2.5.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"guided: expected a flow or a bijection, got {type(module).__name__} (guided first, "
            "then given)"
        )
    require_real("guided", weight=weight)
    if not math.isfinite(weight):
        raise ValueError(f"guided: expected a finite weight, got {weight}")
    if any(isinstance(part, HoldsCondition) for part in module.modules()):
        raise ValueError("guided: expected a flow whose condition isn't given yet: guided first")
    copy = frozen(module)
    nets = [m for m in copy.modules() if isinstance(m, Transformer) and m.cond_channels]
    if not nets:
        raise ValueError(
            "guided: expected a Transformer with cond_channels inside, got "
            f"{type(module).__name__} without"
        )
    for net in nets:
        if type(net).forward is not Conditioner.forward:
            raise ValueError(
                f"guided: expected Transformers that answer by respond, got {type(net).__name__} "
                "with a forward of its own, which would pass by it"
            )
        net.guidance = float(weight)
    return copy


def dropped(cond: Cond, share: float = 0.1) -> Cond:
    """The condition, but all zeros for a random `share` of the samples, the same in all entries.

    Args:
        cond: a tensor (B, ...) or a mapping of such.
        share: of samples that lose theirs, in [0, 1].

    Raises:
        TypeError: cond is no condition.
        ValueError: the share is none, or the entries are for different numbers of samples.
    """
    require_real("dropped", share=share)
    if not 0 <= share <= 1:
        raise ValueError(f"dropped: expected a share in [0, 1], got {share}")
    if cond is None:
        return None
    batch = batch_of("dropped", cond)
    device = next(entry.device for _, entry in tensors_of(cond))
    stays = torch.rand(batch, device=device) >= share

    def change(entry: Tensor) -> Tensor:
        # Not a product, which keeps what isn't finite.
        return entry.where(stays.to(entry.device).reshape(-1, *[1] * (entry.dim() - 1)), 0)

    return mapped(cond, change)
