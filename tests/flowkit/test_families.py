"""Coupling and Injector: any map, any net, any number of places."""

from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import MLP, Additive, Affine, ConvNet, Coupling, Injector, RationalQuadraticSpline

HOWS = [Affine(), Additive(), RationalQuadraticSpline(4)]
# float64's 1e-16 times a spline's slope, which may be 1e3 both ways within one bin.
TOLERANCE = 1e-6
PLACES = {
    "vectors": ((), partial(MLP, hidden=6)),
    "sequences": ((5,), partial(ConvNet, hidden=4, axes=1)),
    "images": ((3, 4), partial(ConvNet, hidden=4)),
    "volumes": ((2, 3, 2), partial(ConvNet, hidden=4, axes=3)),
}


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("kept", [1, 2])
def test_coupling_keeps_some_and_maps_the_rest(kept, kind, how):
    places, net = PLACES[kind]
    layer = moved(Coupling(3, net, how, kept=kept, cond_channels=2), by=0.5).double()
    x, cond = normal(2, 3, *places), normal(2, 2, *places, seed=1)
    y, logdet = layer(x, cond)
    params = layer.net(x[:, :kept], cond).unflatten(1, (how.count, 3 - kept))
    expected, log_slope = how.forward(x[:, kept:], params)
    assert y[:, :kept].equal(x[:, :kept])
    torch.testing.assert_close(y[:, kept:], expected)
    torch.testing.assert_close(logdet, log_slope.flatten(1).sum(1))
    back, logdet_back = layer.inverse(y, cond)
    torch.testing.assert_close(back, x, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(logdet_back, -logdet, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", PLACES)
def test_injector_maps_all_by_the_condition_alone(kind, how):
    places, net = PLACES[kind]
    layer = moved(Injector(3, net, how, cond_channels=2), by=0.5).double()
    x, cond = normal(2, 3, *places), normal(2, 2, *places, seed=1)
    y, logdet = layer(x, cond)
    expected, log_slope = how.forward(x, layer.net(cond).unflatten(1, (how.count, 3)))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(logdet, log_slope.flatten(1).sum(1))
    for one in (layer.inverse(y, cond), layer.given(cond).inverse(y)):
        torch.testing.assert_close(one[0], x, rtol=TOLERANCE, atol=TOLERANCE)
        torch.testing.assert_close(one[1], -logdet, rtol=TOLERANCE, atol=TOLERANCE)


def test_half_of_the_channels_are_kept_unless_said():
    assert Coupling(5, MLP).kept == 2
    assert Coupling(5, MLP, kept=4).kept == 4


def test_a_vector_injects_at_every_place():
    layer = moved(Injector(3, partial(MLP, hidden=6), cond_channels=2), by=0.5).double()
    x, cond = normal(2, 3, 4, 5), normal(2, 2, seed=1)
    y, logdet = layer(x, cond)
    places = [layer(x[:, :, i, j], cond) for i in range(4) for j in range(5)]
    torch.testing.assert_close(y.flatten(2), torch.stack([p[0] for p in places], dim=2))
    torch.testing.assert_close(logdet, sum(p[1] for p in places))


@pytest.mark.parametrize("net", [ConvNet, lambda a, b: nn.Conv2d(a, b, 3, padding=1)])
def test_nets_of_ones_own_see_the_condition_beside(net):
    layer = moved(Coupling(4, net, cond_channels=3), by=0.5).double()
    x, cond = normal(2, 4, 5, 5), normal(2, 3, 5, 5, seed=1)
    assert not layer(x, cond)[0].equal(layer(x, cond + 1)[0])
    torch.testing.assert_close(layer.given(cond)(x), layer(x, cond))


@pytest.mark.parametrize("family", [Coupling, Injector])
def test_a_subclass_stays_one(family):
    class Own(family):
        def params(self, x, cond):
            return super().params(x, cond) + 1

    layer = moved(Own(4, ConvNet, cond_channels=2), by=0.5).double()
    x, cond = normal(2, 4, 3, 3), normal(2, 2, 3, 3, seed=1)
    assert type(layer.fold()) is Own
    torch.testing.assert_close(layer.fold()(x, cond), layer(x, cond))
    torch.testing.assert_close(layer.given(cond)(x), layer(x, cond))
