"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llflow.network.model import LLFlow

LOSSES = ("nll", "l1", "nll+l1")


class Objective(nn.Module):
    """The loss of each sample, as the module that DistributedDataParallel wraps and that may be
    compiled.

        "nll"     -log p(bright | low) in bits per pixel, eq. 7-9
        "l1"      λ·mean|x - bright| with x the picture at the prior's mean, eq. 1
        "nll+l1"  their sum

    Args:
        model: what is trained.
        l1_weight: λ, bits per pixel for an error of 1, the whole range.

    Wang et al., AAAI 2022; "The Effectiveness of Model Components and Training Paradigm" takes
    l1 through the inverse after some steps of NLL, since l1 alone doesn't converge.
    """

    def __init__(self, model: LLFlow, l1_weight: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.l1_weight = l1_weight

    def forward(
        self, loss: str, bright: Tensor, low: Tensor, from_reference: Tensor | bool = False
    ) -> dict[str, Tensor]:
        """{"loss": (B,)} and its terms by name, "nll" and "l1" (unweighted), each (B,).

        Args:
            loss: one of the three.
            bright: (B, 3, H, W) in [0, 1].
            low: (B, 6, H, W) of the dark pictures.
            from_reference: see `LLFlow.nll`.
        """
        if loss not in LOSSES:
            raise ValueError(f"Objective: expected loss among {', '.join(LOSSES)}, got {loss!r}")
        cond = self.model.condition(low)
        terms: dict[str, Tensor] = {}
        if "nll" in loss:
            terms["nll"] = self.model.nll(bright, low, from_reference, cond)
        if "l1" in loss:
            terms["l1"] = (self.model.typical(cond) - bright).abs().mean((1, 2, 3))
        weights = {"nll": 1.0, "l1": self.l1_weight}
        weighted = torch.stack([weights[name] * term for name, term in terms.items()])
        return {"loss": weighted.sum(0), **terms}
