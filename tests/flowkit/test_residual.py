"""Residual: its net's bound, its inverse's error, its log-det exact and estimated."""

import math
from functools import partial

import pytest
import torch
from moved import moved
from torch.nn import functional as F

from flowkit import Chain, LipschitzNet, Residual, RussianRoulette
from flowkit.nets.conditioner import fold
from flowkit.nets.lipschitz import LipSwish
from flowkit.nets.spectral import largest_stretch

KINDS = {
    "vectors": ((4,), partial(LipschitzNet, hidden=16)),
    "deep": ((3,), partial(LipschitzNet, hidden=8, depth=4)),
    "sequences": ((2, 5), partial(LipschitzNet, hidden=8, axes=1)),
    "images": ((2, 3, 4), partial(LipschitzNet, hidden=8, axes=2)),
}


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def jacobians(function, x):
    each = (torch.autograd.functional.jacobian(lambda v: function(v[None])[0], row) for row in x)
    return torch.stack([slopes.reshape(x[0].numel(), x[0].numel()) for slopes in each])


@pytest.mark.parametrize("by", [0.3, 10.0])
@pytest.mark.parametrize("lipschitz", [0.5, 0.97])
@pytest.mark.parametrize("kind", KINDS)
def test_no_two_points_are_further_apart_than_the_bound(kind, lipschitz, by):
    shape, make = KINDS[kind]
    net = moved(make(shape[0], shape[0], lipschitz=lipschitz), by=by).double()
    x = normal(20, *shape)
    slopes = torch.linalg.matrix_norm(jacobians(net, x), ord=2)
    assert (slopes < lipschitz).all()
    # A bound that leaves nothing to the net would hold as well; nets of random weights, which don't
    # stretch the same direction one after the other, have from 0.3 % of it (images) to 11 %.
    assert slopes.max() > lipschitz / 1000


def test_a_linear_net_of_large_weights_reaches_the_bound():
    net = moved(LipschitzNet(3, 3, hidden=3, depth=1, lipschitz=0.9), by=5.0).double()
    for one in net.layers:
        stretch = torch.linalg.matrix_norm(one.weight(), ord=2)
        torch.testing.assert_close(stretch.item(), 0.9**0.5)


@pytest.mark.parametrize(("weight", "places"), [((8, 4, 3), (60,)), ((6, 6, 3, 3), (12, 14))])
def test_the_bound_of_a_convolution_is_sound_and_near(weight, places):
    weight = normal(*weight)
    convolve = F.conv1d if len(places) == 1 else F.conv2d
    one = torch.eye(weight.shape[1] * math.prod(places), dtype=weight.dtype)
    columns = convolve(one.reshape(-1, weight.shape[1], *places), weight, padding=1)
    stretch = torch.linalg.matrix_norm(columns.flatten(1), ord=2)
    # At this size, which borders make a little smaller than that of no borders, the sum over the
    # taps is 1.6 times it in 1-D and 2.6 times in 2-D.
    assert stretch < largest_stretch(weight) < 1.35 * stretch
    for size in (1e-30, 1e30):
        torch.testing.assert_close(largest_stretch(size * weight), size * largest_stretch(weight))


