"""Autoregressive and MADE: what may see what, and nflows' MAF."""

from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import (
    MADE,
    Additive,
    Affine,
    Autoregressive,
    Chain,
    Flow,
    Inverse,
    MaskedConv,
    Permute,
    RationalQuadraticSpline,
    StandardNormal,
    apply,
)
from flowkit.layers.order import place_strides

NET = partial(MADE, hidden=16)
HOWS = [Affine(), Additive(), RationalQuadraticSpline(4)]


def jacobian(function, x):
    return torch.autograd.functional.jacobian(lambda v: function(v[None])[0], x)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("hidden", [1, 3, 16])
def test_made_sees_what_comes_before(channels, depth, hidden):
    net = moved(MADE(channels, 3, hidden=hidden, depth=depth), by=1.0).double()
    x = torch.randn(channels, dtype=torch.float64)
    slopes = jacobian(net, x).reshape(3, channels, channels)
    allowed = torch.ones(channels, channels, dtype=torch.bool).tril(-1)
    assert not slopes[:, ~allowed].any()
    if hidden >= channels:
        assert slopes[:, allowed].ne(0).all()


def test_every_output_of_made_sees_the_condition():
    net = moved(MADE(3, 2, cond_channels=2, hidden=8)).double()
    x = torch.randn(1, 3, dtype=torch.float64)
    slopes = jacobian(lambda c: net(x, c), torch.randn(2, dtype=torch.float64))
    assert slopes.shape == (6, 2)
    assert slopes.all()


@pytest.mark.parametrize("how", HOWS)
def test_the_jacobian_is_triangular_and_its_diagonal_the_log_det(how):
    layer = moved(Autoregressive(4, NET, how)).double()
    x = torch.randn(4, dtype=torch.float64)
    slopes = jacobian(lambda v: layer(v)[0], x)
    assert not slopes.triu(1).any()
    assert slopes.tril(-1).any()
    _, logdet = layer(x[None])
    torch.testing.assert_close(logdet[0], slopes.diagonal().log().sum())


@pytest.mark.parametrize("cond_channels", [0, 2])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_round_trip_both_ways(channels, how, cond_channels):
    layer = moved(Autoregressive(channels, NET, how, cond_channels=cond_channels)).double()
    x = 2 * torch.randn(3, channels, dtype=torch.float64)
    cond = torch.randn(3, cond_channels, dtype=torch.float64) if cond_channels else None
    for one, other in ((layer, layer.inverse), (layer.inverse, layer)):
        y, logdet = one(x, cond)
        back, logdet_back = other(y, cond)
        torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(logdet_back, -logdet, rtol=1e-9, atol=1e-9)


def test_one_pass_of_the_net_forward_and_one_for_each_element_back():
    calls = []
    layer = Autoregressive(4, NET)
    layer.net.register_forward_hook(lambda *_: calls.append(1))
    layer(torch.randn(2, 4))
    assert len(calls) == 1
    layer.inverse(torch.randn(2, 4))
    assert len(calls) == 5
    Inverse(layer).inverse(torch.randn(2, 4))
    assert len(calls) == 6


@pytest.mark.parametrize("size", [1e300, torch.inf])
def test_an_element_that_comes_later_cannot_spoil_the_others(size):
    layer = moved(Autoregressive(3, NET)).double()
    y = torch.tensor([[0.1, size, -size]], dtype=torch.float64)
    x, _ = layer.inverse(y)
    alone, _ = layer.inverse(torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64))
    assert x[0, 0] == alone[0, 0]


