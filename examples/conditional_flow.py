"""A conditional flow on images: 8x8 color pictures given a feature map, trained for a moment."""

from functools import partial

import torch

from flowkit import (
    ActNorm,
    AffineCoupling,
    At,
    Chain,
    ConvNet,
    Flow,
    InvConv1x1,
    Squeeze,
    image_normal,
    initialize,
)


def level(key, channels, steps=4):
    """Halve the resolution, then `steps` Glow steps that see cond[key]."""

    def step():
        net = partial(ConvNet, hidden=32)
        return (
            ActNorm(channels),
            InvConv1x1(channels),
            AffineCoupling(channels, net, cond_channels=3),
        )

    return Chain(Squeeze(), At(key, Chain(*(layer for _ in range(steps) for layer in step()))))


def base(cond):
    return image_normal(torch.zeros(len(cond["half"]), 48, 2, 2))


torch.manual_seed(0)
flow = Flow(Chain(level("half", 12), level("quarter", 48)), base)
dark = torch.rand(16, 3, 8, 8) / 4
bright = (3 * dark + 0.02 * torch.randn_like(dark)).clamp(0, 1)
cond = {"half": dark[..., ::2, ::2], "quarter": dark[..., ::4, ::4]}

initialize(flow, bright, cond)
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
for _ in range(20):
    loss = -flow.log_prob(bright, cond).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

print(f"{loss.item():.1f} nats")
print(flow.sample(cond, temperature=0.7, num_samples=4).shape)
