"""Bijections made of bijections, one file each."""

from flowkit.combine.at import At
from flowkit.combine.chain import Chain
from flowkit.combine.channels import OnChannels, split
from flowkit.combine.inverse import Inverse

__all__ = ["At", "Chain", "Inverse", "OnChannels", "split"]
