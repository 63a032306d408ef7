"""Conditioner nets: what they take, what they start as, and how they are made."""

from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import (
    MADE,
    MLP,
    CausalTransformer,
    ChannelNorm,
    Conditioner,
    ConvAttentionNet,
    ConvNet,
    Coupling,
    DenseNet,
    LipschitzNet,
    MaskedConv,
    ResNet,
    Transformer,
    ZeroConv,
    ask,
)
from flowkit.nets.conditioner import build, fold, given
from flowkit.nets.conv import FoldedConvNet
from flowkit.nets.conv_attention import Gate

AXES = 1, 2, 3
TRANSFORMERS = Transformer, CausalTransformer
SHAPES = {
    "vectors": (MLP, ()),
    "sequences": (partial(ConvNet, axes=1), (7,)),
    "images": (ConvNet, (4, 5)),
    "volumes": (partial(ConvNet, axes=3), (3, 4, 5)),
    "ResNet on vectors": (ResNet, ()),
    "ResNet on sequences": (partial(ResNet, axes=1, blocks=1), (7,)),
    "ResNet on images": (partial(ResNet, axes=2, blocks=3), (4, 5)),
    "ResNet on volumes": (partial(ResNet, axes=3, blocks=1), (3, 4, 5)),
    "DenseNet on vectors": (DenseNet, ()),
    "DenseNet on sequences": (partial(DenseNet, axes=1), (7,)),
    "DenseNet on images": (partial(DenseNet, axes=2, depth=2), (4, 5)),
    "DenseNet on volumes": (partial(DenseNet, axes=3, depth=1), (3, 4, 5)),
    "ConvAttentionNet on sequences": (partial(ConvAttentionNet, axes=1, heads=2), (7,)),
    "ConvAttentionNet on images": (partial(ConvAttentionNet, heads=2), (4, 5)),
    "ConvAttentionNet on volumes": (partial(ConvAttentionNet, axes=3, heads=1), (2, 4, 3)),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("cond", ["none", "vector", "map"])
def test_shapes_and_that_it_starts_at_zero(kind, cond):
    make, places = SHAPES[kind]
    net = make(2, 6, cond_channels=0 if cond == "none" else 3, hidden=8)
    x = torch.randn(4, 2, *places)
    condition = {
        "none": None,
        "vector": torch.randn(4, 3),
        "map": torch.randn(4, 3, *places),
    }[cond]
    y = net(x, condition)
    assert y.shape == (4, 6, *places)
    assert not y.any()
    moved(net)
    assert net(x, condition).any(dim=0).all()
    if condition is not None:
        assert not net(x, condition).equal(net(x, condition + 1))
        with pytest.raises(ValueError, match="expected a condition of 3 channels, got None"):
            net(x)
    else:
        with pytest.raises(ValueError, match="expected a condition of 0 channels, got one"):
            net(x, x)


@pytest.mark.parametrize("kind", SHAPES)
def test_folded_and_given_it_is_the_same(kind):
    make, places = SHAPES[kind]
    net = moved(make(2, 6, cond_channels=3, hidden=8)).double()
    x = torch.randn(4, 2, *places, dtype=torch.float64)
    for cond in (torch.randn(4, 3), torch.randn(4, 3, *places)):
        expected = net(x, cond.double())
        for same in (fold(net), net):
            torch.testing.assert_close(ask(same, x, cond), expected)
            torch.testing.assert_close(given(same, cond)(x), expected)


def test_a_net_of_two_inputs_is_one_of_both_beside_each_other():
    """conv(x) + conv(cond) is one convolution over the channels of both."""
    net = moved(ConvNet(2, 4, cond_channels=3, hidden=8))
    whole = ConvNet(5, 4, hidden=8)
    state = {name: t for name, t in net.state_dict().items() if not name.startswith("first_cond")}
    state["first.weight"] = torch.cat([net.first.weight, net.first_cond.weight], dim=1)
    whole.load_state_dict(state)
    x, cond = torch.randn(2, 2, 5, 6), torch.randn(2, 3, 5, 6)
    # float32 sums in two orders.
    torch.testing.assert_close(net(x, cond), whole(torch.cat([x, cond], 1)), rtol=1e-4, atol=1e-4)


def test_fold_leaves_three_convolutions():
    folded = fold(ConvNet(2, 6, cond_channels=3, hidden=8))
    assert isinstance(folded, FoldedConvNet)
    assert [type(part) for part in folded.children()] == [nn.Conv2d] * 4
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_zero_conv_scales_its_output():
    layer = moved(ZeroConv(2, 3))
    x = torch.randn(2, 2, 5, 6)
    conv = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), conv * (3 * layer.log_scale).exp()[:, None, None])
    vectors = moved(ZeroConv(2, 3, axes=0))
    assert vectors(torch.randn(4, 2)).shape == (4, 3)


