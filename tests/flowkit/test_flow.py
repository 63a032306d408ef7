"""Flow: densities against closed forms, and what samples share."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from flowkit import (
    ActNorm,
    AffineCoupling,
    AffineInjector,
    At,
    Chain,
    ConvNet,
    Example,
    Flow,
    InvConv1x1,
    Inverse,
    Squeeze,
    image_normal,
)
from flowkit.testing import randomized


def linear_flow(batch=1):
    """A flow whose density is a Gaussian, over (2, 2, 2), in float64."""
    build = lambda: Chain(ActNorm(2), InvConv1x1(2), Squeeze(), ActNorm(8), InvConv1x1(8))  # noqa: E731
    bijection = randomized(Example(build, (2, 2, 2)), seed=0, dtype=torch.float64)
    mean = (
        torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(1, 8, 1, 1).expand(batch, -1, -1, -1)
    )
    return Flow(bijection, lambda cond: image_normal(mean, 0.5))


def its_gaussian(flow):
    """x = A·z + b, so x ~ N(A·mean + b, 0.25·A·Aᵀ)."""
    mean = flow.base(None).mean

    def data(z):
        return flow.bijection.inverse(z.reshape(mean.shape))[0].flatten()

    slope = torch.autograd.functional.jacobian(data, mean.flatten())
    return MultivariateNormal(data(mean.flatten()).detach(), 0.25 * slope @ slope.T)


class CountedNet(ConvNet):
    """A conditioner that counts how often it is called."""

    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out, hidden=4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def conditional_flow():
    """The injector sees the condition, and so does the base's mean."""
    build = lambda: Chain(  # noqa: E731
        ActNorm(2),
        At("half", AffineInjector(2, CountedNet, cond_channels=3)),
        InvConv1x1(2),
    )
    bijection = randomized(Example(build, (2, 4, 4)), seed=0)
    return Flow(bijection, lambda cond: image_normal(cond["half"][:, :2]))


def condition(batch=3):
    generator = torch.Generator().manual_seed(1)
    return {"half": torch.randn(batch, 3, 4, 4, generator=generator)}


def test_log_prob_of_a_linear_flow_is_its_gaussian():
    flow = linear_flow()
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = its_gaussian(flow).log_prob(x.flatten())[None]
    # float64 rounding, times the conditioning of an 8×8 covariance, some 1e3.
    torch.testing.assert_close(flow.log_prob(x), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(flow(x), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(flow.given().log_prob(x), expected, rtol=1e-11, atol=1e-11)


def test_samples_of_a_linear_flow_have_its_mean_and_covariance():
    gaussian = its_gaussian(linear_flow())
    torch.manual_seed(0)
    count = 4000
    samples = linear_flow(batch=count // 4).sample(num_samples=4).reshape(count, -1)
    deviation = gaussian.variance.sqrt()
    # The error of a mean is σ/√n, that of an entry of the covariance at most √2·σᵢσⱼ/√n. 5 of these
    # would be a chance of 1e-6 each, were the seed not fixed.
    bound = 5 / math.sqrt(count)
    assert ((samples.mean(0) - gaussian.mean).abs() < bound * deviation).all()
    scale = math.sqrt(2) * deviation[:, None] * deviation
    assert ((samples.T.cov() - gaussian.covariance_matrix).abs() < bound * scale).all()


def test_temperature_scales_the_deviation():
    flow = Flow(Chain(), lambda cond: image_normal(torch.zeros(1000, 2, 2, 2), 0.5))
    torch.manual_seed(0)
    samples = flow.sample(temperature=0.5, num_samples=4).flatten(0, 1)
    # The relative error of a standard deviation is 1/√2n = 0.011; 5 of them.
    spread = samples.std(dim=0)
    torch.testing.assert_close(spread, torch.full_like(spread, 0.25), rtol=0.06, atol=0)


def test_temperature_0_is_the_image_of_the_mean():
    flow, cond = conditional_flow(), condition()
    expected, _ = flow.bijection.inverse(flow.base(cond).mean, cond)
    one = flow.sample(cond, temperature=0.0)
    many = flow.sample(cond, temperature=0.0, num_samples=2)
    # The net's result is taken from `prepare`; nothing else differs.
    torch.testing.assert_close(one, expected)
    assert many[0].equal(one)
    assert many[1].equal(one)


def test_sample_shapes():
    flow, cond = conditional_flow(), condition(batch=3)
    assert flow.sample(cond).shape == (3, 2, 4, 4)
    assert flow.sample(cond, num_samples=1).shape == (1, 3, 2, 4, 4)
    assert flow.sample(cond, num_samples=5).shape == (5, 3, 2, 4, 4)
    given = flow.given(cond)
    assert given.sample().shape == (3, 2, 4, 4)
    samples = given.sample((2, 4))
    assert samples.shape == (2, 4, 3, 2, 4, 4)
    assert given.log_prob(samples).shape == (2, 4, 3)
    assert linear_flow().sample(num_samples=2).shape == (2, 1, 2, 2, 2)


def test_samples_differ():
    samples = conditional_flow().sample(condition(), num_samples=2)
    assert (samples[0] != samples[1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -0.1}, r"temperature >= 0, got -0.1"),
        ({"num_samples": 0}, r"num_samples >= 1, got 0"),
    ],
)
def test_sample_refuses(arguments, message):
    with pytest.raises(ValueError, match=rf"Flow.sample: expected {message}"):
        linear_flow().sample(**arguments)


def test_given_agrees_with_log_prob():
    flow, cond = conditional_flow(), condition()
    x = torch.randn(3, 2, 4, 4)
    given = flow.given(cond)
    # The same sums in the same order, but for the sign of the log-det.
    torch.testing.assert_close(given.log_prob(x), flow.log_prob(x, cond), rtol=1e-6, atol=1e-5)
    samples = given.rsample((2,))
    expected = torch.stack([flow.log_prob(sample, cond) for sample in samples])
    # Here the log-det comes from the inverse, 32 float32 terms of up to 5: 1e-5 of their sum.
    torch.testing.assert_close(given.log_prob(samples), expected, rtol=1e-5, atol=1e-4)


def test_given_runs_the_injectors_net_once():
    flow, cond = conditional_flow(), condition()
    net = flow.bijection[1].bijection.net
    given = flow.given(cond)
    assert net.calls == 1
    samples = given.sample((5,))
    given.log_prob(samples)
    given.log_prob(torch.randn(3, 2, 4, 4))
    assert net.calls == 1
    flow.sample(cond, num_samples=7)
    assert net.calls == 2
    flow.log_prob(samples[0], cond)
    assert net.calls == 3


def test_log_det_of_a_pair_that_was_not_the_last_one_mapped():
    coupling = randomized(AffineCoupling.examples()[0], seed=0)
    transform = Flow(coupling, image_normal).given(torch.zeros(3, 4, 2, 2)).transforms[0]
    noise = torch.randn(3, 4, 2, 2)
    data = transform(noise)
    _, expected = coupling.inverse(noise)
    assert transform.log_abs_det_jacobian(noise, data).equal(expected)
    transform(torch.randn(3, 4, 2, 2))
    assert transform.log_abs_det_jacobian(noise, data).equal(expected)
    torch.testing.assert_close(transform.inv.log_abs_det_jacobian(data, noise), -expected)


def test_gradients_reach_parameters_and_base_through_samples():
    flow, cond = conditional_flow(), condition()
    cond["half"].requires_grad_()
    flow.sample(cond).square().sum().backward()
    assert cond["half"].grad.any()
    assert all(parameter.grad is not None for parameter in flow.parameters())


def test_base_may_be_a_module():
    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(1, 2, 4, 4))

        def forward(self, cond):
            return image_normal(self.mean)

    flow = Flow(ActNorm(2), Base())
    flow.log_prob(torch.ones(3, 2, 4, 4)).sum().backward()
    assert flow.base.mean.grad.any()


