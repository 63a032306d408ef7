"""Flows in the hands of PyTorch's tools: averages, processes, shards, LBFGS, export, torch.func.

What each layer's checks hold it to (copies, graphs, gradients) isn't repeated here; this is about
the density of a whole flow: what comes is right, or refused.
"""

import copy
import math
import tempfile
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from moved import moved
from torch import nn
from torch.export import Dim, export
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from flowkit import (
    MADE,
    MLP,
    PLU,
    ActNorm,
    Affine,
    Autoregressive,
    Chain,
    ConvNet,
    Coupling,
    ExpScale,
    Flip,
    Flow,
    Injector,
    Inverse,
    InvertibleLinear,
    Orthogonal,
    Permute,
    Pointwise,
    RationalQuadraticSpline,
    Squeeze,
    StandardNormal,
)

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)  # float64 through some layers
NET, SPLINE = partial(MLP, hidden=6), RationalQuadraticSpline(4)


def couplings():
    first = Coupling(3, NET, cond_channels=2), Permute([2, 0, 1]), InvertibleLinear(3, PLU)
    return Flow(Chain(ActNorm(3), *first, Coupling(3, NET, SPLINE)), StandardNormal(3))


def autoregressive():
    layer = partial(Autoregressive, 3, partial(MADE, hidden=6), cond_channels=2)
    return Flow(Chain(layer(), Flip(), layer(SPLINE)), StandardNormal(3))


def inverse_autoregressive():
    layer = Autoregressive(3, partial(MADE, hidden=6), cond_channels=2)
    return Flow(Chain(Inverse(layer), InvertibleLinear(3, Orthogonal)), StandardNormal(3))


def injector():
    return Flow(Injector(3, NET, SPLINE, cond_channels=2), StandardNormal(3))


FLOWS = [couplings, autoregressive, inverse_autoregressive, injector]


@pytest.fixture(params=FLOWS, ids=lambda build: build.__name__)
def flow(request):
    torch.manual_seed(0)
    return moved(request.param().double())


def data(batch=4, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, cond = (
        torch.randn(batch, size, dtype=torch.float64, generator=generator) for size in (3, 2)
    )
    return x, cond


# torch.func


def test_gradient_and_hessian_of_one_density(flow):
    x, cond = (tensor[:1] for tensor in data())

    def density(point):
        return flow.log_prob(point[None], cond)[0]

    by_hand = torch.autograd.functional.hessian(density, x[0])
    assert by_hand.any()
    close(hessian(density)(x[0]), by_hand)
    close(jacrev(jacrev(density))(x[0]), by_hand)
    close(jacrev(density)(x[0]), jacfwd(density)(x[0]))
    step = 1e-5 * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([density(x[0] + d) - density(x[0] - d) for d in step]) / 2e-5
    # Of a difference 2e-5 wide: its square, and rounding over it.
    torch.testing.assert_close(jacrev(density)(x[0]), differences, rtol=1e-6, atol=1e-8)


def test_a_batch_of_jacobians_has_nothing_off_its_diagonal(flow):
    x, cond = data()
    jacobian = jacrev(flow.log_prob)(x, cond)
    alone = torch.stack([jacobian[i, i] for i in range(len(x))])
    close(jacobian.sum(1), alone)
    each = vmap(grad(lambda x, c: flow.log_prob(x[None], c[None])[0]))(x, cond)
    close(each, alone)


def test_vmap_over_conditions(flow):
    x, cond = data()
    conds = torch.stack([cond, cond + 1, cond - 2])
    one_by_one = torch.stack([flow.log_prob(x, c) for c in conds])
    close(vmap(lambda c: flow.log_prob(x, c))(conds), one_by_one)
    over_one = vmap(lambda c: flow.log_prob(x, c.expand(len(x), -1)))(cond)
    close(over_one, torch.stack([flow.log_prob(x, c.expand(len(x), -1)) for c in cond]))
    given = vmap(lambda c: flow.given(c[None]).log_prob(x[:, None])[:, 0])(cond)
    close(given, over_one)


def test_vmap_over_an_ensemble(flow):
    flows = [flow, moved(copy.deepcopy(flow), seed=1)]
    parameters, buffers = stack_module_state(flows)
    x, cond = data()
    together = vmap(lambda p, b: functional_call(flow, (p, b), (x, cond)))(parameters, buffers)
    close(together, torch.stack([one.log_prob(x, cond) for one in flows]))


def test_gradients_of_each_sample_for_the_parameters(flow):
    x, cond = data()
    parameters = dict(flow.named_parameters())
    buffers = dict(flow.named_buffers())

    def loss(parameters, x, cond):
        return functional_call(flow, (parameters, buffers), (x[None], cond[None]))[0]

    each = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, cond)
    for sample in range(len(x)):
        flow.zero_grad()
        flow.log_prob(x, cond)[sample].backward()
        for name, parameter in flow.named_parameters():
            close(each[name][sample], parameter.grad)