@pytest.mark.parametrize("places", [(), (5,), (4, 5)])
def test_channel_norm_normalizes_what_it_was_initialised_with(places):
    norm, x = ChannelNorm(3), 5 + 2 * torch.randn(64, 3, *places)
    norm.initialize_from(x)
    y = norm(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.std(1, correction=0), torch.ones(3), rtol=0, atol=1e-5)


def test_build_tells_a_conditioner_of_its_condition_and_joins_it_for_others():
    class Own(Conditioner):
        def __init__(self, c_in, c_out, *, cond_channels=0):
            super().__init__()
            self.cond_channels = cond_channels
            self.sizes = c_in, c_out, cond_channels

        def forward(self, x, cond=None):
            return x if cond is None else x + cond

    assert build("Layer", Own, 2, 6, 3).sizes == (2, 6, 3)
    assert build("Layer", partial(partial(Own)), 2, 6, 3).sizes == (2, 6, 3)
    assert build("Layer", Own, 2, 6).sizes == (2, 6, 0)
    assert build("Layer", lambda a, b: Own(a, b), 2, 6, 3).sizes == (5, 6, 0)
    conv = build("Layer", lambda a, b: nn.Conv1d(a, b, 1), 2, 6, 3)
    x, cond = torch.randn(4, 2, 7), torch.randn(4, 3)
    beside = torch.cat([x, cond[:, :, None].expand(-1, -1, 7)], dim=1)
    assert ask(conv, x, cond).equal(conv(beside))
    assert given(conv, cond)(x).equal(conv(beside))


def test_resnet_is_its_formula():
    net = moved(ResNet(2, 3, cond_channels=2, hidden=4, blocks=2)).double()
    x, cond = torch.randn(5, 2).double(), torch.randn(5, 2).double()
    start, first, second = net.first_cond(cond).split(4, dim=1)
    h = net.first(x) + start
    for k, share in enumerate((first, second)):
        inner = net.into[k](nn.functional.silu(h)) + share
        h = h + net.out_of[k](nn.functional.silu(inner))
    torch.testing.assert_close(net(x, cond), net.last(nn.functional.silu(h)))


def test_densenet_is_its_formula():
    net = moved(DenseNet(2, 3, cond_channels=2, hidden=4, depth=2)).double()
    x, cond = torch.randn(5, 2).double(), torch.randn(5, 2).double()
    shares = net.first_cond(cond).split(4, dim=1)
    hs = [net.first(x) + shares[0]]
    for layer, share in zip(net.between, shares[1:], strict=True):
        hs.append(layer(nn.functional.silu(torch.cat(hs, dim=1))) + share)
    expected = net.last(nn.functional.silu(torch.cat(hs, dim=1)))
    torch.testing.assert_close(net(x, cond), expected)


