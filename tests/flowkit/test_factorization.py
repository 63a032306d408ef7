"""log|det W| and W⁻¹: exact, worked out once for every value of a parameter, never stale."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flowkit import InvConv1x1, factorization


def matrix(size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, size, generator=generator, dtype=torch.float64)


@pytest.fixture
def counted(monkeypatch):
    """How often a matrix was factorised."""
    calls = []
    factorise = torch.linalg.lu_factor_ex

    def counting(weight):
        calls.append(weight)
        return factorise(weight)

    monkeypatch.setattr(torch.linalg, "lu_factor_ex", counting)
    return calls


@pytest.mark.parametrize("kind", [nn.Parameter, torch.Tensor.requires_grad_])
def test_values_and_gradients(kind):
    """A parameter's are remembered, another tensor's aren't."""
    weight = kind(matrix())
    exact = torch.linalg.slogdet(matrix()).logabsdet, torch.linalg.inv(matrix())
    for function, expected in zip(
        (factorization.logabsdet, factorization.inverse), exact, strict=True
    ):
        torch.testing.assert_close(function(weight), expected, rtol=1e-12, atol=1e-12)
        assert torch.autograd.gradcheck(function, weight, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, weight)


def test_once_for_forward_inverse_and_gradient(counted):
    layer = InvConv1x1(4)
    x = torch.randn(2, 4, 3, 3)
    y, logdet = layer(x)
    back, negative = layer.inverse(y)
    (back.sum() + logdet.sum() + negative.sum()).backward()
    with torch.no_grad():
        layer.inverse(y)
    assert len(counted) == 1


def step_of(optimizer, **options):
    def change(weight):
        weight.grad = torch.ones_like(weight)
        optimizer([weight], lr=0.1, **options).step()

    return change


@pytest.mark.parametrize(
    "change",
    [
        step_of(torch.optim.SGD),
        step_of(torch.optim.Adam, fused=True),  # leaves the version as it is
        lambda weight: weight.data.mul_(2.0),  # so does this
        lambda weight: nn.init.orthogonal_(weight),
        lambda weight: setattr(weight, "data", weight.data + 1),
    ],
    ids=["SGD", "fused Adam", "data in place", "init", "data replaced"],
)
def test_never_stale(change):
    weight = nn.Parameter(matrix())
    before = factorization.inverse(weight).detach().clone()
    change(weight)
    after = factorization.inverse(weight)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, torch.linalg.inv(weight), rtol=1e-12, atol=1e-12)
    expected = torch.linalg.slogdet(weight).logabsdet
    torch.testing.assert_close(factorization.logabsdet(weight), expected)


def test_in_another_precision():
    layer = InvConv1x1(4)
    x = torch.randn(2, 4, 3, 3)
    layer.inverse(x)
    layer.double()
    y, logdet = layer.inverse(x.double())
    assert y.dtype == logdet.dtype == torch.float64


def test_a_copy_is_on_its_own():
    layer = InvConv1x1(4)
    layer.inverse(torch.randn(2, 4, 3, 3))
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.mul_(2)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(layer.inverse(x)[0], 2 * other.inverse(x)[0])


def test_what_is_given_away_may_be_changed():
    weight = nn.Parameter(matrix())
    with torch.no_grad():
        factorization.inverse(weight).zero_()
        expected = torch.linalg.inv(weight)
        torch.testing.assert_close(factorization.inverse(weight), expected)


def test_singular():
    weight = nn.Parameter(torch.ones(3, 3))
    assert factorization.logabsdet(weight) == -torch.inf
    for kept in (weight, weight.detach()):
        with pytest.raises(torch.linalg.LinAlgError):
            factorization.inverse(kept)
    with pytest.raises(torch.linalg.LinAlgError, match=r"InvConv1x1: expected an invertible W.*3"):
        factorization.inverse(weight)


def test_a_singular_matrix_has_no_finite_gradient():
    """It is for whoever trains to skip the step; the backward pass itself goes through."""
    layer = InvConv1x1(3)
    nn.init.ones_(layer.weight)
    layer(torch.rand(1, 3, 2, 2))[1].sum().backward()
    assert not layer.weight.grad.isfinite().any()


def test_fake_tensors_leave_nothing_behind():
    layer, x = InvConv1x1(3), torch.rand(1, 3, 2, 2)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for _ in range(2):
            layer(mode.from_tensor(x))
            layer.inverse(mode.from_tensor(x))
    y, logdet = layer.inverse(x)
    assert type(y) is type(logdet) is torch.Tensor


def test_without_data():
    with torch.device("meta"):
        layer = InvConv1x1(4)
        y, logdet = layer.inverse(torch.empty(2, 4, 3, 3))
    assert y.shape == (2, 4, 3, 3)
    assert logdet.shape == (2,)


def test_per_sample_gradients_by_function_transforms():
    layer = InvConv1x1(3)
    weight = layer.weight.detach()
    x = torch.randn(2, 3, 2, 2)

    def loss(parameters, sample):
        y, logdet = torch.func.functional_call(layer, parameters, (sample[None],))
        return y.square().sum() + logdet.sum()

    grads = torch.func.vmap(torch.func.grad(loss), (None, 0))({"weight": weight}, x)["weight"]
    for sample, grad in zip(x, grads, strict=True):
        layer.zero_grad()
        loss(dict(layer.named_parameters()), sample).backward()
        torch.testing.assert_close(grad, layer.weight.grad, rtol=1e-5, atol=1e-5)
