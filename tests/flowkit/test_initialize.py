"""Initialisation from data: one pass, one process or several."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from flowkit import (
    ActNorm,
    Chain,
    ConvNet,
    Coupling,
    Flow,
    Injector,
    Inverse,
    InvertibleLinear,
    Squeeze,
    initialize,
)
from flowkit.nets import ChannelNorm, ZeroConv

NET = partial(ConvNet, hidden=8)


def build(seed=0):
    """A conditional flow over (3, 8, 8) whose conditioners aren't zero."""
    torch.manual_seed(seed)
    bijection = Chain(
        ActNorm(3),
        InvertibleLinear(3),
        Squeeze(),
        ActNorm(12),
        Injector(12, NET, cond_channels=2),
        Coupling(12, NET, cond_channels=2),
        ActNorm(12),
    )
    for module in bijection.modules():
        if isinstance(module, ZeroConv):
            torch.nn.init.normal_(module.weight, std=0.1)
    return Flow(bijection)


def batch(size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 5 + 3 * torch.randn(size, 3, 8, 8, generator=generator)
    return x, 2 + torch.randn(size, 2, 4, 4, generator=generator)


def outputs_of(flow, kind, *inputs):
    """What the modules of `kind` give while `flow` maps the inputs."""
    seen = []

    def keep(module, args, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    hooks = [m.register_forward_hook(keep) for m in flow.modules() if isinstance(m, kind)]
    with torch.no_grad():
        flow.log_prob(*inputs)
    for hook in hooks:
        hook.remove()
    return seen


def assert_normalized(y):
    """Mean 0 and standard deviation 1 per channel, to the float32 rounding of values about 5."""
    zeros = torch.zeros(y.shape[1])
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), zeros, rtol=0, atol=1e-5)
    std = y.std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(std, zeros + 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [ActNorm, ChannelNorm])
def test_every_norm_sees_its_own_input(kind):
    flow, inputs = build(), batch()
    initialize(flow, *inputs)
    normalized = outputs_of(flow, kind, *inputs)
    assert len(normalized) == (3 if kind is ActNorm else 4)
    for y in normalized:
        assert_normalized(y)


def test_a_bijection_will_do_and_a_second_call_starts_over():
    flow = build()
    initialize(flow.bijection, *batch(seed=1))
    initialize(flow.bijection, *batch(seed=2))
    again = build()
    initialize(again, *batch(seed=2))
    for got, expected in zip(flow.parameters(), again.parameters(), strict=True):
        assert got.equal(expected)


def test_initialisation_leaves_no_hooks_and_no_gradients():
    flow, inputs = build(), batch()
    initialize(flow, *inputs)
    state = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    flow.log_prob(*batch(seed=1))
    for name, tensor in flow.state_dict().items():
        assert tensor.equal(state[name])
    assert all(parameter.requires_grad for parameter in flow.parameters())
    assert all(parameter.grad is None for parameter in flow.parameters())


def test_hooks_go_even_if_the_pass_fails():
    flow = build()
    x, cond = batch()
    with pytest.raises(ValueError, match="expected a condition"):
        initialize(flow, x, cond[:, :1])
    before = flow.bijection[0].bias.clone()
    flow.log_prob(x, cond)
    assert flow.bijection[0].bias.equal(before)


def test_norms_that_the_pass_does_not_call_are_named():
    flow = Chain(ActNorm(2), Inverse(ActNorm(2)))
    with pytest.raises(ValueError, match=r"every norm, got none through \['layers.1.bijection'\]"):
        initialize(flow, torch.randn(4, 2, 3, 3))


def test_the_pass_keeps_no_graph():
    flow, needs_gradient = build(), []
    hook = flow.bijection[1].register_forward_hook(
        lambda module, args, output: needs_gradient.append(output[0].requires_grad)
    )
    initialize(flow, *batch())
    hook.remove()
    assert needs_gradient == [False]


def test_calling_forward_never_initialises():
    flow, inputs = build(), batch()
    flow.train()
    state = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    flow.log_prob(*inputs)
    flow.sample(inputs[1], shape=(3, 8, 8))
    for name, tensor in flow.state_dict().items():
        assert tensor.equal(state[name])


@pytest.mark.parametrize(
    "x",
    [
        torch.stack([torch.full((4, 2, 2), 7.0), torch.randn(4, 2, 2)], dim=1),
        torch.tensor([[[[3.0]], [[-2.0]]]]),
        torch.zeros(2, 2, 2, 2),
    ],
    ids=["constant channel", "one pixel", "zeros"],
)
def test_constant_channels_are_centred_and_keep_their_scale(x):
    layer = ActNorm(2)
    initialize(layer, x)
    y, logdet = layer(x)
    assert y.isfinite().all()
    assert logdet.isfinite().all()
    assert layer.log_scale[0] == 0
    assert y[:, 0].equal(torch.zeros_like(y[:, 0]))


def parallel(rank, size, folder):
    """One of `size` processes: its share of the batch, its own random weights."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    flow = build(seed=rank)
    x, cond = batch()
    initialize(flow, x[rank::size], cond[rank::size])
    torch.save(flow.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    multiprocessing.spawn(parallel, args=(2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = build(seed=0)
    initialize(alone, *batch())
    for name, expected in alone.state_dict().items():
        assert first[name].equal(second[name])
        # Statistics are summed in float64, in another order, and rounded to float32 once.
        torch.testing.assert_close(first[name], expected, rtol=1e-6, atol=1e-6)
    # Without the statistics of both, the ranks' own would be this far apart.
    half = build(seed=0)
    x, cond = batch()
    initialize(half, x[::2], cond[::2])
    assert (half.bijection[0].bias - first["bijection.layers.0.bias"]).abs().max() > 1e-3


def test_data_in_small_units_is_standardised_too():
    x = 1e-9 * torch.randn(64, 2)
    layer = ActNorm(2)
    initialize(layer, x)
    y, _ = layer(x)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(2), rtol=1e-4, atol=0)
