"""Bases against torch's distributions, bounds against the sums and integrals that they bound."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from moved import moved
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from flowkit import (
    MLP,
    ActNorm,
    Augmented,
    BoundedSpline,
    BoxUniform,
    Chain,
    ConditionalNormal,
    ConvNet,
    Coupling,
    Dequantized,
    Flow,
    InvertibleLinear,
    Logit,
    MixtureOfGaussians,
    Pointwise,
    StandardNormal,
    initialize,
)

SMALL = partial(MLP, hidden=6)


def generator():
    return torch.Generator().manual_seed(0)


def test_a_mixture_is_the_sum_of_its_gaussians():
    base = moved(MixtureOfGaussians((2, 3), components=4))
    z = torch.randn(5, 2, 3, generator=generator())
    std = (5 * torch.tanh(base.scales / 5)).exp()
    hills = [Independent(Normal(m, s), 2).log_prob(z) for m, s in zip(base.means, std, strict=True)]
    weighted = torch.stack(hills) + base.weights.log_softmax(0)[:, None]
    # A few roundings of numbers of size 10.
    torch.testing.assert_close(base().log_prob(z), weighted.logsumexp(0), rtol=1e-5, atol=1e-5)


def test_samples_of_a_mixture_have_its_mean_and_deviation():
    base = moved(MixtureOfGaussians(2, components=3, spread=3.0))
    torch.manual_seed(0)
    x = Flow(Chain(), base).sample(num_samples=20000)
    made = base()
    # Five standard errors of a mean.
    assert ((x.mean(0) - made.mean).abs() < 5 * made.stddev / math.sqrt(20000)).all()
    # The relative error of a variance is √((κ - 1)/n), kurtosis κ at most some 3: 1 %; 5 of them.
    torch.testing.assert_close(x.var(0), made.variance, rtol=0.05, atol=0)


def test_uniform_in_a_box_with_both_its_ends():
    low, high = torch.tensor([0.0, -1.0]), torch.tensor([2.0, 1.0])
    base = BoxUniform(low, high)()
    values = torch.tensor([[0.0, -1.0], [2.0, 1.0], [1.0, 0.0], [2.1, 0.0], [1.0, math.nan]])
    density = base.log_prob(values)
    # log 2 twice, and log 4 once, differ by a rounding.
    torch.testing.assert_close(density[:3], torch.full((3,), -math.log(4)))
    assert density[3] == -math.inf
    assert density[4].isnan()
    expected = Independent(torch.distributions.Uniform(low, high), 1).log_prob(values[2:3])
    assert base.log_prob(values[2:3]).equal(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_a_box_in_float64_are_among_it(dtype):
    ends = torch.tensor([[0.1], [0.7]], dtype=torch.float64)
    flow = Flow(Chain(), BoxUniform(*ends))
    density = flow.log_prob(ends.to(dtype))
    assert density.dtype == dtype
    torch.testing.assert_close(density, torch.full((2,), -math.log(0.6), dtype=dtype))
    assert flow.float().log_prob(ends.float()).isfinite().all()


def test_the_ends_of_a_box_from_numbers_are_as_said_in_a_flow_turned_to_float64():
    base = BoxUniform(0.1, 0.7, 1)
    assert Flow(Chain(), base).sample(num_samples=2).dtype == torch.float32
    flow = Flow(Chain(), base).double()
    ends = torch.tensor([[0.1], [0.7]], dtype=torch.float64)
    assert flow.log_prob(ends).isfinite().all()
    assert flow.log_prob(ends + torch.tensor([[-1e-12], [1e-12]])).isinf().all()
    assert flow.sample(num_samples=2).dtype == torch.float64


def test_data_on_an_interval():
    """A bounded spline onto a box: its density integrates to 1 over the box."""
    spline = moved(Pointwise(1, BoundedSpline(4)))
    flow = Flow(spline, BoxUniform(0.0, 1.0, 1))
    grid = torch.linspace(0, 1, 4001)[:, None]
    # The trapezium's error is far below that of float32 sums.
    assert torch.trapezoid(flow.log_prob(grid).exp(), grid[:, 0]).item() == pytest.approx(
        1, abs=1e-4
    )
    x = flow.sample(num_samples=100)
    assert ((x >= 0) & (x <= 1)).all()


BASES = [
    ("mixture", lambda: MixtureOfGaussians(2, 3), 0),
    ("box", lambda: BoxUniform(-60.0, 60.0, 2), 0),
    ("conditional", lambda: ConditionalNormal(SMALL, 2, cond_channels=3), 3),
]


@pytest.mark.parametrize(("name", "make", "needs"), BASES)
def test_a_flow_takes_it(name, make, needs):
    """Density, samples, temperature, given, copies, float64: with and without a condition."""
    flow = moved(Flow(Coupling(2, SMALL, cond_channels=3), make()), by=0.1)
    cond = torch.randn(4, 3, generator=generator())
    x = torch.randn(4, 2, generator=generator())
    density = flow.log_prob(x, cond)
    given = flow.given(cond)
    # The same numbers in another order of operations.
    torch.testing.assert_close(given.log_prob(x), density, rtol=1e-5, atol=1e-5)
    assert given.log_prob(x.expand(5, 4, 2)).shape == (5, 4)
    assert flow.sample(cond, num_samples=5, temperature=0.5).shape == (5, 4, 2)
    still = flow.sample(cond, temperature=0)
    torch.testing.assert_close(still, flow.decode(flow.base(cond).mean, cond)[0])
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert other.log_prob(x, cond).equal(density)
    wide = flow.double().log_prob(x.double(), cond.double())
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide, density.double(), rtol=1e-4, atol=1e-4)
    flow.float()
    if needs:
        z, normal = torch.randn(4, 2, generator=generator()), flow.base(cond)
        expected, _ = flow.decode(normal.mean + 0.5 * normal.stddev * z, cond)
        torch.testing.assert_close(flow.sample(cond, noise=z, temperature=0.5), expected)
        with pytest.raises(ValueError, match="ConditionalNormal: expected a condition of 3"):
            Flow(Coupling(2, SMALL), flow.base).log_prob(x)
    else:
        assert Flow(Coupling(2, SMALL), flow.base).log_prob(x).shape == (4,)
        with pytest.raises(ValueError, match=r"expected a normal base for noise="):
            flow.sample(cond, noise=x)


def test_gradients_through_draws_of_a_mixture_are_refused():
    """The densities would have them and the samples not: an ELBO would follow a wrong sum."""
    flow = Flow(Coupling(2, SMALL), MixtureOfGaussians(2, 3))
    for ask in (flow.rsample_and_log_prob, flow.given().rsample):
        with pytest.raises(NotImplementedError, match="carry gradients, got MixtureOfGaussians"):
            ask()
        with torch.no_grad():
            ask()
    assert not flow.given().has_rsample
    assert flow.given().sample((3,)).shape == (3, 2)
    assert Flow(Coupling(2, SMALL), BoxUniform(0.0, 1.0, 2)).given().has_rsample


@pytest.mark.parametrize("diverged", ["weights", "means", "scales", "data"])
def test_a_mixture_that_diverged_says_nan(diverged):
    """No error of a distribution's own: training looks for NaN itself."""
    base, x = MixtureOfGaussians(2, 3), torch.zeros(4, 2)
    (x if diverged == "data" else getattr(base, diverged).data).fill_(math.nan)
    assert Flow(Chain(), base).log_prob(x).isnan().all()


