"""Conditioner nets, one file each."""

from flowkit.nets.causal_transformer import CausalTransformer
from flowkit.nets.conditioner import Conditioner
from flowkit.nets.conv import ConvNet
from flowkit.nets.conv_attention import ConvAttentionNet
from flowkit.nets.densenet import DenseNet
from flowkit.nets.lipschitz import LipschitzNet
from flowkit.nets.masked import MADE
from flowkit.nets.masked_conv import MaskedConv
from flowkit.nets.mlp import MLP
from flowkit.nets.resnet import ResNet
from flowkit.nets.transformer import Transformer
from flowkit.nets.zero import ChannelNorm, ZeroConv

__all__ = [
    "MADE",
    "MLP",
    "CausalTransformer",
    "ChannelNorm",
    "Conditioner",
    "ConvAttentionNet",
    "ConvNet",
    "DenseNet",
    "LipschitzNet",
    "MaskedConv",
    "ResNet",
    "Transformer",
    "ZeroConv",
]
