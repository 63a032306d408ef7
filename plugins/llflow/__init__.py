"""llflow: low-light photographs made bright by a conditional normalizing flow."""

from llflow.enhancement import draw, enhance
from llflow.network.checkpoint import load
from llflow.network.model import LARGE, SMALL, TINY, Config, LLFlow

__all__ = ["LARGE", "SMALL", "TINY", "Config", "LLFlow", "draw", "enhance", "load"]
