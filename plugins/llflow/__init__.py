"""llflow: low-light photographs made bright by a conditional normalizing flow."""

from llflow.checkpoint import load
from llflow.enhance import draw, enhance
from llflow.model import LARGE, SMALL, TINY, Config, LLFlow

__all__ = ["LARGE", "SMALL", "TINY", "Config", "LLFlow", "draw", "enhance", "load"]