GRAPHS = {
    "none": torch.zeros(4, 4),
    "in order": torch.ones(4, 4).tril(-1),
    "backwards": torch.ones(4, 4).triu(1),
    "chain": torch.ones(4, 4).diagonal(-1).diag(-1),
    "star": torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]),
    "diamond": torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]),
}
PASSES = {"none": 1, "in order": 4, "backwards": 4, "chain": 4, "star": 2, "diamond": 3}
OF_COND = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]])


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("depth", [1, 3])
def test_made_sees_what_the_adjacency_allows_and_all_of_it(graph, depth):
    net = MADE(
        4,
        2,
        cond_channels=3,
        hidden=16,
        depth=depth,
        adjacency=GRAPHS[graph],
        cond_adjacency=OF_COND,
    )
    net = moved(net, by=1.0).double()
    x, cond = torch.randn(4, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    of_x = jacobian(lambda v: net(v, cond[None]), x).reshape(2, 4, 4)
    of_cond = jacobian(lambda c: net(x[None], c), cond).reshape(2, 4, 3)
    assert (of_x != 0).equal(GRAPHS[graph].bool().expand(2, 4, 4))
    assert (of_cond != 0).equal(OF_COND.bool().expand(2, 4, 3))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("how", HOWS)
def test_inverse_in_parallel_is_the_inverse_one_by_one(graph, how):
    calls = []
    layer = Autoregressive(
        4, NET, how, adjacency=GRAPHS[graph], cond_adjacency=OF_COND, cond_channels=3
    )
    layer = moved(layer, by=0.5).double()
    layer.net.register_forward_hook(lambda *_: calls.append(1))
    y, cond = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    x, logdet = layer.inverse(y, cond)
    assert len(calls) == PASSES[graph]
    found = torch.zeros_like(y)
    for i in layer.level.argsort():
        # One channel at a time, each after all that it depends on.
        found[:, i] = apply(how, y, layer.net(found, cond), inverse=True)[0][:, i]
    torch.testing.assert_close(x, found)
    forth, logdet_forth = layer(x, cond)
    torch.testing.assert_close(forth, y)
    torch.testing.assert_close(logdet, -logdet_forth)


def test_an_order_is_a_permutation_before_and_after():
    order = [2, 0, 3, 1]
    turned = moved(Autoregressive(4, NET, order=order)).double()
    slopes = jacobian(lambda v: turned(v)[0], torch.randn(4, dtype=torch.float64))
    permuted = slopes[order][:, order]
    assert not permuted.triu(1).any()
    assert permuted.tril(-1).ne(0).sum() == 6
    plain = Chain(Permute(order), Autoregressive(4, NET), Inverse(Permute(order))).double()
    state = turned.net.state_dict()
    state["first.weight"] = state["first.weight"][:, order]
    for name in ("last.weight", "last.bias"):
        state[name] = state[name].unflatten(0, (2, 4))[:, order].flatten(0, 1)
    plain[1].net.load_state_dict(state)
    x = torch.randn(5, 4, dtype=torch.float64)
    for came, expected in zip(turned(x), plain(x), strict=True):
        torch.testing.assert_close(came, expected)


def test_print_says_who_depends_on_whom():
    assert repr(MADE(3, 2)).startswith("MADE(\n")
    turned = Autoregressive(3, NET, order=[2, 0, 1])
    assert "order=[2, 0, 1]" in repr(turned)
    adjacency = Autoregressive(3, NET, adjacency=torch.tensor([[0, 1, 0], [0, 0, 0], [0, 1, 0]]))
    assert "adjacency=010/000/010" in repr(adjacency)
    of_cond = Autoregressive(2, NET, cond_adjacency=torch.eye(2), cond_channels=2)
    assert "cond_adjacency=10/01" in repr(of_cond)
    assert "order" not in repr(of_cond)
    assert "axes=2" in repr(Autoregressive(2, MaskedConv, axes=2)).splitlines()[1]


WITH_PLACES = {
    "sequences": ((2, 5), partial(MaskedConv, hidden=6, depth=2, width=3)),
    "images": ((2, 3, 3), partial(MaskedConv, hidden=6, depth=2, width=3)),
    "one channel": ((1, 2, 4), partial(MaskedConv, hidden=6, depth=3, width=5)),
    "fewer units than channels": ((3, 2, 2), partial(MaskedConv, hidden=2, depth=1)),
    "volumes": ((2, 2, 2, 2), partial(MaskedConv, hidden=6, depth=1, width=3)),
}


@pytest.mark.parametrize("kind", WITH_PLACES)
def test_masked_convolutions_see_what_comes_before(kind):
    (channels, *places), make = WITH_PLACES[kind]
    net = moved(make(channels, 2, axes=len(places)), by=0.5).double()
    x = torch.randn(channels, *places, dtype=torch.float64)
    slopes = jacobian(net, x).unflatten(0, (2, channels))
    # Elements in raster order: places first, the channels within each.
    n = x.numel()
    slopes = slopes.reshape(2, channels, n // channels, channels, n // channels)
    slopes = slopes.permute(0, 2, 1, 4, 3).reshape(2, n, n)
    allowed = torch.ones(n, n, dtype=torch.bool).tril(-1)
    assert not slopes[:, ~allowed].any()
    if kind != "fewer units than channels":
        near = torch.arange(n)[:, None] - torch.arange(n) == 1
        in_a_row = torch.arange(n)[:, None] // (channels * places[-1]) == torch.arange(n) // (
            channels * places[-1]
        )
        assert slopes[:, near & in_a_row].ne(0).all()


def test_units_of_masked_convolutions_see_their_equals():
    net = MaskedConv(3, 2, hidden=6, depth=1, width=3)
    seen = torch.arange(6) // 2
    assert net.first.mask[:, :, 1, 1].equal((seen[:, None] > torch.arange(3)).float())
    assert net.between[0].mask[:, :, 1, 1].equal((seen[:, None] >= seen).float())
    assert net.last.mask[:3, :, 0, 0].equal((torch.arange(3)[:, None] >= seen).float())


def test_masked_convolutions_see_as_far_as_they_say():
    net = moved(MaskedConv(1, 1, hidden=4, depth=2, width=5, axes=1), by=0.5).double()
    slopes = jacobian(net, torch.randn(1, 12, dtype=torch.float64)).reshape(12, 12)
    assert slopes[11, 7:11].ne(0).all()
    assert not slopes[11, :7].any()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", WITH_PLACES)
def test_inverse_with_places_is_the_inverse_one_by_one(kind, how):
    (channels, *places), make = WITH_PLACES[kind]
    layer = Autoregressive(channels, make, how, axes=len(places), cond_channels=2)
    layer = moved(layer, by=0.3).double()
    y = torch.randn(2, channels, *places, dtype=torch.float64)
    cond = torch.randn(2, 2, *places, dtype=torch.float64)
    x, logdet = layer.inverse(y, cond)
    found = torch.zeros_like(y)
    for place in range(y[0, 0].numel()):
        for channel in range(channels):
            back, _ = apply(how, y, layer.net(found, cond), inverse=True)
            found.flatten(2)[:, channel, place] = back.flatten(2)[:, channel, place]
    torch.testing.assert_close(x, found)
    forth, logdet_forth = layer(x, cond)
    torch.testing.assert_close(forth, y)
    torch.testing.assert_close(logdet, -logdet_forth)


@pytest.mark.parametrize(
    ("places", "width", "passes"),
    [((6,), 5, 6), ((4, 6), 3, 6 + 2 * 3), ((4, 6), 5, 6 + 3 * 3), ((4, 2), 7, 2 + 2 * 3)],
)
def test_places_on_a_slant_are_found_at_once(places, width, passes):
    calls = []
    net = partial(MaskedConv, hidden=4, depth=2, width=width)
    layer = moved(Autoregressive(2, net, axes=len(places)), by=0.5).double()
    layer.net.register_forward_hook(lambda *_: calls.append(1))
    y = torch.randn(1, 2, *places, dtype=torch.float64)
    x, _ = layer.inverse(y)
    assert len(calls) == 2 * passes
    torch.testing.assert_close(layer(x)[0], y)
    # Any other net is taken to see everything before.
    anything = Autoregressive(2, lambda *_, **__: layer.net, axes=len(places))
    anything.reach = None
    calls.clear()
    torch.testing.assert_close(anything.inverse(y)[0], x)
    assert len(calls) == y.numel()


def test_no_element_waits_for_one_of_its_own_pass():
    """Level by level, of an output none of what it sees is found in the same pass or later."""
    sizes, reach = (4, 5), 2
    net = moved(MaskedConv(1, 1, hidden=8, depth=3, width=5), by=0.5).double()
    assert net.reach == reach
    slopes = jacobian(net, torch.randn(1, *sizes, dtype=torch.float64)).reshape(20, 20)
    rows, columns = place_strides(sizes, reach)
    assert (rows, columns) == (3, 1)
    level = (rows * torch.arange(4)[:, None] + columns * torch.arange(5)).flatten()
    sees = slopes != 0
    assert sees.any(1).sum() == 19
    assert (level[:, None] > level)[sees].all()


def test_density_is_nflows_density():
    """The same masked weights in nflows' MAF, whose forward is data -> noise as here."""
    autoregressive = pytest.importorskip("nflows.transforms.autoregressive")
    theirs = autoregressive.MaskedAffineAutoregressiveTransform(
        features=3, hidden_features=8, num_blocks=1, use_residual_blocks=False
    ).double()
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)

    class TheirNet(nn.Module):
        """Their numbers in our order: y = x·s + t there, (x + t)·s here."""

        def forward(self, x):
            raw, shift = theirs._unconstrained_scale_and_shift(theirs.autoregressive_net(x))
            scale = torch.nn.functional.softplus(raw) + theirs._epsilon
            return torch.cat([shift / scale, scale.log()], dim=1)

    def plain(raw):
        return raw.exp(), raw

    ours = Autoregressive(3, lambda *_: TheirNet(), Affine(plain)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    for one, other in ((ours, theirs), (ours.inverse, theirs.inverse)):
        value, logdet = one(x)
        expected, expected_logdet = other(x)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(logdet, expected_logdet, rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one():
    layers = Autoregressive(2, NET, RationalQuadraticSpline(4, 3.0)), Autoregressive(2, NET)
    flow = Flow(moved(Chain(*layers)), StandardNormal(2)).double()
    line = torch.linspace(-14, 14, 801, dtype=torch.float64)
    log_prob = flow.log_prob(torch.cartesian_prod(line, line))
    mass = log_prob.exp().sum() * (line[1] - line[0]) ** 2
    # The spline's slope has kinks, where the rule's error is some step² = 1e-3 of a kink's share.
    torch.testing.assert_close(mass.item(), 1.0, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Autoregressive(3)(torch.zeros(2, 3, 4)), r"\(B, 3\), got \(2, 3, 4\)"),
        (lambda: Autoregressive(3)(torch.zeros(2, 4)), r"\(B, 3, \*S\), got \(2, 4\)"),
        (lambda: Autoregressive(3).inverse(torch.zeros(2, 4)), r"\(B, 3\), got \(2, 4\)"),
        (lambda: Autoregressive(3).shape((3, 4)), r"samples of shape \(3\), got \(3, 4\)"),
        (lambda: Autoregressive(3, cond_channels=2)(torch.zeros(2, 3)), "2 channels, got None"),
        (lambda: Autoregressive(0), "channels >= 1, got 0"),
        (lambda: Autoregressive(3, order=[0, 2]), r"each of 0 … 2 once, got \[0, 2\]"),
        (lambda: Autoregressive(3, order=3), "order as integers 0 … C-1, got 3"),
        (lambda: Autoregressive(3, order=[0.0, 1.0, 2.0]), r"integers 0 … C-1, got \[0.0"),
        (lambda: Autoregressive(3, adjacency="ab"), r"adjacency as a \(3, 3\) matrix .*got 'ab'"),
        (lambda: MADE(3.0, 2), "channels as an integer, got float"),
        (lambda: MADE(3, 2.0), "count as an integer, got float"),
        (
            lambda: Autoregressive(2, order=[0, 1], adjacency=torch.zeros(2, 2)),
            "order or adjacency, got both",
        ),
        (
            lambda: Autoregressive(3, adjacency=torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]])),
            r"without a cycle, got one through \[0, 1\]",
        ),
        (lambda: Autoregressive(2, adjacency=torch.eye(2)), "without a cycle"),
        (
            lambda: Autoregressive(2, adjacency=torch.zeros(2, 3)),
            r"a \(2, 2\) matrix of 0 and 1, got \[\[0.0",
        ),
        (
            lambda: Autoregressive(2, cond_channels=1, cond_adjacency=torch.full((2, 1), 0.5)),
            r"cond_adjacency as a \(2, 1\) matrix of 0 and 1",
        ),
        (
            lambda: Autoregressive(2, partial(MADE, adjacency=torch.tensor([[0, 1], [0, 0]]))),
            "to be told the adjacency",
        ),
        (
            # A net in order, where the inverse would count on another one.
            lambda: Autoregressive(2, lambda c, n, adjacency: MADE(c, n), order=[1, 0]),
            "and a net that takes it, got another one",
        ),
        (
            lambda: MADE(3, 1, hidden=1, adjacency=torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]])),
            "hidden >= 2, a unit for each of the different rows",
        ),
        (
            lambda: Autoregressive(2, MaskedConv, axes=2, order=[0, 1]),
            "order with vectors, got them with axes=2",
        ),
        (
            lambda: Autoregressive(2, MaskedConv, axes=2)(torch.zeros(1, 2, 3)),
            r"\(B, 2, H, W\), got \(1, 2, 3\)",
        ),
        (lambda: MaskedConv(2, 3, axes=0), r"axes among 1, 2, 3 .* got 0 and 5 \(vectors: MADE\)"),
        (lambda: MaskedConv(2, 3, width=4), "an odd width, got 2 and 4"),
        (lambda: MADE(3, 2, depth=0), "depth >= 1, got 0"),
        (
            lambda: Autoregressive(3, lambda c, count: nn.Linear(c, 5))(torch.zeros(2, 3)),
            r"2 numbers for each of 3 channels from the net, shape \(2, 6\), got \(2, 5\)",
        ),
    ],
)
def test_it_refuses(call, message):
    with pytest.raises((ValueError, TypeError), match=f"expected .*{message}"):
        call()
