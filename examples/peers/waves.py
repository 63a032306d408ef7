"""Sequences given a number: waves of any phase at the frequency asked for, in flowkit and FrEIA.

python waves.py --out waves.png
"""

import math
from functools import partial

import FrEIA.framework
import FrEIA.modules
import torch
from comparison import Trained, compare
from torch import nn

import flowkit
from flowkit import ActNorm, Chain, ConvNet, Coupling, Flow, Permute, Squeeze


def waves(count):
    frequency, phase = 1 + 3 * torch.rand(count, 1), torch.rand(count, 1) * 2 * math.pi
    x = (2 * math.pi * frequency * torch.arange(64) / 64 + phase).sin()
    return (x + 0.05 * torch.randn_like(x))[:, None], frequency


def of_flowkit():
    def net(c_in, c_out):
        return ConvNet(c_in, c_out, hidden=32, axes=1)

    def step():
        return ActNorm(8), Permute(torch.randperm(8).tolist()), Coupling(8, net, cond_channels=1)

    flow = Flow(Chain(Squeeze(8), *(layer for _ in range(6) for layer in step())))

    def sample(count):
        return flow.sample(torch.full((count, 1), 2.0), shape=(1, 64))

    return Trained(flow, flow.log_prob, sample, partial(flowkit.initialize, flow))


def of_freia():
    def net(c_in, c_out):
        first, last = nn.Conv1d(c_in, 32, 3, padding=1), nn.Conv1d(32, c_out, 3, padding=1)
        return nn.Sequential(first, nn.SiLU(), nn.Conv1d(32, 32, 1), nn.SiLU(), last)

    flow = FrEIA.framework.SequenceINN(8, 8)
    for _ in range(6):
        block = FrEIA.modules.AllInOneBlock
        flow.append(block, cond=0, cond_shape=(1, 8), subnet_constructor=net)

    def log_prob(x, frequency):
        x, cond = x.unflatten(2, (8, 8)).squeeze(1).mT, frequency[:, :, None].expand(-1, 1, 8)
        z, logdet = flow(x, c=[cond], jac=True)
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((1, 2)) + logdet

    def sample(count):
        x, _ = flow(torch.randn(count, 8, 8), c=[torch.full((count, 1, 8), 2.0)], rev=True)
        return x.mT.reshape(count, 1, 64)

    return Trained(flow, log_prob, sample)


BUILDS = {"flowkit": of_flowkit, "FrEIA": of_freia}


def show(axis, x):
    axis.plot(x[:3, 0].T)


if __name__ == "__main__":
    compare(__doc__, BUILDS, waves, show, steps=400, batch=64, rate=3e-3)
