"""Fixed layers: against torch.distributions, at the ends of their domains, and far away."""

import math

import pytest
import torch
from torch import distributions as td

from flowkit import (
    LOFT,
    MLP,
    Chain,
    Coupling,
    Flow,
    Inverse,
    LeakyReLU,
    Logit,
    Sigmoid,
    Softplus,
    Tanh,
)

OF_TORCH = [
    (Sigmoid(), td.SigmoidTransform()),
    (Tanh(), td.TanhTransform()),
    (Softplus(), td.SoftplusTransform()),
    (
        Inverse(Logit(0.1)),
        td.ComposeTransform([td.SigmoidTransform(), td.AffineTransform(-0.125, 1.25)]),
    ),
]
ALL_NUMBERS = [LeakyReLU(0.2), LOFT(2.0), Sigmoid(), Tanh(), Softplus(), Inverse(Logit())]


def numbers(scale=2.0):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("layer", "transform"), OF_TORCH, ids=lambda one: type(one).__name__)
def test_it_is_torchs_transform(layer, transform):
    x = numbers()
    y, logdet = layer(x)
    torch.testing.assert_close(y, transform(x), rtol=1e-12, atol=1e-12)
    slopes = transform.log_abs_det_jacobian(x, transform(x))
    # torch's softplus is x itself from 20 on; x stays below 8.
    torch.testing.assert_close(logdet, slopes.sum((1, 2)), rtol=1e-9, atol=1e-9)
    back, logdet_back = layer.inverse(y)
    torch.testing.assert_close(back, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-8, atol=1e-8)


def test_logit_is_the_formula():
    x = torch.rand(4, 3, 5, dtype=torch.float64)
    x[0, 0, :2] = torch.tensor([0.0, 1.0])
    for alpha in (0.05, 1e-6, 0.49):
        y, logdet = Logit(alpha)(x)
        squeezed = alpha + (1 - 2 * alpha) * x
        # α + (1 - 2α)·1 leaves ten digits of 1 minus it where α is 1e-6.
        torch.testing.assert_close(y, squeezed.logit(), rtol=1e-9, atol=1e-9)
        slopes = math.log(1 - 2 * alpha) - squeezed.log() - (1 - squeezed).log()
        torch.testing.assert_close(logdet, slopes.sum((1, 2)), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(Logit(alpha).inverse(y)[0], x)
    y, logdet = Logit(0.0)(x.clamp(0.01, 0.99))
    other, logdet_other = Inverse(Sigmoid())(x.clamp(0.01, 0.99))
    torch.testing.assert_close(y, other)
    torch.testing.assert_close(logdet, logdet_other)


def test_leaky_relu_and_loft_are_their_formulas():
    x = numbers(5.0)
    y, logdet = LeakyReLU(0.2)(x)
    assert y.equal(torch.nn.functional.leaky_relu(x, 0.2))
    torch.testing.assert_close(logdet, math.log(0.2) * (x < 0).sum((1, 2)).double())
    y, logdet = LOFT(2.0)(x)
    assert y[x.abs() <= 2].equal(x[x.abs() <= 2])
    far = x.abs() > 2
    expected = x.sign() * (2 + (x.abs() - 1).log())
    torch.testing.assert_close(y[far], expected[far])
    slopes = torch.where(far, -(x.abs() - 1).log(), 0.0)
    torch.testing.assert_close(logdet, slopes.sum((1, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", ALL_NUMBERS, ids=lambda one: type(one).__name__)
def test_far_away_all_is_finite(layer, dtype):
    far = [0.0, 1.0, -1.0, 30.0, -30.0, 100.0, -100.0, 1e6, -1e6, 1e-300]
    x = torch.tensor(far, dtype=dtype).reshape(-1, 1).requires_grad_()
    y, logdet = layer(x)
    assert y.isfinite().all()
    assert logdet.isfinite().all()
    (gradient,) = torch.autograd.grad(y.sum() + logdet.sum(), x)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("layer", "outside", "ends"),
    [
        (Logit(), [-0.06, 1.06, -math.inf], "-0.0555556 and 1.05556"),
        (Logit(0.0), [0.0, 1.0, -0.1, 255.0], "0 and 1"),
        (Inverse(Sigmoid()), [0.0, 1.0, 1.1], "0 and 1"),
        (Inverse(Tanh()), [-1.0, 1.0, 2.0], "-1 and 1"),
        (Inverse(Softplus()), [0.0, -1.0], "0 and inf"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, torch.nn.Module) else None,
)
def test_what_is_outside_is_refused(layer, outside, ends):
    for number in outside:
        x = torch.tensor([[0.5, 0.6], [0.7, number]])
        with pytest.raises(ValueError, match=f"strictly between {ends}, got {number:g}"):
            layer(x)


def test_nan_stays_nan():
    for layer in (Logit(), Inverse(Sigmoid()), Inverse(Tanh()), Inverse(Softplus()), *ALL_NUMBERS):
        y, logdet = layer(torch.tensor([[0.5, math.nan], [0.25, 0.5]]))
        assert y.isnan().tolist() == [[False, True], [False, False]]
        assert logdet[1].isfinite()


def test_a_captured_graph_does_not_raise_and_is_the_same_inside():
    layer, x = Logit(), torch.rand(3, 2)
    captured = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(captured(x), layer(x))
    assert captured(x + 7)[0].isnan().all()


def test_gradients_of_each_sample_by_vmap():
    flow, x = Flow(Chain(Logit(), Tanh(), Inverse(Sigmoid()))), 0.6 + 0.3 * torch.rand(3, 2)
    score = torch.func.grad(lambda one: flow.log_prob(one[None]).sum())
    x.requires_grad_()
    (expected,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    torch.testing.assert_close(torch.func.vmap(score)(x.detach()), expected)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: Logit(0.5), r"Logit: expected 0 <= alpha < 0.5, got 0.5"),
        (lambda: Logit(-0.1), r"Logit: expected 0 <= alpha < 0.5"),
        (lambda: LeakyReLU(0.0), r"LeakyReLU: expected slope > 0, got 0"),
        (lambda: LOFT(-1.0), r"LOFT: expected threshold > 0, got -1"),
        (lambda: LOFT(math.inf), r"LOFT: expected threshold > 0, got inf"),
    ],
)
def test_impossible_numbers_are_refused(build, expected):
    with pytest.raises(ValueError, match=expected):
        build()


def test_pictures_in_a_unit_box_are_a_line_away():
    torch.manual_seed(0)
    flow = Flow(Chain(Logit(), Coupling(4, MLP)))
    x = torch.rand(8, 4)
    (-flow.log_prob(x).mean()).backward()
    samples = flow.sample(num_samples=200, shape=(4,))
    margin = 0.05 / 0.9
    assert (samples > -margin).all()
    assert (samples < 1 + margin).all()
    assert flow.log_prob(samples.flatten(0, -2)).isfinite().all()
