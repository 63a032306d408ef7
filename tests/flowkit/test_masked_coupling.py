"""MaskedCoupling: what a mask keeps, what the net sees, and the Jacobian that follows."""

from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import (
    MLP,
    Additive,
    Affine,
    Checkerboard,
    ConvNet,
    Coupling,
    MaskedCoupling,
    RationalQuadraticSpline,
    Stripes,
)

CONV, MIX = partial(ConvNet, hidden=4), partial(MLP, hidden=6)
LINE = partial(ConvNet, hidden=4, axes=1)
CASES = {
    "checkerboard": (Checkerboard(), CONV, (2, 3, 3)),
    "its other colour": (Checkerboard(odd=True), CONV, (1, 2, 5)),
    "columns": (Stripes(), CONV, (1, 3, 4)),
    "rows": (Stripes(0, odd=True), CONV, (1, 3, 4)),
    "every other step": (Checkerboard(), partial(ConvNet, hidden=4, axes=1), (2, 5)),
    "channels": ([1, 0, 0, 1], MIX, (4,)),
    "channels of images": ([0, 1, 0], CONV, (3, 2, 3)),
    "both": (lambda S, device: torch.arange(6, device=device).reshape(3, 2) < 4, CONV, (2, 3, 2)),
}


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_masks_by_hand():
    board = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    assert Checkerboard()((3, 3)).equal(board)
    assert Checkerboard(odd=True)((3, 3)).equal(~board)
    assert Checkerboard()((4,)).equal(torch.tensor([True, False, True, False]))
    assert Checkerboard()((3, 3, 3))[1].equal(~board)
    assert Stripes()((2, 3)).expand(2, 3).equal(board[:1].expand(2, 3))
    assert Stripes(0)((3, 2)).expand(3, 2).equal(board[:, :1].expand(3, 2))
    assert Stripes(0, odd=True)((3, 2)).expand(3, 2).equal(~board[:, :1].expand(3, 2))
    assert Stripes(-2)((3, 2)).equal(Stripes(0)((3, 2)))


@pytest.mark.parametrize("how", [Affine(), Additive(), RationalQuadraticSpline(4)])
@pytest.mark.parametrize("case", CASES)
def test_the_jacobian_with_the_kept_first_is_triangular(case, how):
    mask, net, shape = CASES[case]
    layer = moved(MaskedCoupling(shape[0], mask, net, how), by=0.5).double()
    x = normal(*shape)
    kept = layer.kept(x[None]).expand(1, *shape).flatten()
    slopes = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0][0], x)
    slopes = slopes.reshape(x.numel(), x.numel())
    assert slopes[kept].equal(torch.eye(x.numel(), dtype=torch.float64)[kept])
    among = slopes[~kept][:, ~kept]
    assert among.equal(among.diagonal().diag())
    assert slopes[~kept][:, kept].any()
    _, logdet = layer(x[None])
    torch.testing.assert_close(logdet[0], among.diagonal().log().sum())


def test_equal_to_a_coupling_where_the_mask_keeps_the_first_channels():
    """The same net, which in Coupling doesn't get what is changed."""
    masked = moved(MaskedCoupling(4, [1, 1, 0, 0], partial(MLP, hidden=6))).double()
    plain = Coupling(4, partial(MLP, hidden=6)).double()
    with torch.no_grad():
        plain.net.first.weight.copy_(masked.net.first.weight[:, :2])
        plain.net.first.bias.copy_(masked.net.first.bias)
        plain.net.between.load_state_dict(masked.net.between.state_dict())
        for name in ("weight", "bias"):
            rows = getattr(masked.net.last, name).unflatten(0, (2, 4))[:, 2:].flatten(0, 1)
            getattr(plain.net.last, name).copy_(rows)
    x = normal(5, 4)
    for one, other in ((masked, plain), (masked.inverse, plain.inverse)):
        for came, expected in zip(one(x), other(x), strict=True):
            torch.testing.assert_close(came, expected)


def test_what_is_changed_cannot_reach_the_net():
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.new_zeros(len(x), 4, *x.shape[2:])

    layer = MaskedCoupling(2, Checkerboard(), lambda *_: Net())
    x = normal(1, 2, 4, 4)
    layer(x)
    assert seen[0].equal(x * Checkerboard()((4, 4)))
    x[..., 0, 1] = torch.inf
    assert layer(x)[0][..., 0, 0].isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (7, 2)])
def test_one_layer_for_any_size(size):
    layer = moved(MaskedCoupling(2, Checkerboard(), CONV)).double()
    x = normal(2, 2, *size)
    y, logdet = layer(x)
    back, logdet_back = layer.inverse(y)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(logdet_back, -logdet)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (
            ValueError,
            lambda: MaskedCoupling(3, [1, 0], MLP),
            r"3 times 0 or 1, .* \[1, 0\]",
        ),
        (ValueError, lambda: MaskedCoupling(2, [1, 1], MLP), r"of both kinds, got \[1, 1\]"),
        (ValueError, lambda: MaskedCoupling(2, [0.5, 1], MLP), r"times 0 or 1, .* \[0.5, 1.0\]"),
        (TypeError, lambda: MaskedCoupling(2, Stripes, MLP), r"got the class Stripes \(call it\)"),
        (
            ValueError,
            lambda: MaskedCoupling(2, Checkerboard(), MLP)(torch.zeros(1, 2)),
            "with places, got vectors",
        ),
        (
            ValueError,
            lambda: MaskedCoupling(2, Stripes(2), CONV).shape((2, 4, 4)),
            r"axis 2 among their places, got places \(4, 4\)",
        ),
        (
            ValueError,
            lambda: MaskedCoupling(2, Stripes(), CONV)(torch.zeros(1, 3, 4, 4)),
            r"\(B, 2, \*S\), got \(1, 3, 4, 4\)",
        ),
        (
            ValueError,
            lambda: MaskedCoupling(2, Stripes(), lambda *_: nn.Conv2d(2, 3, 1))(
                torch.zeros(1, 2, 4, 4)
            ),
            r"2 numbers for each of 2 channels",
        ),
        (
            # Which would make three samples of one.
            ValueError,
            lambda: MaskedCoupling(1, lambda *_: torch.eye(3)[:, None], LINE)(torch.zeros(1, 1, 3)),
            r"a mask that broadcasts to \(3,\), got \(3, 1, 3\)",
        ),
        (
            ValueError,
            lambda: MaskedCoupling(1, lambda *_: torch.ones(4), LINE)(torch.zeros(1, 1, 3)),
            r"a mask that broadcasts to \(3,\), got \(4,\)",
        ),
        (
            TypeError,
            lambda: MaskedCoupling(1, lambda *_: [1, 0, 1], LINE)(torch.zeros(1, 1, 3)),
            "expected the mask as a tensor, got list",
        ),
    ],
)
def test_it_refuses(error, call, message):
    with pytest.raises(error, match=message):
        call()