def test_temperature_draws_a_mixture_nearer_to_its_mean():
    flow = Flow(Chain(), MixtureOfGaussians(2, 3))
    torch.manual_seed(0)
    hot = flow.sample(num_samples=9)
    torch.manual_seed(0)
    cold = flow.sample(num_samples=9, temperature=0.25)
    mean = flow.base().mean
    torch.testing.assert_close(cold, mean + 0.25 * (hot - mean))


def test_conditional_normal_is_the_nets():
    base = moved(ConditionalNormal(SMALL, 2, cond_channels=3))
    cond, z = torch.randn(2, 4, 3, generator=generator()).unbind(0), torch.randn(4, 2)
    mean, raw = base.net(cond[0]).chunk(2, dim=1)
    expected = MultivariateNormal(mean, torch.diag_embed((4 * torch.tanh(raw / 2)).exp()))
    # Rounding of a few numbers of size 10.
    torch.testing.assert_close(
        base(cond[0]).log_prob(z), expected.log_prob(z), rtol=1e-4, atol=1e-4
    )


def test_a_mean_and_a_deviation_for_each_class():
    base = ConditionalNormal(nn.Linear, (2, 3, 3), cond_channels=10, key="label")
    flow = Flow(Chain(ActNorm(2)), base)
    cond = {"label": torch.eye(10)[[3, 3, 7]]}
    made = flow.base(cond)
    assert made.batch_shape == (3,)
    assert made.event_shape == (2, 3, 3)
    assert made.mean[0].equal(made.mean[1])
    assert not made.mean[0].equal(made.mean[2])
    assert flow.sample(cond, num_samples=2).shape == (2, 3, 2, 3, 3)
    expected = base.net.weight[:18, 3] + base.net.bias[:18]
    torch.testing.assert_close(made.mean[0].flatten(), expected)


