"""Flows of nflows, normflows and zuko with their weights copied into flowkit's layers: the same
log-density.

Where numbers from a net mean something else there, `translated` says what: they apply x·s + t where
`Affine` applies (x + t)·s, and their splines start from other raw numbers.
"""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from moved import moved
from torch import nn
from torch.nn import functional as F

from flowkit import (
    MADE,
    MLP,
    Affine,
    Autoregressive,
    Chain,
    Coupling,
    Flip,
    Flow,
    Inverse,
    Permute,
    RationalQuadraticSpline,
    SigmoidScale,
    StandardNormal,
)

BINS, BOUND, LEAST = 5, 3.0, 1e-3
SPLINE = RationalQuadraticSpline(BINS, BOUND, LEAST)
ONE = math.log(math.expm1(1 - LEAST))
"""What our spline adds to the raw number of a slope, so that 0 is a slope of 1."""


class Translated(nn.Module):
    """A net whose numbers mean something else, in ours: raw (B, count, n) -> (B, count, n)."""

    def __init__(self, net, count, translate, seen):
        super().__init__()
        self.net, self.count, self.translate, self.seen = net, count, translate, seen

    def forward(self, x):
        x, cond = x[:, : self.seen], x[:, self.seen :]
        raw = self.net(x, cond) if cond.shape[1] else self.net(x)
        return self.translate(raw.unflatten(1, (self.count, -1))).flatten(1)


def translated(net, count, translate):
    """A factory, as the families want one, of a net that exists."""
    return lambda *_, **__: Translated(net, count, translate, net.first.in_features)


def scale_behind(scale):
    """(t, raw) for x·s + t as those for (x + t')·s: t' = t/s."""
    return lambda raw: torch.stack([raw[:, 0] / scale(raw[:, 1])[0], raw[:, 1]], 1)


def softplus_scale(raw):
    """nflows' scale of autoregressive maps."""
    scale = F.softplus(raw) + 1e-3
    return scale, scale.log()


def soft_clipped_scale(raw):
    """zuko's scale."""
    log_scale = soft_clipped(raw, 1)
    return log_scale.exp(), log_scale


def soft_clipped(raw, times):
    return raw / (1 + (times * raw / math.log(1e-3)).abs())


def slopes_from_one(raw):
    """nflows' and normflows' raw numbers of a spline as ours."""
    return torch.cat([raw[:, : 2 * BINS], raw[:, 2 * BINS :] - ONE], 1)


def zuko_spline(raw):
    """zuko's: bins as a softmax of clipped numbers without a least size, slopes as exponentials of
    clipped numbers."""
    widths, heights, slopes = raw.split([BINS, BINS, BINS - 1], dim=1)
    sizes = [soft_clipped(part, 2).softmax(1) for part in (widths, heights)]
    # Ours are LEAST + (1 - BINS·LEAST)·softmax(raw).
    sizes = [((size - LEAST) / (1 - BINS * LEAST)).log() for size in sizes]
    slopes = (soft_clipped(slopes, 1).exp() - LEAST).expm1().log() - ONE
    return torch.cat([*sizes, slopes], 1)


def copied(theirs, ours, seen, count, *, interleaved=True):
    """Our net with the weights of theirs.

    Their masked nets have units of the same kinds in another order, by how much they see; their
    last layer has the numbers of one element side by side, ours has one number of all elements so,
    if `interleaved`.
    """
    linear = [module for module in theirs.modules() if "weight" in module._parameters]
    weights = [layer.weight * getattr(layer, "mask", torch.ones(())) for layer in linear]
    units = [torch.arange(len(layer.weight)) for layer in linear]
    if isinstance(ours, MADE):
        units = [layer.mask.sum(1).argsort(stable=True) for layer in linear]
    units[-1] = torch.arange(len(weights[-1]))
    if interleaved:
        units[-1] = units[-1].reshape(-1, count).T.flatten()
    weights[0] = weights[0][units[0]]
    for before, number in enumerate(range(1, len(weights))):
        weights[number] = weights[number][units[number]][:, units[before]]
    layers = [ours.double().first, *ours.between, ours.last]
    assert len(layers) == len(linear)
    with torch.no_grad():
        ours.first.weight.copy_(weights[0][:, :seen])
        if ours.first_cond is not None:
            ours.first_cond.weight.copy_(weights[0][:, seen:])
        for layer, weight in zip(layers[1:], weights[1:], strict=True):
            layer.weight.copy_(weight)
        for layer, source, order in zip(layers, linear, units, strict=True):
            layer.bias.copy_(source.bias[order])
    return ours


def random_like(module):
    return moved(module.double(), by=0.3)


def assert_same_density(ours, theirs, channels=4, cond=None):
    """To 1e-10, which is float64's rounding through two layers; asked for is 1e-6."""
    generator = torch.Generator().manual_seed(3)
    x = 2 * torch.randn(64, channels, dtype=torch.float64, generator=generator)
    assert (x.abs() > BOUND).any()
    expected = theirs(x, cond)
    assert expected.dtype == torch.float64
    torch.testing.assert_close(ours.log_prob(x, cond), expected, rtol=1e-10, atol=1e-10)
    # Both would agree on nothing but the base as well.
    assert (expected - StandardNormal(channels).double()(64, (channels,)).log_prob(x)).std() > 0.1