def test_the_bound_of_a_convolution_is_not_rounded_by_autocast():
    weight = normal(8, 8, 3, 3).float()
    expected = largest_stretch(weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = largest_stretch(weight)
    assert found.dtype == torch.float32
    assert found.equal(expected)


def test_the_bound_of_a_convolution_has_a_gradient():
    weight = normal(3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(largest_stretch, weight)
    nothing = torch.zeros(3, 2, 3, requires_grad=True)
    largest_stretch(nothing).backward()
    assert nothing.grad is not None
    assert nothing.grad.eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_is_as_good_as_its_tolerance(kind):
    shape, make = KINDS[kind]
    calls = []
    for tolerance, steps in ((1e-2, 44), (1e-6, 132)):
        layer = Residual(shape[0], make, lipschitz=0.9, tolerance=tolerance, cond_channels=2)
        layer = moved(layer, by=5.0).double()
        x, cond = normal(5, *shape), normal(5, 2, seed=1)
        with torch.no_grad():
            y, logdet = layer(x, cond)
            hook = layer.net.register_forward_hook(lambda *_: calls.append(1))
            back, logdet_back = layer.inverse(y, cond)
            hook.remove()
        # One call more is for the log-det.
        assert len(calls) == steps + 1
        calls.clear()
        away = (y - x).flatten(1).norm(dim=1)
        assert away.min() > 1e-2
        assert ((back - x).flatten(1).norm(dim=1) <= tolerance * away).all()
        torch.testing.assert_close(logdet_back, -logdet, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_det_is_that_of_the_jacobian(kind):
    shape, make = KINDS[kind]
    layer = moved(Residual(shape[0], make), by=1.0).double()
    x = normal(3, *shape)
    _, logdet = layer(x)
    expected = torch.linalg.slogdet(jacobians(lambda v: layer(v)[0], x))
    assert (expected.sign == 1).all()
    torch.testing.assert_close(logdet, expected.logabsdet)
    assert logdet.abs().min() > 1e-5


def estimated(estimator, lipschitz=0.9, by=3.0):
    """The exact layer, and one that estimates, of the same weights."""
    make = partial(Residual, 3, partial(LipschitzNet, hidden=8, depth=1), lipschitz=lipschitz)
    exact, random = moved(make(), by=by).double(), make(estimator=estimator).double()
    random.load_state_dict(exact.state_dict())
    return exact, random


@pytest.mark.parametrize("certain", [0, 2])
def test_estimates_have_the_right_mean_and_say_how_they_scatter(certain):
    torch.manual_seed(0)
    exact, random = estimated(RussianRoulette(probes=500, certain=certain, stop=0.15))
    x = normal(1, 3)
    with torch.no_grad():
        _, logdet = exact(x)
        # 64 directions share how many terms a probe has, so that probes are what is independent.
        estimates = random.estimates(x.expand(64, 3))
    assert estimates.shape == (64, 500)
    means = estimates.mean(0)
    error = means.std() / 500**0.5
    # Terms weighted by another probability would be off by 15 % and more.
    assert error < logdet.abs() / 30, (error, logdet)
    # Four standard errors: one of 16,000 right estimators fails, and the seed is fixed.
    assert (means.mean() - logdet).abs() < 4 * error


@pytest.mark.parametrize("raw", [-2.0, 0.5, 3.0])
def test_the_slope_of_lipswish_is_just_within_one(raw):
    layer = LipSwish(1).double()
    with torch.no_grad():
        layer.raw.fill_(raw)
    x = torch.linspace(-40, 40, 100_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x[:, None]).sum(), x)
    # Swish has slopes of up to 1.0998.
    assert 0.9998 < slope.max() < 1
    assert slope.min() > -0.1


def test_estimated_gradients_have_the_right_mean():
    torch.manual_seed(0)
    count = 1000
    exact, random = estimated(RussianRoulette(), by=1.0)
    x = normal(1, 3)
    parameters = [exact.net.layers[0].raw, random.net.layers[0].raw]
    (expected,) = torch.autograd.grad(exact(x)[1].sum(), parameters[0])
    draws = []
    for _ in range(count // 20):
        # Independent probes, one a sample; each gradient is the mean of 20.
        logdet = random(x.expand(20, 3))[1]
        draws.append(torch.autograd.grad(logdet.mean(), parameters[1])[0])
    draws = torch.stack(draws)
    error = draws.std(0) / len(draws) ** 0.5
    # 24 numbers, each within 4.5 standard errors but for one in 6,000 right estimators.
    assert ((draws.mean(0) - expected).abs() < 4.5 * error).all()
    assert (expected.abs() > 4.5 * error).any()


def test_an_estimating_layer_is_the_same_map_with_a_random_log_det():
    torch.manual_seed(0)
    exact, random = estimated(RussianRoulette(probes=2))
    x = normal(4, 3)
    (y, logdet), (expected, _) = random(x), exact(x)
    assert y.equal(expected)
    assert not random(x)[1].equal(logdet)
    with torch.no_grad():
        # As close as 132 steps of at most 0.9 come.
        torch.testing.assert_close(random.inverse(y)[0], x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_folded_the_net_knows_its_weights(kind):
    shape, make = KINDS[kind]
    net = moved(make(shape[0], shape[0], cond_channels=2), by=5.0).double()
    folded = fold(net)
    x, cond = normal(3, *shape), normal(3, 2, seed=1)
    torch.testing.assert_close(folded(x, cond), net(x, cond))
    assert all(one.weight() is one.raw for one in folded.layers)
    assert all(one.weight() is not one.raw for one in net.layers)


def test_a_chain_of_them_learns():
    """Eight modes on a ring, from a normal: the loss falls, and samples come back."""
    torch.manual_seed(0)
    angle = torch.randint(8, (256,)) * torch.pi / 4
    x = 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(256, 2)
    flow = Chain(*(Residual(2, partial(LipschitzNet, hidden=16)) for _ in range(4)))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        z, logdet = flow(x)
        loss = (z.square().sum(1) / 2 - logdet).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    with torch.no_grad():
        # Four inverses of tolerance 1e-6 each, in float32.
        torch.testing.assert_close(flow.inverse(flow(x)[0])[0], x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Residual(0), "Residual: expected channels >= 1, got 0"),
        (lambda: Residual(2, cond_channels=-1), "expected cond_channels >= 0, got -1"),
        (lambda: Residual(2, lipschitz=1.0), "lipschitz and tolerance between 0 and 1, got 1.0"),
        (lambda: Residual(2, tolerance=0.0), "between 0 and 1, got 0.9 and 0.0"),
        (
            lambda: Residual(2, estimator=RussianRoulette(stop=0.5)),
            r"stop < 1 - lipschitz² = 0.19, got stop=0.5",
        ),
        (lambda: Residual(2).estimates(torch.zeros(1, 2)), "expected an estimator, got none"),
        (lambda: Residual(2)(torch.zeros(1, 3)), r"\(B, 2, \*S\), got \(1, 3\)"),
        (lambda: Residual(2, cond_channels=3)(torch.zeros(1, 2)), "3 channels, got None"),
        (lambda: Residual(2, estimator=3), "a RussianRoulette, or None .*, got int"),
        (lambda: RussianRoulette(probes=0), "probes >= 1, got 0"),
        (lambda: RussianRoulette(certain=-1), "certain >= 0, got -1"),
        (lambda: RussianRoulette(probes=1.5), "probes as an integer, got float"),
        (lambda: RussianRoulette(stop=0.0), "0 < stop < 1, got 0.0"),
        (lambda: RussianRoulette(stop=1.0), "0 < stop < 1, got 1.0"),
        (lambda: LipschitzNet(2, 2, lipschitz=0.0), "lipschitz > 0, got 0.0"),
        (lambda: LipschitzNet(2, 2, depth=0), "depth >= 1, got 0"),
    ],
)
def test_they_refuse(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