def test_conditional_normal_of_pictures():
    base = ConditionalNormal(partial(ConvNet, hidden=4), 2, cond_channels=3)
    flow = Flow(ActNorm(2), base)
    for size in (4, 6):
        cond = torch.randn(2, 3, size, size)
        assert flow.sample(cond).shape == (2, 2, size, size)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MixtureOfGaussians(0), "MixtureOfGaussians: expected a shape"),
        (lambda: MixtureOfGaussians(2, 0), "MixtureOfGaussians: expected components >= 1, got 0"),
        (lambda: MixtureOfGaussians(2, spread=-1.0), "expected spread >= 0, got -1"),
        (lambda: BoxUniform(0.0, 1.0), "BoxUniform: expected a shape"),
        (lambda: BoxUniform("a", 1.0, 2), "BoxUniform: expected low and high as numbers or tensor"),
        (lambda: BoxUniform(1.0, 1.0, 2), "BoxUniform: expected finite low < high"),
        (lambda: BoxUniform(torch.zeros(3), 1.0, 2), "BoxUniform: expected ends that broadcast"),
        (lambda: BoxUniform(torch.zeros(2), torch.ones(3)), "expected ends that broadcast to one"),
        (lambda: ConditionalNormal(SMALL, 2, cond_channels=0), "expected cond_channels >= 1"),
        (
            lambda: ConditionalNormal(SMALL, (2, 3), cond_channels=2)(torch.rand(1, 2, 3)),
            r"expected a vector \(B, 2\) as the condition",
        ),
        (
            lambda: ConditionalNormal(lambda c_in, c_out: nn.Linear(2, 3), 2, cond_channels=2)(
                torch.rand(5, 2)
            ),
            r"ConditionalNormal: expected \(5, 4\) from the net, got \(5, 3\)",
        ),
        (lambda: Dequantized(Flow(ActNorm(2)), 1), "Dequantized: expected levels >= 2, got 1"),
        (
            lambda: Dequantized(Flow(ActNorm(2)), 2, Flow(ActNorm(2))),
            "expected noise as a conditional Flow",
        ),
        (lambda: Augmented(Flow(ActNorm(2)), 1, ActNorm(1)), "expected noise as a Flow, got Act"),
        (
            lambda: Augmented(Flow(ActNorm(2)), 1).augment(torch.rand(3)),
            "Augmented: expected input",
        ),
        (lambda: Augmented(ActNorm(2), 1), "Augmented: expected a density, got ActNorm"),
        (lambda: Dequantized(ActNorm(2)), r"got ActNorm \(Flow\(bijection\) is one\)"),
    ],
)
def test_they_refuse_in_words(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.tensor([[0, 4]]), "expected whole numbers in 0 … 3, got values from 0 to 4"),
        (torch.tensor([[0.5, 1]]), "from 0.5 to 1, not all of them whole"),
        (torch.tensor([[math.nan, 1]]), "expected whole numbers in 0 … 3"),
        ([[0, 1]], "expected a tensor of whole numbers, got list"),
        (torch.tensor([1, 2]), r"expected x \(B, C, \*S\), got \(2,\)"),
    ],
)
def test_dequantized_takes_whole_numbers_alone(x, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Dequantized(Flow(ActNorm(2)), 4).log_prob(x)


def learned_noise():
    return Flow(moved(Coupling(2, SMALL, cond_channels=2), by=0.2))


@pytest.mark.parametrize("noise", [None, learned_noise])
def test_a_bound_of_the_probability_of_whole_numbers(noise):
    """The mean of exp(bound) over draws of u is P(x) itself, which is known for a Gaussian."""
    std = torch.tensor([0.4, 0.3])
    layer = ActNorm(2)
    with torch.no_grad():
        layer.bias.fill_(-0.5)
        layer.log_scale.copy_(-std.log())
    density = Dequantized(Flow(layer), 4, noise and noise())
    x = torch.tensor([[1, 2], [0, 3]])
    normal = Normal(torch.tensor(0.5), std)
    exact = (normal.cdf((x + 1) / 4) - normal.cdf(x / 4)).log().sum(1)
    torch.manual_seed(0)
    many = torch.stack([density.log_prob(x) for _ in range(4000)]).detach()
    assert (many.mean(0) < exact).all()
    weights = many.exp()
    error = weights.std(0) / math.sqrt(len(weights))
    # Five standard errors.
    assert ((weights.mean(0) - exact.exp()).abs() < 5 * error).all()
    torch.manual_seed(1)
    bits = density.bits_per_dimension(x)
    torch.manual_seed(1)
    torch.testing.assert_close(bits, -density.log_prob(x) / (2 * math.log(2)))


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_no_rounding_leads_to_0_or_1(u, monkeypatch):
    """Which a logit can't take; torch.rand gives both numbers, one time in 2²⁴."""
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, u))
    density = Dequantized(Flow(Logit(alpha=0.0)), 256)
    assert density.log_prob(torch.tensor([[0, 255]])).isfinite().all()


