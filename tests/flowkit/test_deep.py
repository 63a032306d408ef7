"""A deep flow trains for long and stays finite, and so do densities far out."""

from functools import partial

import pytest
import torch

from flowkit import MLP, ActNorm, Chain, Coupling, Flip, Flow, Permute, StandardNormal, initialize

DIM, DEPTH = 19, 32


def deep_flow():
    torch.manual_seed(0)
    net = partial(MLP, hidden=16, depth=1)
    layers = [ActNorm(DIM)]
    for number in range(DEPTH):
        layers += [
            Coupling(DIM, net),
            Flip() if number % 2 else Permute([*range(9, 19), *range(9)]),
        ]
    return Flow(Chain(*layers), StandardNormal(DIM))


def table(samples, generator):
    """A curved, skewed and correlated table with a heavy tail."""
    x = torch.randn(samples, DIM, generator=generator)
    x = x.cumsum(1)
    x[:, ::3] = x[:, ::3].exp().clamp(max=1e3)
    x[:, 1::3] += x[:, 2::3] ** 2 / 100
    return x


def stays_finite(steps):
    generator = torch.Generator().manual_seed(0)
    flow = deep_flow()
    initialize(flow, table(512, generator))
    adam = torch.optim.Adam(flow.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        loss = -flow.log_prob(table(64, generator)).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        adam.step()
        losses.append(loss.detach())
    losses = torch.stack(losses)
    assert losses.isfinite().all()
    assert all(p.isfinite().all() for p in flow.parameters())
    part = max(1, steps // 10)
    assert losses[-part:].mean() < losses[:part].mean()
    for far in (1e6, -1e6):
        z, logdet = flow.encode(torch.full((4, DIM), far))
        x, _ = flow.decode(torch.full((4, DIM), far))
        density = flow.log_prob(torch.full((4, DIM), far))
        assert all(value.isfinite().all() for value in (z, logdet, x, density))
    assert flow.sample(num_samples=1000).isfinite().all()


def test_19_dimensions_and_32_couplings_start_finite():
    stays_finite(40)


@pytest.mark.slow
def test_19_dimensions_and_32_couplings_stay_finite_for_10000_steps():
    stays_finite(10_000)
