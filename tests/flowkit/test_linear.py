"""InvertibleLinear: the parametrisations of W, and their inverses."""

import pytest
import torch
from torch import nn

from flowkit import PLU, Full, InvertibleLinear, Orthogonal
from flowkit.layers import Weight

KINDS = [Full, PLU, Orthogonal]


def layer_of(kind, channels=5, moved=True):
    torch.manual_seed(0)
    layer = InvertibleLinear(channels, kind)
    if moved:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=1 / channels**0.5)
    return layer.double()


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_inverse_and_log_det_are_those_of_the_matrix(kind, channels, moved):
    weight = layer_of(kind, channels, moved).weight
    matrix = weight.matrix()
    torch.testing.assert_close(weight.inverse(), torch.linalg.inv(matrix), rtol=1e-9, atol=1e-9)
    expected = torch.linalg.slogdet(matrix).logabsdet
    torch.testing.assert_close(weight.logabsdet(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_a_rotation(kind):
    matrix = layer_of(kind, moved=False).weight.matrix()
    # QR and LU in float32.
    identity = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.mT, identity, rtol=0, atol=1e-5)


def test_orthogonal_stays_one_and_every_parameter_counts():
    weight = layer_of(Orthogonal).weight
    matrix = weight.matrix()
    identity = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.mT, identity, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weight.inverse(), matrix.mT, rtol=1e-12, atol=1e-12)
    assert weight.logabsdet() == 0
    below = torch.ones(5, 5, dtype=torch.bool).tril(-1)
    matrix[0].sum().backward()
    assert weight.vectors.grad[below].all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("places", [(), (3,), (2, 3)])
def test_it_is_the_matrix_at_every_place(kind, places):
    layer = layer_of(kind)
    x = torch.randn(2, 5, *places, dtype=torch.float64)
    y, logdet = layer(x)
    matrix = layer.weight.matrix()
    torch.testing.assert_close(y, torch.einsum("oc,bc...->bo...", matrix, x))
    count = x[0, 0].numel()
    torch.testing.assert_close(logdet, (count * layer.weight.logabsdet()).expand(2))
    back, logdet_back = layer.inverse(y)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logdet_back, -logdet)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_parameters_through_both_directions(kind):
    layer = layer_of(kind, 3)
    x = torch.randn(2, 3, 2, dtype=torch.float64)
    for direction in (layer, layer.inverse):
        # gradcheck moves the parameters themselves.
        torch.autograd.gradcheck(
            lambda *_, run=direction: run(x), tuple(layer.parameters()), fast_mode=True
        )


def test_a_singular_matrix_raises():
    layer = InvertibleLinear(2)
    nn.init.ones_(layer.weight.entries)
    with pytest.raises(torch.linalg.LinAlgError):
        layer.inverse(torch.randn(1, 2, 2, 2))
    assert layer(torch.randn(1, 2, 2, 2))[1].item() == float("-inf")


def test_inverse_of_an_ill_conditioned_matrix():
    """W with a condition number of 1e4, inverted in float64: float32 rounding times 1e4, 6e-4; the
    inverse of a float32 inversion would add as much again in the matrix itself."""
    torch.manual_seed(0)
    layer = InvertibleLinear(48)
    u, _, v = torch.linalg.svd(torch.randn(48, 48, dtype=torch.float64))
    exact = u @ torch.diag(torch.logspace(0, -4, 48, dtype=torch.float64)) @ v
    with torch.no_grad():
        layer.weight.entries.copy_(exact)
    expected = torch.linalg.inv(layer.weight.entries.double())
    columns = layer.inverse(torch.eye(48))[0].T
    # Each entry is the float64 inverse rounded to float32, nothing more.
    torch.testing.assert_close(columns.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_folded_one_follows_its_weight_when_it_is_moved_or_loaded(dtype):
    folded = layer_of(Full).float().fold().to(dtype)
    other = layer_of(PLU).float().fold().to(dtype)
    folded.load_state_dict(other.state_dict())
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(folded(x), other(x))
    torch.testing.assert_close(folded.inverse(folded(x)[0])[0], x, rtol=1e-4, atol=1e-4)
    expected = 3 * torch.linalg.slogdet(folded.weight.double()).logabsdet
    torch.testing.assert_close(folded(x)[1].double(), expected.expand(2), rtol=1e-6, atol=1e-6)


def test_plu_starts_where_it_is_told():
    start = torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.5, 0.0, -3.0]])
    torch.testing.assert_close(PLU(3, start=start).matrix(), start)
    for wrong, words in (
        (torch.eye(2), r"start \(3, 3\), got \(2, 2\)"),
        (0 * start, "an inverse"),
    ):
        with pytest.raises(ValueError, match=f"PLU: expected .*{words}"):
            PLU(3, start=wrong)


def test_a_weight_without_its_inverse_is_refused_when_made():
    class Half(Weight):
        def matrix(self):
            return torch.eye(2)

    with pytest.raises(TypeError, match=r"abstract method.* inverse"):
        Half()
