"""Flow: densities against closed forms, and what its face promises."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from moved import moved
from torch import nn
from torch.distributions import Cauchy, Independent, MultivariateNormal

from flowkit import (
    MADE,
    MLP,
    ActNorm,
    At,
    Autoregressive,
    Chain,
    ConvNet,
    Coupling,
    Flow,
    Injector,
    Inverse,
    InvertibleLinear,
    OnChannels,
    Squeeze,
    StandardNormal,
    diagonal_normal,
    initialize,
    split,
)
from flowkit.density import distributions

NET = partial(ConvNet, hidden=4)


class Fixed(nn.Module):
    """N(mean, 0.5²) for any condition."""

    def __init__(self, mean):
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, cond):
        return diagonal_normal(self.mean, 0.5)


class OfCondition(nn.Module):
    """N(cond["half"], 1), in the first channels of the condition."""

    def forward(self, cond):
        return diagonal_normal(cond["half"][:, :2])


def linear_flow():
    """A flow whose density is a Gaussian, over (2, 2, 2), in float64."""
    layers = ActNorm(2), InvertibleLinear(2), Squeeze(), ActNorm(8), InvertibleLinear(8)
    mean = torch.linspace(-1, 1, 8).reshape(1, 8, 1, 1)
    torch.manual_seed(0)
    return Flow(moved(Chain(*layers), by=0.1), Fixed(mean)).double()


def its_gaussian(flow):
    """x = A·z + b, so x ~ N(A·mean + b, 0.25·A·Aᵀ)."""
    mean = flow.base.mean

    def data(z):
        return flow.bijection.inverse(z.reshape(mean.shape))[0].flatten()

    slope = torch.autograd.functional.jacobian(data, mean.flatten())
    return MultivariateNormal(data(mean.flatten()).detach(), 0.25 * slope @ slope.T)


def conditional_flow():
    """The injector sees the condition, and so does the base's mean."""
    injector = At("half", Injector(2, NET, cond_channels=3))
    return Flow(moved(Chain(ActNorm(2), injector, InvertibleLinear(2))), OfCondition())


def condition(batch=3):
    generator = torch.Generator().manual_seed(1)
    return {"half": torch.randn(batch, 3, 4, 4, generator=generator)}


def test_log_prob_of_a_linear_flow_is_its_gaussian():
    flow = linear_flow()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = its_gaussian(flow).log_prob(x.flatten(1))
    # float64 rounding, times the conditioning of an 8×8 covariance, some 1e3.
    for log_prob in (flow.log_prob, flow, flow.given().log_prob):
        torch.testing.assert_close(log_prob(x), expected, rtol=1e-11, atol=1e-11)


def test_samples_of_a_linear_flow_have_its_mean_and_covariance():
    flow = linear_flow()
    gaussian = its_gaussian(flow)
    torch.manual_seed(0)
    count = 4000
    samples = flow.sample(num_samples=count).reshape(count, -1)
    deviation = gaussian.variance.sqrt()
    # The error of a mean is σ/√n, that of an entry of the covariance at most √2·σᵢσⱼ/√n. 5 of these
    # would be a chance of 1e-6 each, were the seed not fixed.
    bound = 5 / math.sqrt(count)
    assert ((samples.mean(0) - gaussian.mean).abs() < bound * deviation).all()
    scale = math.sqrt(2) * deviation[:, None] * deviation
    assert ((samples.T.cov() - gaussian.covariance_matrix).abs() < bound * scale).all()


def test_encode_and_decode_are_the_bijection():
    flow, cond = conditional_flow(), condition()
    x = torch.randn(3, 2, 4, 4)
    z, logdet = flow.encode(x, cond)
    expected, expected_logdet = flow.bijection(x, cond)
    assert z.equal(expected)
    assert logdet.equal(expected_logdet)
    back, logdet_back = flow.decode(z, cond)
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-4, atol=1e-4)
    log_prob = flow.base(cond).log_prob(z) + logdet
    assert flow.log_prob(x, cond).equal(log_prob)


def test_temperature_scales_the_deviation():
    flow = Flow(Chain(), Fixed(torch.ones(1, 2, 2, 2)))
    torch.manual_seed(0)
    samples = flow.sample(temperature=0.5, num_samples=4000)
    # The relative error of a standard deviation is 1/√2n = 0.011; 5 of them.
    spread = samples.std(dim=0)
    torch.testing.assert_close(spread, torch.full_like(spread, 0.25), rtol=0.06, atol=0)
    torch.testing.assert_close(samples.mean(0), torch.ones(2, 2, 2), rtol=0, atol=0.02)