@pytest.mark.parametrize(
    ("make", "places"),
    [(ResNet, ()), (DenseNet, ()), (partial(ConvAttentionNet, axes=1, heads=2), (3,))],
)
def test_every_layer_of_a_deep_net_gets_the_condition(make, places):
    net = moved(make(2, 3, cond_channels=2, hidden=4))
    x, cond = torch.randn(5, 2, *places), torch.randn(5, 2)
    before = net(x, cond)
    for rows in net.first_cond.weight.split(4):
        kept = rows.detach().clone()
        with torch.no_grad():
            rows.zero_()
            assert not net(x, cond).isclose(before).all(dim=0).any()
            rows.copy_(kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ask_casts_to_the_nets_precision(dtype):
    net = ConvNet(2, 4, cond_channels=3, hidden=8).to(dtype)
    x, cond = torch.randn(2, 2, 5, 6).double(), torch.randn(2, 3, 5, 6).double()
    assert ask(net, x, cond).dtype == dtype
    assert given(net, cond)(x.to(dtype)).dtype == dtype


def test_an_own_conditioner_works_in_a_coupling():
    class Gate(Conditioner):
        """x seen through a gate that the condition opens."""

        axes = 0

        def __init__(self, c_in, c_out, *, cond_channels=0):
            super().__init__()
            self.cond_channels = cond_channels
            self.first_cond = nn.Linear(cond_channels, c_in)
            self.last = nn.Linear(c_in, c_out)

        def respond(self, x, share=None):
            return self.last(x * share.sigmoid())

    layer = Coupling(4, Gate, cond_channels=3)
    x, cond = torch.randn(6, 4), torch.randn(2, 3)
    torch.testing.assert_close(layer.given(cond)(x), layer(x, cond.repeat(3, 1)))
    torch.testing.assert_close(layer.fold()(x, cond.repeat(3, 1)), layer(x, cond.repeat(3, 1)))


def test_by_attention_every_place_is_seen_from_every_other():
    torch.manual_seed(0)
    net = moved(ConvAttentionNet(1, 1, hidden=8, heads=2, blocks=1, axes=1)).double()
    x = torch.randn(1, 1, 12, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(net, x)[0, 0, :, 0, 0]
    assert slope.ne(0).all()  # convolutions of width 3, three in a row, reach 3 places


def test_the_gate_is_a_share_of_what_it_passes():
    torch.manual_seed(0)
    gate, h = Gate(3), torch.randn(2, 5, 3)
    passed, share = gate.both(h).chunk(2, dim=2)
    torch.testing.assert_close(gate(h), passed * share.sigmoid())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP(2, 3, depth=0), "MLP: expected depth >= 1, got 0"),
        (lambda: ConvNet(2, 3, axes=0), r"expected axes among 1, 2, 3, got 0 \(vectors: MLP\)"),
        (lambda: ResNet(2, 3, blocks=0), "ResNet: expected blocks >= 1, got 0"),
        (
            lambda: ResNet(2, 3, axes=4),
            r"ResNet: expected axes among 0 .*, 1, 2, 3, got 4",
        ),
        (lambda: DenseNet(2, 3, depth=0), "DenseNet: expected depth >= 1, got 0"),
        (lambda: ConvAttentionNet(2, 3, blocks=0), "ConvAttentionNet: expected blocks >= 1, got 0"),
        (lambda: ConvAttentionNet(2, 3, axes=0), "expected axes among 1, 2, 3, got 0"),
        (lambda: ConvAttentionNet(2, 3, hidden=12), "a multiple of heads=4, with at least 4"),
        (lambda: DenseNet(2, 3)(torch.zeros(1, 2, 2)), r"DenseNet: .* shape \(B, C\), got"),
        (lambda: MLP(2, 3)(torch.zeros(1, 2, 2)), r"MLP: expected input of shape \(B, C\), got"),
        (lambda: MADE(2, 3)(torch.zeros(1, 2, 2)), r"MADE: expected input of shape \(B, C\), got"),
        (lambda: ConvNet(2, 3)(torch.zeros(2, 4, 4)), r"ConvNet: expected .* \(B, C, H, W\), got"),
    ],
)
def test_they_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gain_is_of_the_output_and_is_told():
    torch.manual_seed(0)
    net, quiet = ResNet(2, 3, hidden=4), ResNet(2, 3, hidden=4, gain=0.25)
    quiet.load_state_dict(moved(net).state_dict())
    x = torch.randn(5, 2)
    torch.testing.assert_close(quiet(x), 0.25 * net(x))
    assert "gain=0.25" in str(quiet)
    with pytest.raises(TypeError, match="ResNet: expected gain as a real number, got str"):
        ResNet(2, 3, gain="1")


@pytest.mark.parametrize(
    "net", [MLP, ConvNet, ResNet, DenseNet, ConvAttentionNet, LipschitzNet, MADE, MaskedConv]
)
def test_a_net_without_units_would_see_nothing(net):
    with pytest.raises(ValueError, match=f"{net.__name__}: expected hidden >= 1, got 0"):
        net(2, 2, hidden=0)
    with pytest.raises(TypeError, match=f"{net.__name__}: expected hidden as an integer"):
        net(2, 2, hidden=1.5)


@pytest.mark.parametrize(
    ("net", "places"),
    [
        *SHAPES.values(),
        (LipschitzNet, ()),
        *((partial(LipschitzNet, axes=n), (3,) * n) for n in AXES),
    ]
    + [(MADE, ()), *((partial(MaskedConv, axes=n), (3,) * n) for n in AXES)]
    + [(partial(kind, axes=n), (3,) * n) for kind in TRANSFORMERS for n in AXES],
)
def test_every_net_answers_under_autocast(net, places):
    module, x = moved(net(2, 2, cond_channels=3), by=0.1), torch.randn(2, 2, *places)
    cond = torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        under = module(x, cond)
    expected = module(x, cond)
    # 2⁻⁸ in each of a handful of layers.
    assert (under - expected).abs().max() < 0.1 * expected.abs().max()
