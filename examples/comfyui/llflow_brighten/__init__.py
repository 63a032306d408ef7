"""A node for ComfyUI that makes dark pictures bright.

Copy this folder into ComfyUI/custom_nodes, and install flowkit into ComfyUI's Python. The node is
under image/llflow.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

import llflow


class Brighten:
    RETURN_TYPES: ClassVar = ("IMAGE",)
    FUNCTION = "brighten"
    CATEGORY = "image/llflow"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        stops = {"default": 0.0, "min": -3.0, "max": 3.0, "step": 0.1}
        share = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}
        return {
            "required": {
                "image": ("IMAGE",),
                "weights": ("STRING", {"default": "tiny"}),
                "brightness": ("FLOAT", stops),
                "strength": ("FLOAT", share),
            }
        }

    def brighten(
        self, image: Tensor, weights: str, brightness: float, strength: float
    ) -> tuple[Tensor]:
        """Dark pictures (B, H, W, 3) in [0, 1] -> bright ones, likewise; a fourth channel, as
        nodes for cut-outs have it, stays as it is."""
        model = llflow.load(weights).fold()
        bright = [
            llflow.enhance(model, dark, brightness=brightness, strength=strength)
            for dark in image[..., :3].clamp(0, 1).movedim(-1, 1)
        ]
        alpha = image[..., 3:]
        return (torch.cat([torch.stack(bright).movedim(1, -1).to(alpha.device), alpha], -1),)


NODE_CLASS_MAPPINGS = {"LLFlowBrighten": Brighten}
NODE_DISPLAY_NAME_MAPPINGS = {"LLFlowBrighten": "Brighten (LLFlow)"}