def test_temperature_0_is_the_image_of_the_mean():
    flow, cond = conditional_flow(), condition()
    expected, _ = flow.bijection.inverse(flow.base(cond).mean, cond)
    one = flow.sample(cond, temperature=0.0)
    many = flow.sample(cond, temperature=0, num_samples=2)
    # given(cond) has done the net's work; nothing else differs.
    torch.testing.assert_close(one, expected)
    torch.testing.assert_close(many, torch.stack([expected] * 2))


def multiscale():
    finer = Chain(Squeeze(), ActNorm(8), InvertibleLinear(8), Inverse(Squeeze()))
    return Chain(Squeeze(), InvertibleLinear(4), split(2, finer, Coupling(4, NET, kept=2)))


def test_a_temperature_for_each_level():
    flow = Flow(moved(multiscale()), StandardNormal((4, 4, 4)))
    noise = torch.randn(3, 4, 4, 4)
    # What OnChannels passes by has left first: channels 2 and 3.
    tempered = torch.cat([0.2 * noise[:, :2], 0.7 * noise[:, 2:]], dim=1)
    expected, _ = flow.decode(tempered)
    assert flow.sample(noise=noise, temperature=(0.7, 0.2)).equal(expected)
    by_tensor = torch.tensor([0.2, 0.2, 0.7, 0.7])[:, None, None]
    assert flow.sample(noise=noise, temperature=by_tensor).equal(expected)
    assert flow.sample(noise=noise, temperature=torch.tensor(0.5)).equal(flow.decode(noise / 2)[0])


def test_levels_are_followed_through_squeezes_and_permutations():
    """The innermost of three levels, at temperature 0: its noise doesn't matter."""
    inner = OnChannels(4, Chain(ActNorm(4), InvertibleLinear(4)))
    outer = OnChannels(2, Chain(Squeeze(), inner, Inverse(Squeeze())))
    flow = Flow(moved(Chain(Squeeze(), outer)), StandardNormal((4, 4, 4)))
    noise = torch.randn(1, 4, 4, 4)
    folded, _ = Squeeze()(noise[:, :2])
    folded[:, :4] += torch.randn(1, 4, 2, 2)
    other = torch.cat([Squeeze().inverse(folded)[0], noise[:, 2:]], dim=1)
    options = {"temperature": (1.0, 1.0, 0.0)}
    assert flow.sample(noise=noise, **options).equal(flow.sample(noise=other, **options))
    assert not flow.sample(noise=noise).equal(flow.sample(noise=other))


def test_levels_are_followed_through_what_is_given():
    inner = Chain(Squeeze(), ActNorm(8), Inverse(Squeeze()))
    prior = Coupling(4, NET, kept=2, cond_channels=3)
    flow = Flow(
        moved(Chain(Squeeze(), InvertibleLinear(4), Inverse(Chain(split(2, inner, prior)))))
    )
    cond, noise = torch.randn(2, 3), torch.randn(2, 4, 4, 4)
    tempered = torch.cat([0.2 * noise[:, :2], 0.7 * noise[:, 2:]], dim=1)
    got = flow.sample(cond, noise=noise, temperature=(0.7, 0.2))
    torch.testing.assert_close(got, flow.decode(tempered, cond)[0], rtol=1e-4, atol=1e-4)


def test_levels_that_are_mixed_are_refused():
    flow = Flow(Chain(OnChannels(2, ActNorm(2)), InvertibleLinear(4)), StandardNormal(4))
    with pytest.raises(ValueError, match="expected levels that stay apart, got InvertibleLinear"):
        flow.sample(temperature=(1.0, 0.5))


def test_noise_is_standard_normal_whatever_the_base():
    flow, cond = conditional_flow(), condition()
    noise = torch.randn(3, 2, 4, 4)
    expected, _ = flow.decode(cond["half"][:, :2] + 0.5 * noise, cond)
    got = flow.sample(cond, noise=noise, temperature=0.5)
    torch.testing.assert_close(got, expected)
    several = flow.sample(cond, noise=noise.expand(2, -1, -1, -1, -1), num_samples=2)
    torch.testing.assert_close(several[1], flow.sample(cond, noise=noise))


