"""What training minimises."""

from __future__ import annotations

from torch import Tensor, nn

from llflow.model import LLFlow

LOSSES = ("nll", "l1", "nll+l1")


class Objective(nn.Module):
    """The loss of each sample, as the module that DistributedDataParallel wraps.

        "nll"     -log p(bright | low) in bits per pixel, eq. 7-9
        "l1"      λ·mean|x - bright| with x the picture at the prior's mean, eq. 1
        "nll+l1"  their sum

    Args:
        model: what is trained.
        loss: one of the three.
        l1_weight: λ, bits per pixel for an error of 1, the whole range.

    Wang et al., AAAI 2022; "The Effectiveness of Model Components and Training Paradigm" takes
    l1 through the inverse after some steps of NLL, since l1 alone doesn't converge.
    """

    def __init__(self, model: LLFlow, loss: str = "nll", l1_weight: float = 1.0) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"Objective: expected loss to be one of {LOSSES}, got {loss!r}")
        self.model = model
        self.loss = loss
        self.l1_weight = l1_weight

    def forward(
        self, bright: Tensor, low: Tensor, from_reference: Tensor | bool = False
    ) -> dict[str, Tensor]:
        """{"loss": (B,)} and its terms by name, "nll" and "l1" (unweighted), each (B,).

        Args:
            bright: (B, 3, H, W) in [0, 1].
            low: (B, 6, H, W) of the dark pictures.
            from_reference: see `LLFlow.nll`.
        """
        cond = self.model.condition(low)
        terms, loss = {}, bright.new_zeros(len(bright))
        if "nll" in self.loss:
            terms["nll"] = self.model.nll(bright, low, from_reference, cond)
            loss = loss + terms["nll"]
        if "l1" in self.loss:
            terms["l1"] = (self.model.typical(cond) - bright).abs().mean((1, 2, 3))
            loss = loss + self.l1_weight * terms["l1"]
        return {"loss": loss, **terms}
