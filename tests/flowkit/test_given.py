"""given(cond): the same map, for k·B samples, until parameters change."""

import copy
from functools import partial

import pytest
import torch
from moved import moved
from torch import nn

from flowkit import (
    MADE,
    MLP,
    ActNorm,
    At,
    Autoregressive,
    Chain,
    ConvNet,
    Coupling,
    Flow,
    Injector,
    Inverse,
    InvertibleLinear,
    OnChannels,
    RationalQuadraticSpline,
    Reversible,
    StandardNormal,
    diagonal_normal,
)

NET = partial(ConvNet, hidden=4)
VECTORS = partial(MLP, hidden=6)


def chain_of_all():
    return Chain(
        ActNorm(4),
        InvertibleLinear(4),
        At("a", Chain(Injector(4, NET, cond_channels=2), Coupling(4, NET, cond_channels=2))),
        Inverse(At("b", Injector(4, VECTORS, cond_channels=3))),
        OnChannels(2, At("b", Coupling(2, NET, cond_channels=3))),
        At("a", Reversible(Coupling(4, NET, cond_channels=2))),
    )


def inputs(batch=2):
    generator = torch.Generator().manual_seed(1)
    shapes = (4, 5, 3), (2, 5, 3), (3,)
    x, a, b = (torch.randn(batch, *shape, generator=generator) for shape in shapes)
    return x, {"a": a, "b": b}


def flow_of_all():
    return Flow(moved(chain_of_all()), StandardNormal((4, 5, 3)))


@pytest.mark.parametrize("samples", [1, 3])
def test_it_is_the_same_map_for_every_sample_of_a_condition(samples):
    chain, (x, cond) = moved(chain_of_all()), inputs()
    given = chain.given(cond)
    assert not given.conditional
    others = torch.cat([x + k for k in range(samples)])
    repeated = {key: torch.cat([entry] * samples) for key, entry in cond.items()}
    for one, other in ((given, chain), (given.inverse, chain.inverse)):
        # The same float32 numbers, but for the order in which a convolution sums.
        torch.testing.assert_close(one(others), other(others, repeated), rtol=1e-4, atol=1e-4)


def test_five_samples_for_two_conditions_are_refused():
    given = moved(chain_of_all()).given(inputs()[1])
    with pytest.raises(ValueError, match=r"expected a multiple of 2 samples, .*, got 5"):
        given(torch.zeros(5, 4, 5, 3))


def test_its_nets_answer_for_the_condition_once():
    calls = []
    layers = Injector(4, NET, cond_channels=2), Coupling(4, NET, cond_channels=2)
    layers[0].net.register_forward_hook(lambda *_: calls.append("net"))
    layers[1].net.first_cond.register_forward_hook(lambda *_: calls.append("share"))
    x, cond = inputs()
    given = Chain(*layers).given(cond["a"])
    for _ in range(3):
        given.inverse(given(x)[0])
    assert calls == ["net", "share"]


