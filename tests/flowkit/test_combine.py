"""Bijections made of bijections: order, places, and what folding merges."""

from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import (
    MLP,
    ActNorm,
    Affine,
    At,
    Chain,
    ConvNet,
    Coupling,
    Flip,
    Flow,
    FoldedLinear,
    Inverse,
    InvertibleLinear,
    OnChannels,
    Permute,
    Squeeze,
    StandardNormal,
    split,
)

NET = partial(ConvNet, hidden=4)


def step(channels):
    return Chain(ActNorm(channels), InvertibleLinear(channels), Coupling(channels, NET))


def test_chain_applies_its_layers_in_order_and_sums():
    actnorm, linear = moved(ActNorm(3)).double(), InvertibleLinear(3).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    middle, first = actnorm(x)
    expected, second = linear(middle)
    value, logdet = Chain(actnorm, linear)(x)
    assert value.equal(expected)
    assert logdet.equal(first + second)
    back, logdet_back = Chain(actnorm, linear).inverse(value)
    torch.testing.assert_close(back, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-12, atol=1e-12)


def test_empty_chain_is_the_identity():
    x = torch.randn(2, 3, 2, 2)
    chain = Chain()
    for value, logdet in (chain(x), chain.inverse(x), chain.given(x)(x), chain.fold()(x)):
        assert value.equal(x)
        assert logdet.equal(torch.zeros(2))


def test_chain_is_a_sequence():
    layers = [ActNorm(2), Permute([1, 0]), ActNorm(2)]
    chain = Chain(*layers)
    assert list(chain) == layers
    assert len(chain) == 3
    assert chain[1] is layers[1]
    part = chain[1:]
    assert isinstance(part, Chain)
    assert list(part) == layers[1:]


def test_shapes_are_foretold_and_refused_as_data_would_be():
    chain = Chain(Squeeze(), step(12), Squeeze(), step(48))
    assert chain.shape((3, 8, 12)) == (48, 2, 3)
    assert chain.shape((48, 2, 3), inverse=True) == (3, 8, 12)
    for shape, place in (((3, 9, 8), "layer 0"), ((2, 8, 8), "layer 1.0"), ((3, 10, 8), "layer 2")):
        for ask in (lambda s=shape: chain.shape(s), lambda s=shape: chain(torch.zeros(1, *s))):
            with pytest.raises(ValueError, match=f"^{place}, "):
                ask()
    assert Inverse(chain).shape((48, 2, 3)) == (3, 8, 12)


def test_fold_merges_each_actnorm_with_the_linear_map_after_it():
    chain = moved(
        Chain(
            step(4),
            ActNorm(4),
            ActNorm(4),
            InvertibleLinear(4),
            InvertibleLinear(4),
            Permute([3, 0, 2, 1]),
            ActNorm(4),
        )
    ).double()
    folded = chain.fold()
    kinds = [type(layer) for layer in folded]
    assert kinds == [Chain, ActNorm, FoldedLinear, FoldedLinear, Permute, ActNorm]
    assert [type(layer) for layer in folded[0]] == [FoldedLinear, Coupling]
    assert [type(layer) for layer in folded[0][1].net.children()] == [nn.Conv2d] * 3
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert len(chain) == 7

    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    expected = chain(x)
    # float64 rounding, some 1e-16 a step, through 9 layers.
    torch.testing.assert_close(folded(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded.inverse(expected[0])[0], x, rtol=1e-11, atol=1e-11)
    moved(chain)
    torch.testing.assert_close(folded(x), expected, rtol=1e-12, atol=1e-12)


def test_fold_leaves_the_random_numbers_alone():
    coupling = Coupling(4, ConvNet)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    coupling.fold()
    assert torch.equal(torch.rand(3), expected)


def test_fold_stops_dropout_and_leaves_the_original_learning():
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Dropout(0.5))
    coupling = Coupling(4, lambda c_in, c_out: net)
    folded, x = coupling.fold(), torch.randn(2, 4, 3, 3)
    assert torch.equal(folded(x)[0], folded(x)[0])
    assert coupling.training
    assert all(parameter.requires_grad for parameter in coupling.parameters())


def test_two_scales_without_a_class_of_their_own():
    """Half of the channels leave after the first scale; the whole is a bijection all the same."""
    finer = Chain(Squeeze(), step(8), Inverse(Squeeze()))
    layer = moved(Chain(Squeeze(), step(4), OnChannels(2, finer)))
    x = torch.randn(2, 1, 4, 4)
    after_first_scale, _ = layer[:2](x)
    y, logdet = layer(x)
    assert y.shape == (2, 4, 2, 2)
    assert y[:, 2:].equal(after_first_scale[:, 2:])
    assert (y[:, :2] != after_first_scale[:, :2]).all()
    back, logdet_back = layer.inverse(y)
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-4, atol=1e-4)