def test_noise_tells_the_shape():
    flow = Flow(Squeeze())
    assert flow.sample(noise=torch.randn(5, 12, 2, 3)).shape == (5, 3, 4, 6)


def test_sample_shapes():
    flow, cond = conditional_flow(), condition(batch=3)
    assert flow.sample(cond).shape == (3, 2, 4, 4)
    assert flow.sample(cond, num_samples=1).shape == (1, 3, 2, 4, 4)
    assert flow.sample(cond, num_samples=5).shape == (5, 3, 2, 4, 4)
    given = flow.given(cond)
    assert given.batch_shape == (3,)
    assert given.event_shape == (2, 4, 4)
    assert given.sample().shape == (3, 2, 4, 4)
    samples = given.sample((2, 4))
    assert samples.shape == (2, 4, 3, 2, 4, 4)
    assert given.log_prob(samples).shape == (2, 4, 3)
    without = linear_flow()
    assert without.sample().shape == (1, 2, 2, 2)
    assert without.sample(num_samples=6).shape == (6, 2, 2, 2)
    assert without.given().sample().shape == (2, 2, 2)
    assert without.given().sample((2, 3)).shape == (2, 3, 2, 2, 2)
    assert without.given().sample((0,)).shape == (0, 2, 2, 2)
    assert without.given().log_prob(torch.zeros(2, 2, 2).double()).shape == ()


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 12, 20)])
def test_one_model_at_any_resolution(shape):
    def level(key, channels):
        return Chain(Squeeze(), At(key, Coupling(channels, NET, cond_channels=2)))

    flow = Flow(Chain(level("half", 12), level("quarter", 48)))
    like = Flow(flow.bijection, StandardNormal(48, like="quarter"))
    _, height, width = shape
    cond = {
        "half": torch.randn(2, 2, height // 2, width // 2),
        "quarter": torch.randn(2, 2, height // 4, width // 4),
    }
    assert flow.sample(cond, shape=shape).shape == (2, *shape)
    assert like.sample(cond).shape == (2, *shape)
    assert like.given(cond).event_shape == shape


def test_a_condition_that_is_one_tensor_tells_the_size():
    coupling = Coupling(12, NET, cond_channels=2)
    flow = Flow(Chain(Squeeze(), coupling), StandardNormal(12, like=True))
    cond = torch.randn(2, 2, 3, 4)
    assert flow.sample(cond).shape == (2, 3, 6, 8)
    assert flow.given(cond).event_shape == (3, 6, 8)
    assert flow.log_prob(torch.randn(2, 3, 6, 8), cond).shape == (2,)
    for other in (None, {"half": cond}):
        with pytest.raises(ValueError, match="condition that is a tensor, for like=True"):
            flow.sample(other)
    named = Flow(flow.bijection, StandardNormal(12, like="half"))
    with pytest.raises(ValueError, match=r"entry 'half', got Tensor \(like=True\?\)"):
        named.sample(cond)
    with pytest.raises(TypeError, match="name of an entry or True, got int"):
        StandardNormal(12, like=2)


def test_samples_differ():
    samples = conditional_flow().sample(condition(), num_samples=2)
    assert (samples[0] != samples[1]).all()


@pytest.mark.parametrize("num_samples", [None, 3])
def test_samples_compile_into_one_graph(num_samples):
    flow = moved(Flow(Coupling(2, MLP, cond_channels=3), StandardNormal(2)))
    cond = torch.rand(2, 3)
    for function in (flow.sample, flow.rsample_and_log_prob):
        torch.compiler.reset()
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        results = []
        for call in (compiled, function):
            torch.manual_seed(0)
            results.append(call(cond, num_samples=num_samples))
        # To rounding: the condition's share of a net is taken for each sample, not once.
        torch.testing.assert_close(*results)


@pytest.mark.parametrize("temperature", ["warm", None, {"a": 1.0}])
def test_a_temperature_of_another_kind_is_refused(temperature):
    with pytest.raises(TypeError, match="expected the temperature as a number, a tensor, or"):
        linear_flow().sample(temperature=temperature)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf"), (0.5,) * 3])
def test_impossible_temperatures(temperature):
    with pytest.raises(ValueError, match=r"Flow.sample: expected (a )?temperature"):
        linear_flow().sample(temperature=temperature)


def test_given_agrees_with_log_prob():
    flow, cond = conditional_flow(), condition()
    given = flow.given(cond)
    x = torch.randn(5, 3, 2, 4, 4)
    expected = torch.stack([flow.log_prob(one, cond) for one in x])
    # 32 float32 terms of up to 5: 1e-5 of their sum.
    torch.testing.assert_close(given.log_prob(x), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["vectors", "images", "unconditional"])
def test_samples_come_with_their_densities_in_one_pass(kind):
    calls = []
    if kind == "vectors":
        iaf = Inverse(Autoregressive(3, partial(MADE, hidden=8), cond_channels=2))
        flow, cond, shape = Flow(moved(Chain(iaf, ActNorm(3)))), torch.randn(2, 2), (3,)
    elif kind == "images":
        flow, cond, shape = conditional_flow(), condition(), None
    else:
        flow, cond, shape = linear_flow(), None, None
    flow.double()
    cond = {key: e.double() for key, e in cond.items()} if kind == "images" else cond
    inverse = flow.bijection.inverse
    flow.bijection.inverse = lambda y, c=None: calls.append(len(y)) or inverse(y, c)
    x, log_prob = flow.rsample_and_log_prob(cond, num_samples=7, shape=shape)
    assert kind != "unconditional" or calls == [7]
    # float64 rounding through a few layers.
    expected = flow.given(cond, shape=shape).log_prob(x)
    torch.testing.assert_close(log_prob, expected, rtol=1e-9, atol=1e-9)
    (log_prob.sum() + x.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in flow.parameters())


def test_an_elbo_takes_one_pass_of_an_inverse_autoregressive_flow():
    made = Autoregressive(5, partial(MADE, hidden=8))
    calls = []
    made.net.register_forward_hook(lambda *_: calls.append(1))
    flow = Flow(Chain(Inverse(made)), StandardNormal(5))
    _, log_prob = flow.rsample_and_log_prob(num_samples=64)
    assert log_prob.shape == (64,)
    assert len(calls) == 1


def test_many_samples_go_through_in_passes_of_bounded_size(monkeypatch):
    monkeypatch.setattr(distributions, "ELEMENTS", 100)
    flow, cond = conditional_flow(), condition()
    sizes = []
    given = flow.given(cond)
    inverse = given.bijection.inverse
    given.bijection.inverse = lambda y, c=None: sizes.append(len(y)) or inverse(y, c)
    noise = torch.randn(5, 3, 2, 4, 4)
    x = given.sample_with((5,), noise=noise)
    # 96 elements for one sample of each of three conditions: a pass each.
    assert sizes == [3] * 5
    expected = torch.stack([flow.decode(cond["half"][:, :2] + z, cond)[0] for z in noise])
    torch.testing.assert_close(x, expected)
    log_prob = torch.stack([flow.log_prob(one, cond) for one in x])
    torch.testing.assert_close(given.log_prob(x), log_prob, rtol=1e-5, atol=1e-4)


def test_gradients_reach_parameters_and_base_through_samples():
    flow, cond = conditional_flow(), condition()
    cond["half"].requires_grad_()
    flow.sample(cond).square().sum().backward()
    assert cond["half"].grad.any()
    assert all(parameter.grad is not None for parameter in flow.parameters())


def test_parameters_of_a_base_are_trained():
    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(1, 2, 4, 4))

        def forward(self, cond):
            return diagonal_normal(self.mean)

    flow = Flow(ActNorm(2), Base())
    flow.log_prob(torch.ones(3, 2, 4, 4)).sum().backward()
    assert flow.base.mean.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_standard_normal_moves_with_its_flow(dtype):
    flow = Flow(Chain(ActNorm(3)), StandardNormal(3)).to(dtype)
    assert flow.sample(num_samples=2).dtype == dtype
    assert flow.log_prob(torch.zeros(2, 3, dtype=dtype)).dtype == dtype
    x, log_prob = flow.rsample_and_log_prob(num_samples=2)
    assert x.dtype == log_prob.dtype == dtype
    assert flow.to("meta").sample(num_samples=2).device.type == "meta"
    assert not list(flow.base.state_dict())


def test_a_standard_normal_is_one():
    flow, x = Flow(Chain()), torch.randn(3, 2, 2)
    expected = torch.distributions.Normal(0, 1).log_prob(x).sum((1, 2))
    torch.testing.assert_close(flow.log_prob(x), expected)
    torch.testing.assert_close(flow.given().log_prob(x), expected)
    for shape in (0, (), (3, 2.0), (3, -1), 2.5, True):
        with pytest.raises(ValueError, match="StandardNormal: expected a shape"):
            StandardNormal(shape)
    with pytest.raises(ValueError, match="expected the number of channels with like='half'"):
        StandardNormal((3, 2, 2), like="half")


def test_fold_keeps_the_density():
    flow, cond = conditional_flow(), condition()
    x = torch.randn(3, 2, 4, 4)
    folded, expected = flow.fold(), flow.log_prob(x, cond)
    # float32 weights rounded anew, 6e-8 each, behind a net of fan-in 36.
    torch.testing.assert_close(folded.log_prob(x, cond), expected, rtol=1e-5, atol=1e-4)
    moved(flow)
    torch.testing.assert_close(folded.log_prob(x, cond), expected, rtol=1e-5, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_fold_keeps_a_subclass():
    class Halved(Flow):
        def log_prob(self, x, cond=None):
            return super().log_prob(x, cond) / 2

    flow, x = Halved(moved(Chain(ActNorm(2), InvertibleLinear(2)))), torch.randn(3, 2)
    torch.testing.assert_close(flow.fold().log_prob(x), flow.log_prob(x))


def test_copies_and_pickles():
    flow, cond, x = conditional_flow(), condition(), torch.randn(3, 2, 4, 4)
    expected = flow.log_prob(x, cond)
    assert copy.deepcopy(flow).log_prob(x, cond).equal(expected)
    assert pickle.loads(pickle.dumps(flow)).log_prob(x, cond).equal(expected)


def test_training_fits_a_gaussian():
    """The whole of it: log_prob, backward and an optimiser find a known mean and scale."""
    torch.manual_seed(0)
    data = 3 + 0.5 * torch.randn(256, 1, 2, 2)
    flow = Flow(ActNorm(1))
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = -flow.log_prob(data).mean()
        loss.backward()
        optimizer.step()
    per_pixel = loss.item() / 4
    # The entropy of N(3, 0.5²): the least loss there is, known here to the 1/√1024 of the data.
    assert per_pixel == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.25), abs=0.06)
    mean = -flow.bijection.bias.item()
    assert mean == pytest.approx(3, abs=0.05)