@pytest.mark.parametrize("levels", [2**17, 2**24, 2**32])
def test_no_level_is_taken_for_another(levels):
    torch.manual_seed(0)
    x = levels - 1 - torch.arange(1000)[:, None]
    value, _ = Dequantized(Flow(Chain()), levels).dequantize(x)
    assert (value * levels).floor().long().equal(x)
    # Nor is u rounded: each draw is another one.
    assert len((value * levels - x).unique()) == len(x)


def test_bits_of_uniform_noise_are_log2_of_the_levels():
    density = Dequantized(Flow(Chain(), BoxUniform(0.0, 1.0, (1, 2, 2))), 16)
    bits = density.bits_per_dimension(torch.randint(0, 16, (3, 1, 2, 2)))
    torch.testing.assert_close(bits, torch.full((3,), 4.0))


def test_no_samples_have_no_densities():
    density = Dequantized(Flow(Coupling(2, SMALL)), 4)
    none = torch.zeros(0, 2, dtype=torch.long)
    assert density.log_prob(none).shape == density.bits_per_dimension(none).shape == (0,)


def test_samples_are_whole_numbers_in_range():
    density = Dequantized(Flow(Coupling(2, SMALL, cond_channels=3), StandardNormal(2)), 4)
    cond = torch.zeros(500, 3)
    x = density.sample(cond, num_samples=2, temperature=3.0)
    assert x.shape == (2, 500, 2)
    assert x.dtype == torch.int64
    assert x.unique().tolist() == [0, 1, 2, 3]
    assert density.log_prob(x[0], cond).shape == (500,)


def test_nan_is_no_sample():
    layer = ActNorm(2)
    nn.init.constant_(layer.bias, math.nan)
    with pytest.raises(ValueError, match="expected numbers from the flow, got NaN"):
        Dequantized(Flow(layer, StandardNormal(2)), 4).sample()


def test_an_augmented_bound_of_a_known_density():
    """[x, e] is jointly normal, so p(x) is, and the mean of exp(bound) over draws of e is p(x)."""
    torch.manual_seed(0)
    flow = Flow(moved(Chain(InvertibleLinear(3), ActNorm(3)), by=0.1), StandardNormal(3))
    density = Augmented(flow, 2)
    matrix = torch.autograd.functional.jacobian(
        lambda z: flow.decode(z[None])[0][0], torch.zeros(3)
    )
    shift = flow.decode(torch.zeros(1, 3))[0][0]
    exact = Normal(shift[0], (matrix @ matrix.T)[0, 0].sqrt())
    x = torch.tensor([[0.3], [-1.0]])
    many = torch.stack([density.log_prob(x) for _ in range(4000)]).detach()
    expected = exact.log_prob(x)[:, 0].detach()
    assert (many.mean(0) < expected).all()
    error = many.exp().std(0) / math.sqrt(len(many))
    # Five standard errors, and the rounding of one where the bound is tight.
    assert ((many.exp().mean(0) - expected.exp()).abs() < 5 * error + 1e-6).all()


def test_augmented_samples_lack_the_further_channels():
    flow = Flow(Coupling(3, partial(ConvNet, hidden=4), cond_channels=2))
    noise = Flow(Coupling(2, partial(ConvNet, hidden=4), cond_channels=1))
    density = Augmented(flow, 2, noise)
    cond = torch.rand(4, 2)
    assert density.log_prob(torch.rand(4, 1, 3, 3), cond).shape == (4,)
    assert density.sample(cond, shape=(1, 3, 3)).shape == (4, 1, 3, 3)
    assert density.sample(cond, num_samples=5, shape=(1, 3, 3)).shape == (5, 4, 1, 3, 3)
    plain = Augmented(Flow(Coupling(3, SMALL)), 2)
    assert plain.sample(shape=(1,)).shape == (1, 1)
    assert plain.sample(num_samples=5, shape=(1,)).shape == (5, 1)


@pytest.mark.parametrize("kind", [Dequantized, Augmented])
def test_initialize_reaches_all_that_is_inside(kind):
    torch.manual_seed(0)
    if kind is Dequantized:
        flow = Flow(Chain(ActNorm(2), Coupling(2, SMALL)))
        noise = Flow(Chain(ActNorm(2), Coupling(2, SMALL, cond_channels=2)))
        density, x = Dequantized(flow, 8, noise), torch.randint(0, 8, (64, 2))
    else:
        flow = Flow(Chain(ActNorm(3), Coupling(3, SMALL)))
        noise = Flow(Chain(ActNorm(2), Coupling(2, SMALL, cond_channels=1)))
        density, x = Augmented(flow, 2, noise), 5 + torch.randn(64, 1)
    initialize(density, x)
    assert flow.bijection[0].bias.abs().min() > 0
    assert noise.bijection[0].bias.abs().min() > 0
    density.log_prob(x).mean().backward()
    assert noise.bijection[0].bias.grad.abs().min() > 0
