"""Bijections made of bijections: what they refuse, and what folding merges."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from flowkit import (
    ActNorm,
    AffineCoupling,
    AffineInjector,
    At,
    Chain,
    ConvNet,
    Example,
    FoldedConv1x1,
    InvConv1x1,
    Inverse,
    OnChannels,
    Permute,
    Squeeze,
)
from flowkit.ops import affine_coupling
from flowkit.testing import check_bijection, randomized

NET = partial(ConvNet, hidden=4)


def step(channels):
    return Chain(ActNorm(channels), InvConv1x1(channels), AffineCoupling(channels, NET))


def test_at_needs_its_entry():
    layer = At("half", AffineInjector(2, NET, cond_channels=3))
    x, cond = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 4, 4)
    for direction in (layer, layer.inverse):
        with pytest.raises(ValueError, match=r"At: expected a condition with the entry 'half'"):
            direction(x)
        with pytest.raises(TypeError, match=r"At: expected a mapping, got Tensor"):
            direction(x, cond)
        with pytest.raises(KeyError, match=r"expected an entry 'half', got \['quarter'\]"):
            direction(x, {"quarter": cond})


def test_at_hands_on_its_entry():
    injector = randomized(AffineInjector.examples()[0], seed=0)
    x, cond = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 4, 4)
    value, logdet = At("half", injector)(x, {"half": cond, "other": None})
    expected, expected_logdet = injector(x, cond)
    assert value.equal(expected)
    assert logdet.equal(expected_logdet)


def test_conditions_of_the_wrong_kind_are_refused():
    layer = AffineInjector(2, NET, cond_channels=3)
    x = torch.randn(2, 2, 4, 4)
    with pytest.raises(TypeError, match=r"AffineInjector.*dict \(flowkit.At picks one entry"):
        layer(x, {"half": torch.randn(2, 3, 4, 4)})
    for shape in ((2, 1, 4, 4), (2, 3, 4, 2), (1, 3, 4, 4), (2, 3, 4)):
        with pytest.raises(
            ValueError, match=r"AffineInjector: expected a condition of shape \(2, 3"
        ):
            layer(x, torch.randn(shape))


def test_chain_takes_bijections_only():
    with pytest.raises(TypeError, match="Chain: expected bijections, got ReLU"):
        Chain(ActNorm(2), nn.ReLU())


def test_chain_applies_its_layers_in_order_and_sums():
    actnorm, conv = ActNorm(3).double(), InvConv1x1(3).double()
    nn.init.normal_(actnorm.log_scale)
    nn.init.normal_(actnorm.bias)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    middle, first = actnorm(x)
    expected, second = conv(middle)
    value, logdet = Chain(actnorm, conv)(x)
    # The two are computed as one, in float64.
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logdet, first + second, rtol=1e-12, atol=1e-12)


def test_empty_chain_is_the_identity():
    x = torch.randn(2, 3, 2, 2)
    chain = Chain()
    for value, logdet in (chain(x), chain.inverse(x), chain(x, chain.prepare(None))):
        assert value.equal(x)
        assert logdet.equal(torch.zeros(2))


def test_chain_is_a_sequence():
    layers = [ActNorm(2), Permute([1, 0])]
    chain = Chain(*layers)
    assert list(chain) == layers
    assert len(chain) == 2
    assert chain[1] is layers[1]


def test_condition_prepared_by_another_layer_is_refused():
    injectors = [AffineInjector(2, NET, cond_channels=3) for _ in range(2)]
    prepared = injectors[0].prepare(torch.randn(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"prepared by this very layer, got one .* by another"):
        injectors[1](torch.randn(1, 2, 4, 4), prepared)


def test_fold_merges_each_actnorm_with_the_convolution_after_it():
    build = lambda: Chain(  # noqa: E731
        step(4), ActNorm(4), InvConv1x1(4), InvConv1x1(4), Permute([3, 0, 2, 1]), ActNorm(4)
    )
    chain = randomized(Example(build, (4, 2, 2)), seed=0, dtype=torch.float64)
    folded = chain.fold()
    kinds = [type(layer) for layer in folded]
    assert kinds == [Chain, FoldedConv1x1, FoldedConv1x1, Permute, ActNorm]
    assert [type(layer) for layer in folded[0]] == [FoldedConv1x1, AffineCoupling]
    assert len(chain) == 6

    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    expected, expected_logdet = chain(x)
    value, logdet = folded(x)
    # float64 rounding, some 1e-16 a step, through 4 layers.
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logdet, expected_logdet, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_an_actnorm_and_the_convolution_after_it_are_one_map(direction):
    build = lambda: Chain(ActNorm(4), InvConv1x1(4), InvConv1x1(4), ActNorm(4))  # noqa: E731
    chain = randomized(Example(build, (4, 2, 2)), seed=0, dtype=torch.float64)
    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    layers = list(chain) if direction == "forward" else list(chain)[::-1]
    found = []
    for merged in (True, False):
        chain.zero_grad()
        y, logdet = x, torch.zeros(2, dtype=torch.float64)
        for layer in [chain] if merged else layers:
            y, found_logdet = getattr(layer, direction)(y)
            logdet = logdet + found_logdet
        (y.square().sum() + logdet.sum()).backward()
        found.append([y, logdet, *(parameter.grad for parameter in chain.parameters())])
    for came, expected in zip(*found, strict=True):
        torch.testing.assert_close(came, expected, rtol=1e-12, atol=1e-12)
    kinds = [type(layer).__name__ for layer, _ in chain.steps(None)]
    assert kinds == ["NormalizedConv1x1", "InvConv1x1", "ActNorm"]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    "hook",
    [
        "register_forward_pre_hook",
        "register_forward_hook",
        "register_full_backward_pre_hook",
        "register_full_backward_hook",
    ],
)
def test_a_layer_with_a_hook_is_called(hook, layer):
    chain = Chain(ActNorm(4), InvConv1x1(4))
    seen = []
    getattr(chain[layer], hook)(lambda *_: seen.append(1))
    y, logdet = chain(torch.randn(2, 4, 2, 2, requires_grad=True))
    (y.sum() + logdet.sum()).backward()
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_log_det_is_summed_in_float64(dtype):
    torch.manual_seed(0)
    chain = Chain(ActNorm(48), InvConv1x1(48))
    nn.init.normal_(chain[0].log_scale)
    chain[0].to(dtype)
    x = torch.randn(1, 48, 64, 64, dtype=torch.float64)
    _, logdet = chain(x)
    exact = torch.linalg.slogdet(chain[1].weight.double()).logabsdet
    expected = 64 * 64 * (chain[0].log_scale.double().sum() + exact)
    torch.testing.assert_close(logdet, expected[None], rtol=1e-12, atol=1e-9)


def test_samples_share_the_convolution_of_the_condition(monkeypatch):
    coupling = AffineCoupling(4, NET, cond_channels=3)
    calls = []
    share = coupling.net.share
    monkeypatch.setattr(coupling.net, "share", lambda cond: calls.append(cond) or share(cond))
    cond = torch.randn(2, 3, 5, 5)
    prepared = coupling.prepare(cond)
    for _ in range(3):
        coupling(torch.randn(2, 4, 5, 5), prepared)
        coupling.inverse(torch.randn(2, 4, 5, 5), prepared)
    assert len(calls) == 1
    for shape in ((1, 4, 5, 5), (2, 4, 5, 4)):
        expected = rf"AffineCoupling: .*\({shape[0]}, \d+, 5, {shape[3]}"
        with pytest.raises(ValueError, match=expected):
            coupling(torch.randn(shape), prepared)


def with_own_forward(net):
    class Own(ConvNet):
        def forward(self, x):
            return super().forward(x)

    net.__class__ = Own


def with_hooked_convolution(net):
    net.first.register_forward_hook(lambda module, args, output: 2 * output)


def with_normed_weight(net):
    nn.utils.parametrizations.weight_norm(net.first)


def with_wrapped_convolution(net):
    net.first = nn.Sequential(net.first, nn.Tanh())


@pytest.mark.parametrize(
    "change",
    [with_own_forward, with_hooked_convolution, with_normed_weight, with_wrapped_convolution],
)
def test_nets_that_were_changed_do_what_they_do(change):
    def changed(c_in, c_out):
        net = ConvNet(c_in, c_out, hidden=4)
        nn.init.normal_(net.last.weight)
        change(net)
        return net

    coupling = AffineCoupling(4, changed, cond_channels=3)
    cond, x = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 5, 5)
    assert coupling.prepare(cond) is cond
    expected = coupling.net(torch.cat([x[:, :2], cond], dim=1))
    torch.testing.assert_close(coupling(x, cond)[0], affine_coupling(x, expected)[0])


def test_nets_that_cannot_share_get_the_condition_beside():
    coupling = AffineCoupling(4, lambda c_in, c_out: nn.Conv2d(c_in, c_out, 1), cond_channels=3)
    cond, x = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 5, 5)
    assert coupling.prepare(cond) is cond
    expected = coupling.net(torch.cat([x[:, :2], cond], dim=1))
    torch.testing.assert_close(coupling(x, cond)[0], affine_coupling(x, expected)[0])


def test_folded_net_has_no_norms_left():
    coupling = AffineCoupling(4, NET)
    assert [type(layer) for layer in coupling.fold().net.children()] == [nn.Conv2d] * 3
    assert not any(parameter.requires_grad for parameter in coupling.fold().parameters())


def test_two_scales_without_a_class_of_their_own():
    """Half of the channels leave after the first scale; the whole is a bijection all the same."""

    def build():
        finer = Chain(Squeeze(), step(8), Inverse(Squeeze()))
        return Chain(Squeeze(), step(4), OnChannels(2, finer))

    example = Example(build, (1, 4, 4))
    check_bijection(example)
    layer = randomized(example, seed=0)
    x = torch.randn(2, 1, 4, 4)
    after_first_scale, _ = Chain(layer[0], layer[1])(x)
    y, _ = layer(x)
    assert y.shape == (2, 4, 2, 2)
    assert y[:, 2:].equal(after_first_scale[:, 2:])
    assert (y[:, :2] != after_first_scale[:, :2]).all()


def test_onchannels_refuses():
    with pytest.raises(ValueError, match="OnChannels: expected at least 1 channel, got 0"):
        OnChannels(0, ActNorm(1))
    with pytest.raises(ValueError, match=r"OnChannels: expected at least 3 channels, got \(1, 2"):
        OnChannels(3, ActNorm(3))(torch.randn(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"keeps the shape \(1, 1, 4, 4\), got .* from Squeeze"):
        OnChannels(1, Squeeze())(torch.randn(1, 2, 4, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineCoupling(1, NET), "AffineCoupling: expected at least 2 channels, got 1"),
        (lambda: AffineInjector(2, NET, cond_channels=0), "at least 1 condition channel, got 0"),
        (lambda: Permute([0, 2]), r"Permute: expected each of 0 … C-1 once, got \[0, 2\]"),
        (lambda: Permute([0, 0]), r"Permute: expected each of 0 … C-1 once, got \[0, 0\]"),
        (lambda: Squeeze(0), "Squeeze: expected a factor of at least 1, got 0"),
        (lambda: Squeeze()(torch.randn(1, 2, 3, 4)), r"multiples of 2, got \(1, 2, 3, 4\)"),
        (lambda: Squeeze().inverse(torch.randn(1, 6, 2, 2)), r"multiple of 4, got \(1, 6, 2, 2\)"),
        (lambda: ActNorm(3)(torch.randn(1, 2, 2, 2)), r"\(B, 3, H, W\), got \(1, 2, 2, 2\)"),
    ],
)
def test_layers_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_singular_convolution_raises():
    layer = InvConv1x1(2)
    nn.init.ones_(layer.weight)
    with pytest.raises(torch.linalg.LinAlgError):
        layer.inverse(torch.randn(1, 2, 2, 2))


class Doubled(ActNorm):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x)
        return 2 * y, logdet + y[0].numel() * math.log(2)

    def inverse(self, y, cond=None):
        x, logdet = super().inverse(y / 2)
        return x, logdet - y[0].numel() * math.log(2)


def test_fold_leaves_subclasses_of_actnorm_alone():
    chain = Chain(Doubled(4), InvConv1x1(4))
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(chain.fold()(x), chain(x))


def test_slice_of_a_chain_is_a_chain():
    chain = Chain(ActNorm(4), InvConv1x1(4), ActNorm(4))
    part = chain[1:]
    assert isinstance(part, Chain)
    assert part[0] is chain[1]
    assert len(part) == 2


def test_fold_leaves_the_random_numbers_alone():
    coupling = AffineCoupling(4, ConvNet)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    coupling.fold()
    assert torch.equal(torch.rand(3), expected)


def test_fold_stops_dropout_and_leaves_the_original_learning():
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Dropout(0.5))
    coupling = AffineCoupling(4, lambda c_in, c_out: net)
    folded = coupling.fold()
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(folded(x)[0], folded(x)[0])
    assert all(parameter.requires_grad for parameter in coupling.parameters())


@pytest.mark.parametrize("width", [2, 8])
def test_nets_of_the_wrong_width_are_refused(width):
    net = lambda c_in, c_out: nn.Conv2d(c_in, width, 1)  # noqa: E731
    x = torch.randn(2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"AffineCoupling: .*\(2, 4, 3, 3\) from the net"):
        AffineCoupling(4, net)(x)
    with pytest.raises(ValueError, match=r"AffineInjector: .*\(2, 16, 3, 3\) from the net"):
        AffineInjector(8, lambda c_in, c_out: nn.Conv2d(c_in, width, 1), cond_channels=4)(
            torch.randn(2, 8, 3, 3), x
        )


def test_inverse_of_an_ill_conditioned_matrix():
    """W with a condition number of 1e4, inverted in float64: float32 rounding times 1e4, 6e-4; the
    inverse of a float32 inversion would add as much again in the matrix itself."""
    torch.manual_seed(0)
    layer = InvConv1x1(48)
    u, _, v = torch.linalg.svd(torch.randn(48, 48, dtype=torch.float64))
    exact = u @ torch.diag(torch.logspace(0, -4, 48, dtype=torch.float64)) @ v
    with torch.no_grad():
        layer.weight.copy_(exact)
    expected = torch.linalg.inv(layer.weight.double())
    y = torch.eye(48)[:, :, None, None]
    columns = layer.inverse(y)[0][:, :, 0, 0].T
    # Each entry is the float64 inverse rounded to float32, nothing more.
    torch.testing.assert_close(columns.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", [AffineCoupling, AffineInjector])
def test_fold_keeps_the_class(layer):
    class Own(layer):
        pass

    assert type(Own(4, ConvNet, cond_channels=2).fold()) is Own