def test_vectors_are_fitted_given_a_condition():
    """y = sin(3c) + (0.1 + 0.2·|c|)·ε: the injector finds mean and deviation."""
    torch.manual_seed(0)
    c = torch.rand(512, 1) * 2 - 1
    y = torch.sin(3 * c) + (0.1 + 0.2 * c.abs()) * torch.randn(512, 1)
    flow = Flow(Chain(ActNorm(1), Injector(1, MLP, cond_channels=1)), StandardNormal(1))
    initialize(flow, y, c)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (-flow.log_prob(y, c).mean()).backward()
        optimizer.step()
    at = torch.tensor([[-0.8], [0.0], [0.8]])
    samples = flow.sample(at, num_samples=2000)
    # Fitted to some 50 points around each: 1/√50 of a deviation up to 0.26, and that of a fit.
    assert samples.mean(0).flatten().tolist() == pytest.approx(
        torch.sin(3 * at).flatten().tolist(), abs=0.1
    )
    assert samples.std(0).flatten().tolist() == pytest.approx([0.26, 0.1, 0.26], abs=0.08)


def test_base_without_a_mean_can_be_drawn_from():
    class Heavy(nn.Module):
        def forward(self, cond):
            return Independent(Cauchy(torch.zeros(1, 2, 2, 2), 1.0), 3)

    flow = Flow(ActNorm(2), Heavy())
    assert flow.sample().isfinite().all()
    assert flow.given().log_prob(flow.sample()).isfinite().all()


def test_a_base_of_no_batch_shape_is_shared_by_all_samples():
    class Shared(nn.Module):
        def forward(self, cond):
            return MultivariateNormal(torch.zeros(2), torch.eye(2))

    flow, x = Flow(ActNorm(2), Shared()), torch.randn(5, 2)
    assert flow.sample(num_samples=4).shape == (4, 2)
    for log_prob in (flow.log_prob, flow.given().log_prob):
        torch.testing.assert_close(log_prob(x), Flow(ActNorm(2)).log_prob(x))