def condition(features=2):
    return torch.randn(
        64, features, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )


def density(*layers, channels=4):
    """Of a flow whose layers have the channels flipped in between."""
    first, *rest = layers
    chain = Chain(first, *(part for layer in rest for part in (Flip(), layer)))
    return Flow(chain, StandardNormal(channels)).double()


# nflows


@pytest.fixture
def nflows():
    pytest.importorskip("nflows")
    import nflows.distributions
    import nflows.flows
    import nflows.transforms

    return nflows


class Joined(nn.Module):
    """A net (B, c_in + D) for nflows, which hands the context over apart."""

    def __init__(self, seen, count, cond=0):
        super().__init__()
        sizes = [seen + cond, 8, 8, count]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])

    def forward(self, x, context=None):
        return self.layers(x if context is None else torch.cat([x, context], 1))


def nflows_density(nflows, channels, *layers):
    t = nflows.transforms
    first, *rest = layers
    between = [part for layer in rest for part in (t.ReversePermutation(channels), layer)]
    flow = nflows.flows.Flow(
        t.CompositeTransform([first, *between]), nflows.distributions.StandardNormal([channels])
    )
    return flow.double().log_prob


def test_nflows_affine_coupling(nflows):
    layers = [
        random_like(
            nflows.transforms.AffineCouplingTransform([0, 0, 1, 1], partial(Joined, cond=2))
        )
        for _ in range(2)
    ]
    scale = SigmoidScale(offset=2.0, floor=1e-3)
    ours = []
    for layer in layers:
        net = copied(
            layer.transform_net, MLP(2, 4, cond_channels=2, hidden=8), 2, 2, interleaved=False
        )
        net = translated(net, 2, scale_behind(scale))
        ours.append(Coupling(4, net, Affine(scale), cond_channels=2))
    theirs = nflows_density(nflows, 4, *layers)
    assert_same_density(density(*ours), theirs, cond=condition())


@pytest.mark.filterwarnings("ignore:Inputs to the softmax")
def test_nflows_spline_coupling(nflows):
    make = nflows.transforms.PiecewiseRationalQuadraticCouplingTransform
    options = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    layers = [random_like(make([0, 0, 1, 1], Joined, **options)) for _ in range(2)]
    ours = []
    for layer in layers:
        net = copied(layer.transform_net, MLP(2, 2 * SPLINE.count, hidden=8), 2, SPLINE.count)
        ours.append(Coupling(4, translated(net, SPLINE.count, slopes_from_one), SPLINE))
    assert_same_density(density(*ours), nflows_density(nflows, 4, *layers))


PLAIN = {"num_blocks": 1, "use_residual_blocks": False, "activation": F.silu}


def test_nflows_masked_autoregressive(nflows):
    make = nflows.transforms.MaskedAffineAutoregressiveTransform
    layers = [random_like(make(3, 8, **PLAIN)) for _ in range(2)]
    ours = []
    for layer in layers:
        net = copied(layer.autoregressive_net, MADE(3, 2, hidden=8), 3, 2)
        # Theirs are (scale, shift).
        change = scale_behind(softplus_scale)
        net = translated(net, 2, lambda raw, change=change: change(raw.flip(1)))
        ours.append(Autoregressive(3, net, Affine(softplus_scale)))
    theirs = nflows_density(nflows, 3, *layers)
    assert_same_density(density(*ours, channels=3), theirs, channels=3)


def test_nflows_autoregressive_spline(nflows):
    make = nflows.transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    options = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND, **PLAIN}
    layers = [random_like(make(3, 8, **options)) for _ in range(2)]
    ours = []
    for layer in layers:
        net = copied(layer.autoregressive_net, MADE(3, SPLINE.count, hidden=8), 3, SPLINE.count)
        ours.append(Autoregressive(3, translated(net, SPLINE.count, slopes_from_one), SPLINE))
    theirs = nflows_density(nflows, 3, *layers)
    assert_same_density(density(*ours, channels=3), theirs, channels=3)


# normflows


def normflows_density(channels, *layers):
    """Of layers in the order of data -> noise; theirs is the other one."""
    normflows = pytest.importorskip("normflows")
    flip = normflows.flows.Permute(channels)
    flip.perm = flip.inv_perm = torch.arange(channels - 1, -1, -1)
    first, *rest = layers
    between = [part for layer in rest for part in (flip, layer)]
    base = normflows.distributions.DiagGaussian(channels, trainable=False)
    model = normflows.NormalizingFlow(base, [first, *between][::-1]).double()
    return lambda x, cond: model.log_prob(x)


