"""Constant-memory training: what is kept, what it costs, and when it refuses."""

import copy
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn

from flowkit import (
    MLP,
    ActNorm,
    At,
    Bijection,
    Chain,
    ConvNet,
    Coupling,
    Drifted,
    Flow,
    Injector,
    Inverse,
    InvertibleLinear,
    OnChannels,
    Permute,
    Reversible,
    Squeeze,
    initialize,
    split,
)

NET = partial(ConvNet, hidden=8)


def steps(channels, count, injector=NET):
    layers = []
    for _ in range(count):
        layers += [
            ActNorm(channels),
            InvertibleLinear(channels),
            Injector(channels, injector, cond_channels=2),
            Coupling(channels, NET, cond_channels=2),
        ]
    return layers


@pytest.fixture
def flow():
    """Two levels, randomly initialised nets, and a batch for it."""
    torch.manual_seed(0)
    chain = Chain(
        Squeeze(),
        At("half", Chain(*steps(12, 2))),
        Chain(Permute(torch.randperm(12)), Squeeze(), At("quarter", Chain(*steps(48, 2)))),
    )
    x = torch.rand(2, 3, 8, 8)
    cond = {"half": torch.rand(2, 2, 4, 4), "quarter": torch.rand(2, 2, 2, 2)}
    initialize(chain, x, cond)
    for parameter in chain.parameters():
        if parameter.dim() == 4 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return chain, x, cond


def gradients(bijection, value, cond, *, direction="forward"):
    """Of a made-up loss: for the value, the conditions and every parameter."""
    value = value.clone().requires_grad_()
    cond = {key: entry.clone().requires_grad_() for key, entry in cond.items()}
    mapped, logdet = getattr(bijection, direction)(value, cond)
    loss = (mapped.double() ** 3).mean() - (logdet.double() ** 2).mean() / 1e3
    inputs = [value, *cond.values(), *bijection.parameters()]
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("keep", ["nothing", "inputs"])
def test_gradients_are_the_stored_ones(flow, keep, direction):
    chain, x, cond = flow
    chain, x = chain.double(), x.double()
    cond = {key: entry.double() for key, entry in cond.items()}
    value = x if direction == "forward" else chain(x, cond)[0].detach()
    expected = gradients(chain, value, cond, direction=direction)
    got = gradients(Reversible(chain, keep=keep), value, cond, direction=direction)
    for came, wanted in zip(got, expected, strict=True):
        # Relative to the largest gradient of the tensor: both sum the same float64 terms.
        assert (came - wanted).abs().max() <= 1e-12 * max(1, wanted.abs().max())


def saved_bytes(bijection, x, cond):
    """What autograd keeps of one pass, parameters and inputs aside, each storage once."""
    conds = cond.values() if isinstance(cond, dict) else (cond,)
    known = {t.untyped_storage().data_ptr() for t in (x, *conds, *bijection.parameters())}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = bijection(x, cond)
    assert result[0].requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_does_not_grow_with_the_number_of_steps():
    x, cond = torch.rand(2, 12, 16, 16), torch.rand(2, 2, 16, 16)
    counted = {}
    for count in (4, 8):
        chain = Chain(*steps(12, count))
        for name, bijection in (
            ("stored", chain),
            ("inputs", Reversible(chain, keep="inputs")),
            ("nothing", Reversible(chain)),
        ):
            counted[name, count] = saved_bytes(bijection, x, cond)
    assert counted["nothing", 8] == counted["nothing", 4] < 2 * x.nbytes
    assert counted["inputs", 8] <= len(chain) * x.nbytes
    assert counted["stored", 8] > 50 * counted["nothing", 8]


@pytest.mark.parametrize("keep", ["nothing", "inputs"])
@pytest.mark.parametrize("layer", [Coupling, Injector])
def test_a_net_runs_once_each_way(layer, keep):
    calls = []

    class Counting(ConvNet):
        def forward(self, *inputs):
            calls.append(torch.is_grad_enabled())
            return super().forward(*inputs)

    chain = Chain(*(layer(4, partial(Counting, hidden=4), cond_channels=2) for _ in range(3)))
    y, logdet = Reversible(chain, keep=keep)(torch.rand(1, 4, 4, 4), torch.rand(1, 2, 4, 4))
    assert calls == [False] * 3
    (y.sum() + logdet.sum()).backward()
    assert calls == [False] * 3 + [True] * 3


def test_without_gradients_it_is_the_bijection(flow):
    chain, x, cond = flow
    module = Reversible(chain)
    with torch.no_grad():
        for direction in ("forward", "inverse"):
            got, expected = (getattr(b, direction) for b in (module, chain))
            value = x if direction == "forward" else chain(x, cond)[0]
            for came, wanted in zip(got(value, cond), expected(value, cond), strict=True):
                assert torch.equal(came, wanted)


def test_given_conditions_get_gradients(flow):
    chain, x, cond = flow
    results = []
    for run in (
        lambda learned: chain(x, learned),
        lambda learned: Reversible(chain).given(learned)(x),
        lambda learned: Flow(Reversible(chain)).given(learned).bijection(x),
    ):
        learned = {key: entry.clone().requires_grad_() for key, entry in cond.items()}
        y, logdet = run(learned)
        results.append(torch.autograd.grad(y.square().sum() + logdet.sum(), learned.values()))
    for came in results[1:]:
        torch.testing.assert_close(came, results[0], rtol=1e-4, atol=1e-4)