def test_fold_keeps_the_density():
    flow, cond = conditional_flow(), condition()
    x = torch.randn(3, 2, 4, 4)
    folded = flow.fold()
    # float32 weights rounded anew, 6e-8 each, behind a net of fan-in 36.
    torch.testing.assert_close(
        folded.log_prob(x, cond), flow.log_prob(x, cond), rtol=1e-5, atol=1e-4
    )
    assert len(folded.bijection) == 3


def test_training_fits_a_gaussian():
    """The whole of it: log_prob, backward and an optimiser find a known mean and scale."""
    torch.manual_seed(0)
    data = 3 + 0.5 * torch.randn(256, 1, 2, 2)
    flow = Flow(ActNorm(1), lambda cond: image_normal(torch.zeros(1, 1, 2, 2)))
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


def test_base_of_another_shape_is_refused():
    flow = Flow(Squeeze(), lambda cond: image_normal(torch.zeros(2, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"event shape \(12, 2, 2\), got \(2,\) and \(3, 4, 4\)"):
        flow.log_prob(torch.zeros(2, 3, 4, 4))


def test_distribution_knows_the_shape_of_its_samples():
    chain = Chain(Squeeze(), Inverse(Squeeze()), Squeeze())
    given = Flow(chain, lambda cond: image_normal(torch.zeros(2, 12, 2, 3))).given()
    assert given.event_shape == (3, 4, 6)
    assert given.batch_shape == (2,)
    assert given.sample((5,)).shape == (5, 2, 3, 4, 6)


def test_density_of_a_picture_that_changes_in_place():
    """What a distribution keeps of its last call is used once, for the same numbers."""
    flow = linear_flow()
    given = flow.given()
    y = given.sample().requires_grad_()
    optimizer = torch.optim.SGD([y], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        (-given.log_prob(y)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(given.log_prob(y), flow.log_prob(y))
    with torch.no_grad():
        given.log_prob(y)
    assert given.log_prob(y).requires_grad


def test_unconditional_samples_are_one_batch():
    flow = linear_flow()
    batches = []
    inverse = flow.bijection.inverse
    flow.bijection.inverse = lambda y, cond=None: batches.append(len(y)) or inverse(y, cond)
    assert flow.sample(num_samples=7).shape[0] == 7
    assert batches == [7]
    assert flow.given().sample((0,)).shape[0] == 0


def test_base_without_a_mean_can_be_drawn_from():
    base = torch.distributions.Cauchy(torch.zeros(1, 2, 2, 2), 1.0)
    flow = Flow(ActNorm(2), lambda cond: torch.distributions.Independent(base, 3))
    assert flow.sample().isfinite().all()


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_impossible_temperatures(temperature):
    with pytest.raises(ValueError, match="temperature >= 0"):
        linear_flow().sample(temperature=temperature)


def test_base_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="function of the condition, got Independent"):
        Flow(ActNorm(2), image_normal(torch.zeros(1, 2, 2, 2)))