# Export


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_density_takes_any_batch(flow, strict):
    batch = Dim("batch", min=2, max=1000)
    program = export(flow, data(3), dynamic_shapes=({0: batch}, {0: batch}), strict=strict)
    for size in (2, 3, 17):
        close(program.module()(*data(size)), flow.log_prob(*data(size)))


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_density_of_images_takes_any_size(strict):
    net = partial(ConvNet, hidden=4)
    image = moved(Flow(Chain(Squeeze(), ActNorm(4), Coupling(4, net, cond_channels=2))).double())
    batch, half = Dim("batch", min=2, max=100), Dim("half", min=2, max=100)
    x, cond = torch.rand(2, 1, 6, 8).double(), torch.rand(2, 2).double()
    shapes = {0: batch, 2: 2 * half}, {0: batch}
    program = export(image, (x, cond), dynamic_shapes=shapes, strict=strict)
    x, cond = torch.rand(5, 1, 10, 8).double(), torch.rand(5, 2).double()
    close(program.module()(x, cond), image.log_prob(x, cond))


# Averages


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", ["SWA", "EMA"])
def test_an_average_is_the_flow_of_the_averaged_parameters(flow, kind, use_buffers):
    average = get_swa_multi_avg_fn() if kind == "SWA" else get_ema_multi_avg_fn(0.9)
    averaged = AveragedModel(flow, multi_avg_fn=average, use_buffers=use_buffers)
    by_hand = copy.deepcopy(flow)
    averaged.update_parameters(flow)
    for seed, weight in enumerate((1 / 2, 1 / 3) if kind == "SWA" else (0.1, 0.1)):
        moved(flow, seed=seed)
        try:
            averaged.update_parameters(flow)
        except RuntimeError as error:
            # PyTorch's SWA refuses buffers of whole numbers and of bools.
            if use_buffers and ("Integer" in str(error) or "bool" in str(error)):
                return
            raise
        with torch.no_grad():
            for mean, value in zip(by_hand.parameters(), flow.parameters(), strict=True):
                mean.lerp_(value, weight)
    x, cond = data()
    # PyTorch's SWA divides in float32.
    torch.testing.assert_close(averaged(x, cond), by_hand.log_prob(x, cond), rtol=1e-5, atol=1e-5)
    # Permutations and masks are what they were: an average of whole numbers would spoil them.
    for buffer, was in zip(averaged.module.buffers(), by_hand.buffers(), strict=True):
        assert buffer.equal(was)
    z, logdet = averaged.module.encode(x, cond)
    back, logdet_back = averaged.module.decode(z, cond)
    close(back, x)
    close(logdet_back, -logdet)


# LBFGS


def test_lbfgs_finds_the_most_likely_normal():
    x = 3 + 2 * data(200)[0]
    flow = Flow(Pointwise(3, Affine(ExpScale(bound=4.0))), StandardNormal(3)).double()
    optimizer = torch.optim.LBFGS(flow.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -flow.log_prob(x).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    variance = x.var(0, unbiased=False)
    best = -(1 + (2 * math.pi * variance).log()).sum() / 2
    # What is left is where LBFGS stops, changes of 1e-9.
    torch.testing.assert_close(flow.log_prob(x).mean(), best, rtol=0, atol=1e-6)


# Processes

SAMPLES = 6


def trained_in_a_process(rank, world, store, build, shard, path):
    """One step of this process's share of the batch; rank 0 saves what came."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # each starts from other weights
    flow = moved(build().double(), seed=rank)
    x, cond = (part.chunk(world)[rank] for part in data(SAMPLES))
    if shard:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        torch.manual_seed(0)
        flow = moved(build().double(), seed=0)
        mesh = dist.init_device_mesh("cpu", (world,))
        for layer in flow.bijection:
            if any(True for _ in layer.parameters()):
                fully_shard(layer, mesh=mesh)
        fully_shard(flow, mesh=mesh)
        module = flow
    else:
        module = nn.parallel.DistributedDataParallel(flow)
    (-module(x, cond).mean()).backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    state = {name: value.detach() for name, value in flow.state_dict().items()}
    if shard:
        state = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in state.items()}
    if rank == 0:
        torch.save(state, path)
    dist.barrier()
    dist.destroy_process_group()


def after_one_step(build, world, shard):
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world, f"{folder}/store", build, shard, f"{folder}/state")
        mp.spawn(trained_in_a_process, arguments, nprocs=world)
        return torch.load(f"{folder}/state", weights_only=True)


@pytest.mark.parametrize(
    ("build", "shard"), [(couplings, False), (autoregressive, True)], ids=["DDP", "FSDP2"]
)
def test_two_processes_take_the_step_of_one(build, shard):
    state = after_one_step(build, 2, shard)
    torch.manual_seed(0)
    flow = moved(build().double(), seed=0)
    (-flow.log_prob(*data(SAMPLES)).mean()).backward()
    torch.optim.SGD(flow.parameters(), lr=0.1).step()
    for name, expected in flow.state_dict().items():
        close(state[name], expected, msg=f"{name} is another")