def test_normflows_affine_coupling():
    normflows = pytest.importorskip("normflows")
    layers = [random_like(normflows.flows.AffineCouplingBlock(Joined(2, 4))) for _ in range(2)]
    exponential = lambda raw: (raw.exp(), raw)  # noqa: E731
    ours = []
    for layer in layers:
        net = copied(layer.flows[1].param_map, MLP(2, 4, hidden=8), 2, 2)
        net = translated(net, 2, scale_behind(exponential))
        ours.append(Inverse(Coupling(4, net, Affine(exponential))))
    assert_same_density(density(*ours), normflows_density(4, *layers))


class ByElement(nn.Module):
    """Their net itself, residual blocks and all, its numbers in our order and meaning."""

    def __init__(self, net, translate):
        super().__init__()
        self.net, self.translate = net, translate

    def forward(self, x):
        raw = self.net(x).unflatten(1, (x.shape[1], -1)).transpose(1, 2)
        return self.translate(raw).flatten(1)


def test_normflows_masked_autoregressive():
    normflows = pytest.importorskip("normflows")
    make = normflows.flows.MaskedAffineAutoregressive
    layers = [random_like(make(3, 8, num_blocks=1)) for _ in range(2)]
    scale = SigmoidScale(offset=2.0, floor=1e-3)
    change = scale_behind(scale)
    nets = [
        ByElement(layer.autoregressive_net, lambda raw: change(raw.flip(1))) for layer in layers
    ]
    # In one pass from noise to data, there.
    ours = [Inverse(Autoregressive(3, lambda *_, net=net: net, Affine(scale))) for net in nets]
    assert_same_density(density(*ours, channels=3), normflows_density(3, *layers), channels=3)


def test_normflows_autoregressive_spline():
    normflows = pytest.importorskip("normflows")
    make = partial(normflows.flows.AutoregressiveRationalQuadraticSpline, 3, 1, 8)
    layers = [random_like(make(num_bins=BINS, tail_bound=BOUND)) for _ in range(2)]
    nets = [ByElement(layer.mprqat.autoregressive_net, slopes_from_one) for layer in layers]
    ours = [Autoregressive(3, lambda *_, net=net: net, SPLINE) for net in nets]
    assert_same_density(density(*ours, channels=3), normflows_density(3, *layers), channels=3)


# zuko


SMOOTH = {"hidden_features": (9, 9), "activation": nn.SiLU}
SHAPES = [(BINS,), (BINS,), (BINS - 1,)]


def zuko_density(channels, *layers):
    zuko = pytest.importorskip("zuko")
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(channels), torch.ones(channels), buffer=True
    )
    flow = zuko.lazy.Flow(list(layers), base).double()
    return lambda x, cond: flow(cond).log_prob(x)


def zuko_maps(spline):
    """zuko's options, and our map with the translation of its numbers."""
    zuko = pytest.importorskip("zuko")
    if not spline:
        return {}, Affine(soft_clipped_scale), scale_behind(soft_clipped_scale)
    make = partial(zuko.transforms.MonotonicRQSTransform, bound=BOUND)
    return {"univariate": make, "shapes": SHAPES}, SPLINE, zuko_spline


@pytest.mark.parametrize("spline", [False, True], ids=["affine", "spline"])
def test_zuko_coupling(spline):
    zuko = pytest.importorskip("zuko")
    options, how, change = zuko_maps(spline)
    make = partial(zuko.flows.GeneralCouplingTransform, 4, 2, **options, **SMOOTH)
    layers = [random_like(make(mask=mask)) for mask in ([1, 1, 0, 0], [0, 0, 1, 1])]
    ours = []
    for layer in layers:
        net = MLP(2, 2 * how.count, cond_channels=2, hidden=9)
        net = translated(copied(layer.hyper, net, 2, how.count), how.count, change)
        ours.append(Coupling(4, net, how, cond_channels=2))
    # The second keeps the last two: ours keeps the first, so that they change places around it.
    swap = Permute([2, 3, 0, 1])
    flow = Flow(Chain(ours[0], swap, ours[1], swap), StandardNormal(4)).double()
    assert_same_density(flow, zuko_density(4, *layers), cond=condition())


@pytest.mark.parametrize("spline", [False, True], ids=["affine", "spline"])
def test_zuko_masked_autoregressive(spline):
    zuko = pytest.importorskip("zuko")
    options, how, change = zuko_maps(spline)
    make = partial(zuko.flows.MaskedAutoregressiveTransform, 3, 2, **options, **SMOOTH)
    orders = [0, 1, 2], [2, 1, 0]
    layers = [random_like(make(order=order)) for order in orders]
    ours = []
    for layer, order in zip(layers, orders, strict=True):
        rank = torch.tensor(order)
        made = MADE(3, how.count, cond_channels=2, hidden=9, adjacency=rank[:, None] > rank)
        net = translated(copied(layer.hyper, made, 3, how.count), how.count, change)
        ours.append(Autoregressive(3, net, how, order=order, cond_channels=2))
    flow = Flow(Chain(*ours), StandardNormal(3)).double()
    assert_same_density(flow, zuko_density(3, *layers), channels=3, cond=condition())
