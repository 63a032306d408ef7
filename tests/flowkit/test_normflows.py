"""normflows (Stimper et al., 2023, JOSS 8(86)) as an oracle that knows nothing of this package.

Its `forward` is noise -> data, so its `inverse` is our `forward`. Its conventions differ where a
comment says so.
"""

from functools import partial

import pytest
import torch
from torch import nn

from flowkit import (
    ActNorm,
    Affine,
    Chain,
    ConvNet,
    Coupling,
    Example,
    ExpScale,
    InvertibleLinear,
    Permute,
    SigmoidScale,
    Squeeze,
)
from flowkit.testing import randomized

flows = pytest.importorskip("normflows.flows")


def image(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_same_map(ours, theirs, x):
    """Values and log-dets agree on x, both ways, to float64 rounding through a few layers."""
    close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-11, check_dtype=False)
    y, logdet = ours(x)
    their_y, their_logdet = theirs.inverse(x)
    close(y, their_y)
    # A log-det that is the same for all samples comes as one number, or as the integer 0.
    close(logdet, torch.as_tensor(their_logdet).to(logdet).expand_as(logdet))

    other = image(*y.shape, seed=1)
    back, logdet = ours.inverse(other)
    their_back, their_logdet = theirs(other)
    close(back, their_back)
    close(logdet, torch.as_tensor(their_logdet).to(logdet).expand_as(logdet))


def actnorm_pair(channels):
    """(x + b)·exp(s) is (x - t)·exp(-s') with t = -b and s' = -s."""
    ours = randomized(Example(lambda: ActNorm(channels), ()), seed=0, dtype=torch.float64)
    theirs = flows.ActNorm((channels, 1, 1)).double()
    theirs.s.data = -ours.log_scale.detach()[None, :, None, None]
    theirs.t.data = -ours.bias.detach()[None, :, None, None]
    theirs.data_dep_init_done.fill_(1.0)
    return ours, theirs


def linear_pair(channels):
    ours = randomized(Example(lambda: InvertibleLinear(channels), ()), seed=1, dtype=torch.float64)
    theirs = flows.Invertible1x1Conv(channels).double()
    theirs.W.data = ours.weight.entries.detach().clone()
    return ours, theirs


class Interleaved(nn.Module):
    """Our net for their coupling: they take shift and scale from even and odd channels, and apply
    x₂·s + t where we apply (x₂ + t)·s."""

    def __init__(self, net, scale_of):
        super().__init__()
        self.net = net
        self.scale_of = scale_of

    def forward(self, kept):
        shift, raw = self.net(kept).chunk(2, dim=1)
        return torch.stack([-shift, self.scale_of(raw)], dim=2).flatten(1, 2)


def coupling_pair(channels, kind):
    net = partial(ConvNet, hidden=6)
    if kind == "sigmoid":
        # They have no floor; 1e-30 is none in float64. Their data -> noise multiplies by sigmoid.
        scale, scale_of = SigmoidScale(offset=2.0, floor=1e-30), lambda raw: raw
    else:
        # Their data -> noise multiplies by exp(-output), ours by exp(bound·tanh(raw / bound)).
        scale = ExpScale(1.5)
        scale_of = lambda raw: -1.5 * torch.tanh(raw / 1.5)  # noqa: E731
    build = lambda: Coupling(channels, net, Affine(scale))  # noqa: E731
    ours = randomized(Example(build, ()), seed=2, dtype=torch.float64)
    theirs = flows.AffineCouplingBlock(Interleaved(ours.net, scale_of), scale_map=kind)
    return ours, theirs


def test_actnorm():
    assert_same_map(*actnorm_pair(3), image(2, 3, 4, 5))


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_linear(channels):
    assert_same_map(*linear_pair(channels), image(2, channels, 4, 5))


@pytest.mark.filterwarnings("ignore:torch.lu is deprecated")
def test_linear_parametrised_by_lu():
    theirs = flows.Invertible1x1Conv(5, use_lu=True).double()
    nn.init.normal_(theirs.log_S)
    ours = InvertibleLinear(5).double()
    ours.weight.entries.data = theirs._assemble_W().detach()
    assert_same_map(ours, theirs, image(2, 5, 3, 2))


def test_squeeze():
    assert_same_map(Squeeze(), flows.Squeeze(), image(2, 3, 4, 6))


def test_permute():
    theirs = flows.Permute(5)
    assert_same_map(Permute(theirs.inv_perm.tolist()), theirs, image(2, 5, 2, 2))


@pytest.mark.parametrize("kind", ["sigmoid", "exp"])
def test_coupling(kind):
    assert_same_map(*coupling_pair(4, kind), image(2, 4, 3, 5))


def test_a_glow_level():
    """Squeeze and two Glow steps, layer by layer the same, and the same as a whole."""
    pairs = [(Squeeze(), flows.Squeeze())]
    for _ in range(2):
        pairs += [actnorm_pair(12), linear_pair(12), coupling_pair(12, "sigmoid")]
    ours = Chain(*(pair[0] for pair in pairs))

    class Theirs:
        def inverse(self, x):
            total = 0
            for _, layer in pairs:
                x, logdet = layer.inverse(x)
                total = total + logdet
            return x, total

        def __call__(self, y):
            total = 0
            for _, layer in reversed(pairs):
                y, logdet = layer(y)
                total = total + logdet
            return y, total

    assert_same_map(ours, Theirs(), image(2, 3, 4, 4))
