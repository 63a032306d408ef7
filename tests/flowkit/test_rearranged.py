"""Haar, Reshape, Flatten and Standardize against what they are by hand."""

import pytest
import torch

from flowkit import ActNorm, Chain, Flatten, Haar, Reshape, Standardize, initialize


def test_haar_of_a_block_by_hand():
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    y, logdet = Haar()(x)
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    # Coarse, differences between rows, between columns, and across.
    bands = [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    torch.testing.assert_close(y, torch.cat(bands, dim=1) / 2)
    assert logdet.equal(torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("places", [(6,), (2, 4), (2, 2, 4)])
def test_haar_is_orthogonal_and_its_first_channels_are_averages(places):
    x = torch.randn(2, 3, *places, dtype=torch.float64)
    y, _ = Haar()(x)
    assert y.shape[1:] == Haar().shape((3, *places))
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    torch.testing.assert_close(Haar().inverse(y)[0], x)
    pool = {1: torch.nn.AvgPool1d, 2: torch.nn.AvgPool2d, 3: torch.nn.AvgPool3d}[len(places)]
    torch.testing.assert_close(y[:, :3], pool(2)(x) * 2 ** (len(places) / 2))


def test_reshape_keeps_the_order():
    x = torch.arange(24.0).reshape(2, 2, 2, 3)
    assert Reshape((2, 2, 3), (4, 3))(x)[0].equal(x.reshape(2, 4, 3))
    assert Flatten((2, 2, 3))(x)[0].equal(x.flatten(1))
    assert Flatten((2, 2, 3)).inverse(x.flatten(1))[0].equal(x)
    assert Flatten((2, 2, 3)).shape((12,), inverse=True) == (2, 2, 3)


@pytest.mark.parametrize("places", [(), (5,), (4, 5)])
def test_standardize_from_data(places):
    torch.manual_seed(0)
    x = 5 + 2 * torch.randn(64, 3, *places, dtype=torch.float64)
    x[:, 1] = 7.0
    layer = Standardize.from_data(x)
    y, logdet = layer(x)
    flat = y.transpose(0, 1).flatten(1)
    # float64's rounding of sums of 64 numbers and more.
    torch.testing.assert_close(flat.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-12)
    deviation = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(flat.std(1, correction=0), deviation, rtol=0, atol=1e-12)
    count = torch.tensor(places).prod() if places else 1
    expected = -count * x.transpose(0, 1).flatten(1).std(1, correction=0)[[0, 2]].log().sum()
    torch.testing.assert_close(logdet, expected.double().expand(64))
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"mean", "std"}


def test_initialize_sets_standardize_unless_its_numbers_were_said():
    torch.manual_seed(0)
    data, batch = 5 + 2 * torch.randn(256, 3), torch.randn(8, 3)
    open_, said = Standardize(3), Standardize.from_data(data)
    before = said.mean.clone()
    initialize(Chain(said, open_, ActNorm(3)), batch)
    assert said.mean.equal(before)
    torch.testing.assert_close(open_.mean, said(batch)[0].mean(0))
    torch.testing.assert_close(open_.std, said(batch)[0].std(0, correction=0))


def test_dates_have_a_deviation():
    """Seconds since 1970 of one hour: 1e-6 of them, but far more than rounding in float64."""
    seconds = 1.7e9 + 3600 * torch.rand(100, 1, dtype=torch.float64)
    y, _ = Standardize.from_data(seconds)(seconds)
    # What the mean has lost by rounding, in units of the deviation, is 1e-10.
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(1).double(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Haar()(torch.zeros(1, 2)), r"Haar: expected samples \(C, \*S\) .* \(2,\)"),
        (lambda: Haar()(torch.zeros(1, 2, 3)), r"Haar: expected even sizes, .* \(2, 3\)"),
        (lambda: Haar().inverse(torch.zeros(1, 6, 2, 2)), r"multiple of 4, .* \(6, 2, 2\)"),
        (lambda: Reshape((2, 3), (7,)), r"Reshape: expected shapes of as many numbers"),
        (lambda: Reshape((), ()), r"Reshape: expected a shape \(C, \*S\), got \(\)"),
        (lambda: Flatten((2, 0)), r"Flatten: expected a shape \(C, \*S\), got \(2, 0\)"),
        (lambda: Flatten((2, 3))(torch.zeros(1, 3, 2)), r"of shape \(2, 3\), got \(3, 2\)"),
        (lambda: Standardize(0), "channels >= 1, got 0"),
        (lambda: Standardize(2, mean=torch.zeros(2)), r"shape \(2,\), got \[\(2,\), None\]"),
        (
            lambda: Standardize(2, mean=torch.zeros(2), std=torch.tensor([1.0, 0.0])),
            r"std > 0, got .* \[1.0, 0.0\]",
        ),
        (lambda: Standardize(1, mean=[0.0], std=[1.0]), "as tensors, got list .torch.as_tensor"),
        (lambda: Flatten(6), r"Flatten: expected a shape \(C, \*S\), got int"),
        (lambda: Standardize.from_data(torch.zeros(0, 2)), "finite numbers"),
        (lambda: Standardize(2)(torch.zeros(1, 3)), r"\(B, 2, \*S\), got \(1, 3\)"),
    ],
)
def test_they_refuse(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