def test_onchannels_refuses():
    with pytest.raises(ValueError, match=r"OnChannels: expected at least 3 channels, got \(1, 2"):
        OnChannels(3, ActNorm(3))(torch.randn(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"keeps the shape \(1, 1, 4, 4\), got .* from Squeeze"):
        OnChannels(1, Squeeze())(torch.randn(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"keeps the shape \(1, 4, 4\), got .* from Squeeze"):
        OnChannels(1, Squeeze()).shape((2, 4, 4))


def test_split_is_the_density_of_what_leaves_given_what_stays():
    """p(z₁, z₂ | c) = p(z₁ | c)·p(z₂ | z₁, c), for Gaussians that are worked out by hand."""
    torch.manual_seed(0)
    rest = moved(Coupling(2, partial(MLP, hidden=8), cond_channels=1))
    prior = moved(Coupling(3, partial(MLP, hidden=8), Affine(), kept=2, cond_channels=1))
    flow = Flow(split(2, rest, prior), StandardNormal(3))
    x, cond = torch.randn(5, 3), torch.randn(5, 1)
    shift, raw = prior.net(x[:, :2], cond).chunk(2, dim=1)
    scale, _ = prior.how.scale(raw)
    # y = (x + t)·s is N(0, 1), so x is N(-t, 1/s²).
    left = torch.distributions.Normal(-shift, 1 / scale).log_prob(x[:, 2:])[:, 0]
    stayed = Flow(rest).log_prob(x[:, :2], cond)
    # Six float32 terms.
    torch.testing.assert_close(flow.log_prob(x, cond), left + stayed, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="a prior that keeps 1 channels, got kept=2"):
        split(1, rest, prior)


def test_density_of_a_split_integrates_to_one():
    torch.manual_seed(0)
    mlp = partial(MLP, hidden=8)
    flow = Flow(split(1, moved(ActNorm(1)), moved(Coupling(2, mlp, kept=1, cond_channels=1))))
    flow = flow.double()
    line = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    cond = torch.tensor([[0.7]], dtype=torch.float64)
    mass = (
        flow.given(cond, shape=(2,)).log_prob(grid[:, None]).exp().sum() * (line[1] - line[0]) ** 2
    )
    # The trapezoidal rule converges beyond all orders for what is smooth and vanishes at the ends.
    torch.testing.assert_close(mass.item(), 1.0, rtol=0, atol=1e-6)


def test_coupling_with_kept_channels_draws_from_the_learned_prior():
    """z₂ drawn from noise under z₁: its mean and deviation are the prior's."""
    torch.manual_seed(0)
    prior = moved(Coupling(2, partial(MLP, hidden=8), kept=1))
    z1 = torch.full((4000, 1), 0.5)
    x, _ = split(1, Chain(), prior).inverse(torch.cat([z1, torch.randn(4000, 1)], dim=1))
    shift, raw = prior.net(z1[:1]).chunk(2, dim=1)
    deviation = (1 / prior.how.scale(raw)[0]).item()
    # Five standard errors, 1/√4000 and 1/√8000 of the deviation.
    assert x[:, 1].mean().item() == pytest.approx(-shift.item(), abs=0.08 * deviation)
    assert x[:, 1].std().item() == pytest.approx(deviation, rel=0.06)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Coupling(1, NET), "Coupling: expected channels >= 2, got 1"),
        (lambda: Coupling(4, NET, kept=4), "Coupling: expected 1 <= kept < 4, got 4"),
        (lambda: Coupling(4, NET, kept=0), "Coupling: expected 1 <= kept < 4, got 0"),
        (lambda: Permute([0, 2]), r"Permute: expected order to hold each of 0 … 1 once, got \[0"),
        (lambda: Squeeze(0), "Squeeze: expected a factor of at least 1"),
        (lambda: Squeeze(()), "Squeeze: expected a factor of at least 1"),
    ],
)
def test_layers_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_split_takes_its_prior_under_an_entry_of_the_condition():
    torch.manual_seed(0)
    prior = At("half", Coupling(4, partial(ConvNet, hidden=4), kept=2, cond_channels=1))
    flow = split(2, Chain(Squeeze(), ActNorm(8), Inverse(Squeeze())), prior)
    x, cond = torch.rand(2, 4, 4, 4), {"half": torch.rand(2, 1, 4, 4)}
    y, logdet = flow(x, cond)
    back, logdet_back = flow.inverse(y, cond)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(logdet_back, -logdet)


def test_a_split_refuses_a_prior_that_is_no_coupling():
    with pytest.raises(TypeError, match="split: expected a Coupling as the prior, or one in At"):
        split(2, Flip(), At("half", ActNorm(4)))