def test_gradients_are_those_of_the_map():
    chain, (x, cond) = moved(chain_of_all()), inputs()
    results = []
    for bound in (False, True):
        leaves = {key: entry.clone().requires_grad_() for key, entry in cond.items()}
        y, logdet = chain.given(leaves)(x) if bound else chain(x, leaves)
        loss = y.square().mean() + logdet.mean()
        results.append(torch.autograd.grad(loss, [*leaves.values(), *chain.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_condition_that_is_written_to_afterwards_stays_what_it_was():
    chain, (x, cond) = moved(chain_of_all()), inputs()
    given, expected = chain.given(cond), chain(x, cond)
    for entry in cond.values():
        entry.zero_()
    torch.testing.assert_close(given(x), expected, rtol=1e-4, atol=1e-4)


def test_it_can_be_folded_and_copied():
    chain, (x, cond) = moved(chain_of_all()), inputs()
    given = chain.given(cond)
    folded, expected = given.fold(), chain(x, cond)
    moved(chain)
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4)
    assert not folded(x)[0].requires_grad
    with torch.no_grad():
        given = chain.given(cond)
    torch.testing.assert_close(copy.deepcopy(given)(x), given(x))


def adam(**options):
    def step(module, loss):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05, **options)
        loss().backward()
        optimizer.step()

    return step


def by_data(module, loss):
    for parameter in module.parameters():
        parameter.data = parameter.data + 0.1


def in_place_of_data(module, loss):
    for parameter in module.parameters():
        parameter.data.add_(0.1)


def by_loading(**options):
    def load(module, loss):
        state = {name: tensor + 0.1 for name, tensor in module.state_dict().items()}
        module.load_state_dict(state, **options)

    return load


def by_precision(module, loss):
    module.double()


CHANGES = {
    "Adam": adam(),
    "foreach Adam": adam(foreach=True),
    "fused Adam": adam(fused=True),
    ".data": by_data,
    ".data in place": in_place_of_data,
    "load_state_dict": by_loading(),
    "load_state_dict, assigned": by_loading(assign=True),
    "precision": by_precision,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("direction", ["log_prob", "sample", "rsample_and_log_prob"])
def test_after_a_change_of_parameters_it_refuses(change, direction):
    flow, (x, cond) = flow_of_all(), inputs()
    given = flow.given(cond)
    change(flow, lambda: -flow.log_prob(x, cond).mean())
    with pytest.raises(ValueError, match=r"call given\(cond\) again after an optimiser step"):
        given.log_prob(x) if direction == "log_prob" else getattr(given, direction)()


PARTS = {
    "Injector": lambda: Injector(4, NET, cond_channels=2),
    "Coupling": lambda: Coupling(4, NET, cond_channels=2),
    "At": lambda: At("a", Coupling(4, NET, cond_channels=2)),
    "Inverse": lambda: Inverse(Injector(4, NET, cond_channels=2)),
    "OnChannels": lambda: OnChannels(2, Coupling(2, NET, cond_channels=2)),
    "Chain": lambda: Chain(Chain(ActNorm(4), Injector(4, NET, cond_channels=2))),
    "folded": lambda: Coupling(4, NET, cond_channels=2).fold(),
    "a vector": lambda: Injector(4, partial(MLP, hidden=4), cond_channels=2),
    "Reversible": lambda: Reversible(Coupling(4, NET, cond_channels=2)),
    "a net of one's own": lambda: Coupling(4, lambda a, b: nn.Conv2d(a, b, 1), cond_channels=2),
    "any bijection": lambda: type("Own", (Coupling,), {})(4, NET, cond_channels=2),
}


# These have done no work that depends on parameters.
UP_TO_DATE = ("Reversible", "a net of one's own", "any bijection")


@pytest.mark.parametrize("part", PARTS)
def test_it_is_never_a_mixture_of_old_and_new_parameters(part):
    layer, (x, cond) = moved(PARTS[part]()), inputs()
    cond = cond if part == "At" else cond["a"]
    if part == "a vector":
        cond = cond[:, :, 0, 0]
    given = layer.given(cond)
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            tensor.add_(0.1)
    if part in UP_TO_DATE:
        torch.testing.assert_close(given(x), layer(x, cond), rtol=1e-4, atol=1e-4)
    else:
        with pytest.raises(ValueError, match=r"call given\(cond\) again"):
            given(x)


def test_a_learned_base_that_has_changed_is_refused():
    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(1, 4, 5, 3))

        def forward(self, cond):
            return diagonal_normal(self.mean)

    flow, (x, _) = Flow(Chain(ActNorm(4)), Base()), inputs()
    given = flow.given()
    expected = flow.log_prob(x)
    torch.testing.assert_close(given.log_prob(x), expected)
    with torch.no_grad():
        flow.base.mean.add_(1.0)
    for use in (lambda: given.log_prob(x), given.sample):
        with pytest.raises(ValueError, match=r"call given\(cond\) again"):
            use()


def test_what_its_work_does_not_depend_on_may_change():
    flow, (x, cond) = flow_of_all(), inputs()
    given = flow.given(cond)
    with torch.no_grad():
        flow.bijection[0].bias.add_(0.5)
    torch.testing.assert_close(given.log_prob(x), flow.log_prob(x, cond), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("how", [None, RationalQuadraticSpline(4)])
def test_vectors(how):
    options = {} if how is None else {"how": how}
    net = partial(MADE, hidden=6)
    chain = Chain(
        Autoregressive(3, net, cond_channels=2, **options),
        Coupling(3, VECTORS, cond_channels=2, **options),
        Injector(3, VECTORS, cond_channels=2, **options),
        Inverse(Autoregressive(3, net, cond_channels=2, **options)),
    )
    moved(chain)
    x, cond = torch.randn(6, 3), torch.randn(2, 2)
    repeated = cond.repeat(3, 1)
    torch.testing.assert_close(chain.given(cond)(x), chain(x, repeated), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        for parameter in chain[0].net.first_cond.parameters():
            parameter.add_(0.1)
    given = chain.given(cond)
    torch.testing.assert_close(given(x), chain(x, repeated), rtol=1e-4, atol=1e-4)
