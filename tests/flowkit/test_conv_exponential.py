"""ConvExponential against the exponential of the convolution's matrix."""

import pytest
import torch
from moved import moved

from flowkit import ConvExponential
from flowkit.layers.conv_exponential import _terms
from flowkit.nets.spectral import largest_stretch
from flowkit.nets.zero import CONVOLUTION

CASES = [
    ((3,), 0, 3, 1.0),
    ((2, 5), 1, 3, 2.0),
    ((2, 3, 4), 2, 3, 1.0),
    ((1, 2, 2), 2, 5, 4.0),
    ((2, 2, 2, 3), 3, 3, 1.0),
]


def matrix_of(layer, shape):
    basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).unflatten(1, shape)
    padding = {"padding": layer.width // 2} if layer.axes else {}
    return CONVOLUTION[layer.axes](basis, layer.weight(), **padding).flatten(1).T


@pytest.mark.parametrize(("shape", "axes", "width", "bound"), CASES)
def test_it_is_the_matrix_exponential(shape, axes, width, bound):
    layer = moved(ConvExponential(shape[0], axes=axes, width=width, bound=bound), by=1.0).double()
    matrix = matrix_of(layer, shape)
    x = torch.randn(3, *shape, dtype=torch.float64)
    for sign, (y, logdet) in ((1, layer(x)), (-1, layer.inverse(x))):
        exponential = torch.linalg.matrix_exp(sign * matrix)
        torch.testing.assert_close(y.flatten(1), x.flatten(1) @ exponential.T)
        expected = torch.linalg.slogdet(exponential).logabsdet
        torch.testing.assert_close(logdet, expected.expand(3))
        assert expected.abs() > 1e-3


@pytest.mark.parametrize(("shape", "axes", "width", "bound"), CASES)
def test_the_bound_holds_for_large_weights(shape, axes, width, bound):
    layer = moved(ConvExponential(shape[0], axes=axes, width=width, bound=bound), by=100).double()
    stretch = torch.linalg.matrix_norm(matrix_of(layer, shape), ord=2)
    assert bound / 20 < stretch < bound
    assert stretch <= largest_stretch(layer.weight()) < bound
    x = torch.randn(3, *shape, dtype=torch.float64)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x)


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("precision", [1e-3, torch.finfo(torch.float32).eps, 2.3e-16])
def test_as_few_terms_as_the_precision_needs(bound, precision):
    n = _terms(bound, precision)
    k = torch.arange(1, n + 2, dtype=torch.float64)
    rest = (bound / k).cumprod(0) * torch.tensor(bound).exp()
    assert rest[n] < precision <= rest[n - 1]


def test_as_many_terms_as_the_docstring_says():
    assert _terms(1.0, torch.finfo(torch.float32).eps) == 10
    assert _terms(1.0, torch.finfo(torch.float64).eps) == 18


def test_it_starts_as_the_identity():
    x = torch.randn(2, 3, 4, 5)
    y, logdet = ConvExponential(3)(x)
    assert y.equal(x)
    assert not logdet.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvExponential(0), "channels >= 1, got 0"),
        (lambda: ConvExponential(2, width=4), "an odd width, .* got 4, 2 and 1.0"),
        (lambda: ConvExponential(2, axes=4), "got 3, 4 and 1.0"),
        (lambda: ConvExponential(2, bound=0.0), "a bound > 0, got 3, 2 and 0.0"),
        (lambda: ConvExponential(2)(torch.zeros(1, 2, 3)), r"\(B, 2, H, W\), got \(1, 2, 3\)"),
    ],
)
def test_it_refuses(call, message):
    with pytest.raises(ValueError, match=f"ConvExponential: expected .*{message}"):
        call()
