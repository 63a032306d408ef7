"""Conditions: what fits, and how one is put beside what it conditions."""

import pytest
import torch

from flowkit import ActNorm, At, Chain, ConvNet, Coupling, Injector
from flowkit.conditions import batch_of, beside, everywhere, require_cond


def injector():
    return Injector(2, lambda a, b: ConvNet(a, b, hidden=4), cond_channels=3)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_at_needs_its_entry(direction):
    layer = At("half", injector())
    x, cond = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 4, 4)
    run = getattr(layer, direction)
    with pytest.raises(
        ValueError, match=r"At: expected a condition with the entry 'half', got None"
    ):
        run(x)
    with pytest.raises(TypeError, match=r"At: expected a mapping .*'half', got Tensor"):
        run(x, cond)
    with pytest.raises(ValueError, match=r"with the entry 'half', got \['quarter'\]"):
        run(x, {"quarter": cond})


def test_at_hands_on_its_entry():
    layer = injector()
    torch.nn.init.normal_(layer.net.last.weight)
    x, cond = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 4, 4)
    expected = layer(x, cond)
    for got in (
        At("half", layer)(x, {"half": cond, "other": None}),
        At("outer", At("half", layer))(x, {"outer": {"half": cond}}),
    ):
        assert got[0].equal(expected[0])
        assert got[1].equal(expected[1])


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 4, 2), (1, 3, 4, 4), (2, 3, 4), (3, 3)])
def test_conditions_of_another_shape_are_refused(shape):
    message = r"Injector: expected a condition of shape \(2, 3, 4, 4\) or \(2, 3\), got"
    with pytest.raises(ValueError, match=message):
        injector()(torch.randn(2, 2, 4, 4), torch.randn(shape))


def test_a_vector_for_vectors_is_asked_for_as_one():
    with pytest.raises(ValueError, match=r"expected a condition of shape \(2, 3\), got \(2, 4\)"):
        require_cond(ActNorm(1), torch.zeros(2, 4), 3, like=torch.zeros(2, 5))


@pytest.mark.parametrize("places", [(), (5,), (2, 3), (2, 3, 4)])
def test_a_vector_holds_at_every_place(places):
    x, cond = torch.randn(2, 3, *places), torch.randn(2, 4)
    put = everywhere(cond, x)
    assert put.shape == (2, 4, *places)
    assert (put.flatten(2).permute(2, 0, 1) == cond).all() if places else put.equal(cond)
    assert beside(x, cond)[:, :3].equal(x)
    assert beside(x, cond)[:, 3:].equal(put)
    assert beside(x, None) is x


def test_a_vector_at_every_place_is_a_map_of_it():
    layer = Coupling(4, lambda a, b: torch.nn.Conv2d(a, b, 3, padding=1), cond_channels=3)
    net = Coupling(4, ConvNet, cond_channels=3)
    torch.nn.init.normal_(net.net.last.weight)
    x, cond = torch.randn(2, 4, 5, 6), torch.randn(2, 3)
    for coupling in (layer, net):
        expected = coupling(x, cond[:, :, None, None].expand(-1, -1, 5, 6))
        # A convolution of an expanded tensor may sum in another order.
        torch.testing.assert_close(coupling(x, cond), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(coupling.given(cond)(x), expected, rtol=1e-5, atol=1e-5)


def test_the_number_of_samples_of_a_condition():
    tensor = torch.zeros(3, 2)
    assert batch_of("Flow", tensor) == 3
    assert batch_of("Flow", {"a": tensor, "b": {"c": tensor[:, :, None]}}) == 3
    with pytest.raises(ValueError, match=r"one number of samples, got {'a': 3, 'b': 2}"):
        batch_of("Flow", {"a": tensor, "b": tensor[:2]})
    with pytest.raises(ValueError, match="got a single number"):
        batch_of("Flow", torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"Flow, entry 'b': expected a condition .* got NoneType"):
        batch_of("Flow", {"a": tensor, "b": None})


def test_a_condition_that_a_layer_has_no_use_for_changes_nothing():
    chain, x = Chain(ActNorm(3)), torch.randn(2, 3)
    assert not chain.conditional
    for cond in (x, {"a": x}):
        assert chain(x, cond)[0].equal(chain(x)[0])