def test_a_condition_inside_is_refused():
    inner = Injector(4, NET, cond_channels=2).given(torch.rand(1, 2, 4, 4))
    for bijection in (inner, Chain(Inverse(inner)), OnChannels(2, At("a", inner))):
        message = r"expected conditions to come with the call, .* outside: Reversible\(...\).given"
        with pytest.raises(TypeError, match=message):
            Reversible(bijection)
    with pytest.raises(TypeError, match="expected conditions to come with the call"):
        Reversible(Chain(Coupling(4, NET, cond_channels=2)).given(torch.rand(1, 2, 4, 4)))


class Forgetful(Bijection):
    """y = 2x, with an inverse that is slightly off."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, cond=None):
        return x * self.factor, x.new_zeros(len(x))

    def inverse(self, y, cond=None):
        return y / self.factor + self.error, y.new_zeros(len(y))


def test_drift_is_an_error():
    x = torch.rand(1, 2, 4, 4) + 1
    chain = Chain(*(Forgetful(0.1) for _ in range(4)))
    with pytest.raises(Drifted, match=r"expected to get the input back within 0.0\d+, got 0\.\d+"):
        Reversible(chain)(x)[0].sum().backward()
    for kind in ({"tolerance": None}, {"tolerance": 0.5}, {"keep": "inputs"}):
        Reversible(chain, **kind)(x)[0].sum().backward()


def test_inversion_that_overflows_is_drift():
    x = torch.rand(1, 2, 4, 4)
    with pytest.raises(Drifted, match=r"got (nan|inf)"):
        Reversible(Forgetful(float("nan")))(x)[0].sum().backward()


def test_under_autocast_nets_run_in_the_same_precision_again(flow):
    chain, x, cond = flow
    results = []
    for bijection in (chain, Reversible(chain, keep="inputs")):
        with torch.autocast("cpu", torch.bfloat16):
            mapped, logdet = bijection(x, cond)
        assert mapped.dtype == logdet.dtype == torch.float32
        loss = mapped.square().mean() - logdet.mean() / 100
        results.append(torch.autograd.grad(loss, list(bijection.parameters())))
    for came, wanted in zip(*results, strict=True):
        # Sums of the same bf16 products may be ordered differently: a few units of 2⁻⁸.
        assert (came - wanted).abs().max() <= 0.02 * wanted.abs().max() + 1e-6


def test_compiled_nets_and_averages_see_the_same_parameters(flow):
    chain, x, cond = flow
    module = Reversible(chain)
    assert {id(p) for p in module.parameters()} == {id(p) for p in chain.parameters()}
    average = torch.optim.swa_utils.AveragedModel(module)
    torch.testing.assert_close(average(x, cond)[0], module(x, cond)[0])


def test_under_distributed_data_parallel(flow, tmp_path):
    chain, x, cond = flow
    expected = gradients(chain, x, cond)[3:]
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        module = nn.parallel.DistributedDataParallel(Reversible(copy.deepcopy(chain)))
        mapped, logdet = module(x, cond)
        ((mapped.double() ** 3).mean() - (logdet.double() ** 2).mean() / 1e3).backward()
    finally:
        dist.destroy_process_group()
    for parameter, wanted in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-5)


def test_inside_a_multiscale_part():
    torch.manual_seed(0)
    inner = Chain(Squeeze(), *(Coupling(8, NET) for _ in range(2)))
    x = torch.rand(2, 4, 4, 4)
    results = []
    for bijection in (inner, Reversible(inner)):
        y, logdet = OnChannels(2, Chain(bijection, Inverse(Squeeze())))(x)
        results.append(torch.autograd.grad(y.square().sum() + logdet.sum(), inner.parameters()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def multiscale(count, channels=1, deeper=2):
    """Three levels: half of the channels leave after each, normalised given the others."""
    layers = [Squeeze(), *steps(4 * channels, count, partial(MLP, hidden=8))]
    if deeper:
        rest = Chain(multiscale(count, 2 * channels, deeper - 1), Inverse(Squeeze()))
        layers.append(split(2 * channels, rest, Coupling(4 * channels, NET, kept=2 * channels)))
    return Chain(*layers)


def on_vectors(count):
    """All levels see one vector."""
    chain = At("all", multiscale(count))
    for parameter in chain.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return chain


def test_gradients_of_a_multiscale_flow_are_the_stored_ones():
    torch.manual_seed(0)
    chain = on_vectors(2).double()
    x, cond = torch.rand(2, 1, 8, 8).double(), {"all": torch.rand(2, 2).double()}
    for keep in ("nothing", "inputs"):
        for direction in ("forward", "inverse"):
            value = x if direction == "forward" else chain(x, cond)[0].detach()
            expected = gradients(chain, value, cond, direction=direction)
            got = gradients(Reversible(chain, keep=keep), value, cond, direction=direction)
            for came, wanted in zip(got, expected, strict=True):
                assert (came - wanted).abs().max() <= 1e-11 * max(1, wanted.abs().max())


def test_memory_of_a_multiscale_flow_does_not_grow_with_the_number_of_steps():
    x, cond = torch.rand(2, 1, 32, 32), {"all": torch.rand(2, 2)}
    counted = {}
    for count in (2, 4, 8):
        chain = on_vectors(count)
        for name, bijection in (("stored", chain), ("nothing", Reversible(chain))):
            counted[name, count] = saved_bytes(bijection, x, cond)
    assert counted["nothing", 8] == counted["nothing", 4] == counted["nothing", 2] < 2 * x.nbytes
    assert counted["stored", 8] > 1.8 * counted["stored", 4] > 50 * counted["nothing", 8]


def test_what_it_refuses():
    with pytest.raises(ValueError, match="expected keep among nothing, inputs, got 'all'"):
        Reversible(ActNorm(2), keep="all")
    chain = Chain(Coupling(4, NET, cond_channels=2))
    with pytest.raises(ValueError, match="Coupling: expected a condition of 2 channels"):
        Reversible(chain)(torch.rand(1, 4, 4, 4))
