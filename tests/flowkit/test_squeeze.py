"""Squeeze: any factor, any number of axes."""

import pytest
import torch

from flowkit import Squeeze

CASES = [
    ((3,), 2, (2, 12), (4, 6)),
    ((2, 2), 2, (3, 4, 6), (12, 2, 3)),
    ((1, 2), (1, 2), (3, 5, 6), (6, 5, 3)),
    ((3, 3), 3, (1, 6, 3), (9, 2, 1)),
    ((2, 2, 2), 2, (1, 2, 4, 6), (8, 1, 2, 3)),
    ((1,), 1, (2, 5), (2, 5)),
]


@pytest.mark.parametrize(("_", "factor", "before", "after"), CASES)
def test_shapes_and_the_way_back(_, factor, before, after):
    layer = Squeeze(factor)
    x = torch.randn(2, *before)
    y, logdet = layer(x)
    assert y.shape == (2, *after)
    assert logdet.equal(torch.zeros(2))
    assert layer.inverse(y)[0].equal(x)
    assert layer.shape(before) == after
    assert layer.shape(after, inverse=True) == before


def test_channels_hold_the_places_of_a_block_in_rows():
    x = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6).float()
    y, _ = Squeeze((2, 3))(x)
    for c in range(2):
        for dy in range(2):
            for dx in range(3):
                assert y[0, c * 6 + dy * 3 + dx].equal(x[0, c, dy::2, dx::3])
    t = torch.arange(8).reshape(1, 1, 8).float()
    assert Squeeze()(t)[0].equal(torch.stack([t[:, 0, ::2], t[:, 0, 1::2]], dim=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Squeeze()(torch.zeros(1, 2, 3, 4)),
            r"multiples of 2, .* \(2, 3, 4\)",
        ),
        (lambda: Squeeze(3)(torch.zeros(1, 2, 8)), r"T to be multiples of 3, .* \(2, 8\)"),
        (lambda: Squeeze().inverse(torch.zeros(1, 6, 2, 2)), r"multiple of 4, .* \(6, 2, 2\)"),
        (
            lambda: Squeeze()(torch.zeros(1, 2)),
            r"at least one axis behind .*, got \(2,\)",
        ),
        (
            lambda: Squeeze((2, 2))(torch.zeros(1, 2, 4)),
            r"2 axes behind .*, got \(2, 4\)",
        ),
        (lambda: Squeeze().shape((1, 7, 8)), r"multiples of 2, got samples of shape \(1, 7, 8\)"),
        (lambda: Squeeze().shape((3, 4, 4), inverse=True), r"multiple of 4, .* \(3, 4, 4\)"),
    ],
)
def test_it_refuses(call, message):
    with pytest.raises(ValueError, match=f"Squeeze.*: expected .*{message}"):
        call()
