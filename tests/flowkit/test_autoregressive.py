"""Autoregressive and MADE: what may see what, and nflows' MAF."""

from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import (
    MADE,
    Additive,
    Affine,
    Autoregressive,
    Chain,
    Flow,
    Inverse,
    RationalQuadraticSpline,
    StandardNormal,
)

NET = partial(MADE, hidden=16)
HOWS = [Affine(), Additive(), RationalQuadraticSpline(4)]


def jacobian(function, x):
    return torch.autograd.functional.jacobian(lambda v: function(v[None])[0], x)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("hidden", [1, 3, 16])
def test_made_sees_what_comes_before(channels, depth, hidden):
    net = moved(MADE(channels, 3, hidden=hidden, depth=depth), by=1.0).double()
    x = torch.randn(channels, dtype=torch.float64)
    slopes = jacobian(net, x).reshape(3, channels, channels)
    allowed = torch.ones(channels, channels, dtype=torch.bool).tril(-1)
    assert not slopes[:, ~allowed].any()
    if hidden >= channels:
        assert slopes[:, allowed].ne(0).all()


def test_every_output_of_made_sees_the_condition():
    net = moved(MADE(3, 2, cond_channels=2, hidden=8)).double()
    x = torch.randn(1, 3, dtype=torch.float64)
    slopes = jacobian(lambda c: net(x, c), torch.randn(2, dtype=torch.float64))
    assert slopes.shape == (6, 2)
    assert slopes.all()


@pytest.mark.parametrize("how", HOWS)
def test_the_jacobian_is_triangular_and_its_diagonal_the_log_det(how):
    layer = moved(Autoregressive(4, NET, how)).double()
    x = torch.randn(4, dtype=torch.float64)
    slopes = jacobian(lambda v: layer(v)[0], x)
    assert not slopes.triu(1).any()
    assert slopes.tril(-1).any()
    _, logdet = layer(x[None])
    torch.testing.assert_close(logdet[0], slopes.diagonal().log().sum())


@pytest.mark.parametrize("cond_channels", [0, 2])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_round_trip_both_ways(channels, how, cond_channels):
    layer = moved(Autoregressive(channels, NET, how, cond_channels=cond_channels)).double()
    x = 2 * torch.randn(3, channels, dtype=torch.float64)
    cond = torch.randn(3, cond_channels, dtype=torch.float64) if cond_channels else None
    for one, other in ((layer, layer.inverse), (layer.inverse, layer)):
        y, logdet = one(x, cond)
        back, logdet_back = other(y, cond)
        torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(logdet_back, -logdet, rtol=1e-9, atol=1e-9)


def test_one_pass_of_the_net_forward_and_one_for_each_element_back():
    calls = []
    layer = Autoregressive(4, NET)
    layer.net.register_forward_hook(lambda *_: calls.append(1))
    layer(torch.randn(2, 4))
    assert len(calls) == 1
    layer.inverse(torch.randn(2, 4))
    assert len(calls) == 5
    Inverse(layer).inverse(torch.randn(2, 4))
    assert len(calls) == 6


def test_an_element_that_is_not_determined_yet_cannot_spoil_the_others():
    layer = moved(Autoregressive(3, NET)).double()
    y = torch.tensor([[0.1, 1e300, -1e300]], dtype=torch.float64)
    x, _ = layer.inverse(y)
    alone, _ = layer.inverse(torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64))
    assert x[0, 0] == alone[0, 0]


def test_density_is_nflows_density():
    """The same masked weights in nflows' MAF, whose forward is data -> noise as here."""
    autoregressive = pytest.importorskip("nflows.transforms.autoregressive")
    theirs = autoregressive.MaskedAffineAutoregressiveTransform(
        features=3, hidden_features=8, num_blocks=1, use_residual_blocks=False
    ).double()
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)

    class TheirNet(nn.Module):
        """Their numbers in our order: y = x·s + t there, (x + t)·s here."""

        def forward(self, x):
            raw, shift = theirs._unconstrained_scale_and_shift(theirs.autoregressive_net(x))
            scale = torch.nn.functional.softplus(raw) + theirs._epsilon
            return torch.cat([shift / scale, scale.log()], dim=1)

    def plain(raw):
        return raw.exp(), raw

    ours = Autoregressive(3, lambda *_: TheirNet(), Affine(plain)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    for one, other in ((ours, theirs), (ours.inverse, theirs.inverse)):
        value, logdet = one(x)
        expected, expected_logdet = other(x)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(logdet, expected_logdet, rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one():
    layers = Autoregressive(2, NET, RationalQuadraticSpline(4, 3.0)), Autoregressive(2, NET)
    flow = Flow(moved(Chain(*layers)), StandardNormal(2)).double()
    line = torch.linspace(-14, 14, 801, dtype=torch.float64)
    log_prob = flow.log_prob(torch.cartesian_prod(line, line))
    mass = log_prob.exp().sum() * (line[1] - line[0]) ** 2
    # The spline's slope has kinks, where the rule's error is some step² = 1e-3 of a kink's share.
    torch.testing.assert_close(mass.item(), 1.0, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Autoregressive(3)(torch.zeros(2, 3, 4)), r"\(B, 3\), got \(2, 3, 4\)"),
        (lambda: Autoregressive(3)(torch.zeros(2, 4)), r"\(B, 3, \*S\), got \(2, 4\)"),
        (lambda: Autoregressive(3).inverse(torch.zeros(2, 4)), r"\(B, 3\), got \(2, 4\)"),
        (lambda: Autoregressive(3).shape((3, 4)), r"samples of shape \(3\), got \(3, 4\)"),
        (lambda: Autoregressive(3, cond_channels=2)(torch.zeros(2, 3)), "2 channels, got None"),
        (lambda: Autoregressive(0), "channels >= 1, got 0"),
        (lambda: MADE(3, 2, depth=0), "depth >= 1, got 0"),
        (
            lambda: Autoregressive(3, lambda c, count: nn.Linear(c, 5))(torch.zeros(2, 3)),
            r"2 numbers for each of 3 channels from the net, shape \(2, 6\), got \(2, 5\)",
        ),
    ],
)
def test_it_refuses(call, message):
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        call()
