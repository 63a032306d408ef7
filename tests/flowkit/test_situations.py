"""Situations in which flow libraries, and PyTorch around them, were reported to go wrong.

Each test names a report of its kind.
"""

import copy
import time
from functools import partial

import pytest
import torch
import torch.distributed as dist
from moved import moved as moved_by
from torch import nn
from torch.distributions import Independent, Normal
from torch.func import hessian, jacfwd, jvp, vmap
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from flowkit import (
    PLU,
    ActNorm,
    Affine,
    At,
    Bijection,
    Chain,
    ConvNet,
    Coupling,
    Drifted,
    ExpScale,
    Flow,
    Full,
    Injector,
    Inverse,
    InvertibleLinear,
    OnChannels,
    Orthogonal,
    Permute,
    Pointwise,
    Reversible,
    SigmoidScale,
    Squeeze,
    StandardNormal,
    diagonal_normal,
    initialize,
    split,
)
from flowkit.reversible import _sampled

NET = partial(ConvNet, hidden=4)
moved = partial(moved_by, by=0.1)


def steps(channels=4, count=2, cond_channels=2):
    return Chain(
        *(
            layer
            for _ in range(count)
            for layer in (
                ActNorm(channels),
                InvertibleLinear(channels),
                Injector(channels, NET, cond_channels=cond_channels),
                Coupling(channels, NET, cond_channels=cond_channels),
            )
        )
    )


def images(batch=2, channels=4, size=(4, 4), dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *size, generator=generator, dtype=dtype)


# 01: pytorch#82156, TransformerEngine#1334, mamba#909: saved tensors unpacked twice.
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("keep", ["nothing", "inputs"])
def test_reversible_inside_a_checkpoint(keep, reentrant):
    chain = moved(Chain(ActNorm(4), InvertibleLinear(4), Coupling(4, NET))).double()
    x = images(dtype=torch.float64)

    def gradient(run):
        leaf = x.clone().requires_grad_()
        y, logdet = run(leaf)
        (y.square().sum() + logdet.sum()).backward()
        return leaf.grad

    module = Reversible(chain, keep=keep)
    got = gradient(lambda leaf: checkpoint(module, leaf, use_reentrant=reentrant))
    # float64 rounding through three layers.
    torch.testing.assert_close(got, gradient(chain), rtol=1e-10, atol=1e-10)


# 02: pytorch#43878, #4210, aeppl#49: log-densities that broadcast.
@pytest.mark.parametrize("size", [(16, 16), (2, 2), (2, 16), (16, 2)])
def test_density_of_a_picture_of_another_size(size):
    flow = Flow(Chain(Squeeze(), ActNorm(12)), StandardNormal((12, 4, 4)))
    for log_prob in (flow.log_prob, flow.given().log_prob):
        with pytest.raises(ValueError, match="expected"):
            log_prob(torch.rand(5, 3, *size))


class Mix(Bijection):
    """Channel 1 gets channel 0 added, at any number of places."""

    def forward(self, x, cond=None):
        return torch.cat([x[:, :1], x[:, 1:2] + x[:, :1], x[:, 2:]], 1), x.new_zeros(len(x))

    def inverse(self, y, cond=None):
        return torch.cat([y[:, :1], y[:, 1:2] - y[:, :1], y[:, 2:]], 1), y.new_zeros(len(y))


class FixedNormal(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, cond):
        return Independent(Normal(torch.zeros(self.shape), 1.0), len(self.shape) - 1)


# 03: Glow-PyTorch#26, pytorch_flows#2, flowjax#207: which axes are a sample's.
@pytest.mark.parametrize("event", [(5,), (2, 7), (2, 4, 4), (2, 3, 4, 5)], ids=len)
@pytest.mark.parametrize("base", [StandardNormal, lambda event: FixedNormal(1, *event)])
def test_own_layers_on_vectors_sequences_images_volumes(event, base):
    flow = Flow(Chain(Mix()), base(event))
    noise = torch.randn(3, *event)
    expected, _ = Mix().inverse(noise)
    assert flow.sample(noise=noise).equal(expected)
    assert flow.sample(num_samples=6).shape == (6, *event)
    normal = Independent(Normal(torch.zeros(event), 1.0), len(event))
    truth = normal.log_prob(Mix()(expected)[0])
    # 60 terms of float32.
    torch.testing.assert_close(flow.log_prob(expected), truth, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(flow.given().log_prob(expected), truth, rtol=1e-5, atol=1e-4)


FIRST = {
    "reflect": {"padding_mode": "reflect"},
    "circular": {"padding_mode": "circular"},
    "dilation": {"dilation": 2, "padding": 2},
    "kernel 5": {"kernel_size": 5, "padding": 2},
    "bias": {"bias": True},
    "groups": {"groups": 2},
}


# 04: glow-pytorch#11, chaiyujin/glow-pytorch#22: padding at the conditioner's borders.
@pytest.mark.parametrize("part", ["first", "first_cond"])
@pytest.mark.parametrize("options", FIRST.values(), ids=FIRST)
def test_a_conditioner_with_another_first_convolution(options, part):
    layer = moved(Coupling(4, partial(ConvNet, hidden=8), cond_channels=2), by=0.3)
    chosen = {"kernel_size": 3, "padding": 1, "bias": False} | options
    setattr(layer.net, part, nn.Conv2d(2, 8, **chosen))
    x, cond = images(size=(8, 8)), images(channels=2, size=(8, 8), seed=1)
    net = layer.net
    hidden = net.first(x[:, :2]) + net.first_cond(cond)
    hidden = net.second(net.first_norm(hidden).relu())
    shift, raw = net.last(net.second_norm(hidden).relu()).chunk(2, dim=1)
    scale, log_scale = layer.how.scale(raw)
    expected = torch.cat([x[:, :2], (x[:, 2:] + shift) * scale], dim=1)
    for come in (layer(x, cond), layer.given(cond)(x), layer.fold()(x, cond)):
        # Sums of 18 float32 terms in another order.
        torch.testing.assert_close(come[0], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(come[1], log_scale.flatten(1).sum(1), rtol=1e-5, atol=1e-4)


class Tanh(ConvNet):
    def forward(self, x, cond=None):
        return super().forward(x, cond).tanh()


class Halved(ConvNet):
    def respond(self, x, share=None):
        return super().respond(x, share) / 2


class WithSkip(ConvNet):
    def __init__(self, c_in, c_out, **options):
        super().__init__(c_in, c_out, **options)
        self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, cond=None):
        return super().forward(x, cond) + self.skip(x)


class LowRank(nn.Conv2d):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.down, self.up = nn.Conv2d(self.in_channels, 1, 1), nn.Conv2d(1, self.out_channels, 1)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


def replace(part, make):
    return lambda layer: setattr(layer.net, part, make())


def weight_normed(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(layer.net.second)
    with torch.enable_grad():
        layer.net.second(images(channels=4))


def patched(layer):
    forward = layer.net.forward
    layer.net.forward = lambda x, cond=None: forward(x, cond) / 2


def halve(module, args, output):
    return output / 2


def halve_input(module, args):
    return args[0] / 2, *args[1:]


def halve_value(module, args, output):
    return output[0] / 2, output[1]


CHANGES = {
    "as it was": lambda layer: None,
    "subclass, tanh": Tanh,
    "subclass, respond": Halved,
    "subclass, skip": WithSkip,
    "bias in the first": replace("first", lambda: nn.Conv2d(2, 4, 3, padding=1)),
    "bias in the second": replace("second", lambda: nn.Conv2d(4, 4, 1)),
    "low rank beside the second": replace("second", lambda: LowRank(4, 4, 1, bias=False)),
    "group norm": replace("second_norm", lambda: nn.GroupNorm(1, 4)),
    "group norm first": replace("first_norm", lambda: nn.GroupNorm(2, 4)),
    "another last": replace("last", lambda: nn.Conv2d(4, 4, 1)),
    "hook on the net": lambda layer: layer.net.register_forward_hook(halve),
    "hook on a part": lambda layer: layer.net.second_norm.register_forward_hook(halve),
    "hook on the first": lambda layer: layer.net.first.register_forward_hook(halve),
    "hook before the net": lambda layer: layer.net.register_forward_pre_hook(halve_input),
    "hook on the layer": lambda layer: layer.register_forward_hook(halve_value),
    "weight norm": lambda layer: nn.utils.parametrizations.weight_norm(layer.net.second),
    "weight norm by hook": weight_normed,
    "pruned": lambda layer: prune.random_unstructured(layer.net.second, "weight", 2),
    "forward replaced": patched,
}


# 05: yolov3#807, mmdetection#2924, optimum#348: fusing forgets what it doesn't know.
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("family", [Coupling, Injector])
def test_fold_and_given_of_a_net_that_was_changed(change, family):
    changed = CHANGES[change]
    net = changed if isinstance(changed, type) else ConvNet
    torch.manual_seed(0)
    channels = 4 if family is Coupling else 2
    layer = moved(family(channels, partial(net, hidden=4), cond_channels=2), by=0.3)
    if net is ConvNet:
        changed(layer)
    layer.eval()
    x, cond = images(channels=channels), images(channels=2, seed=1)
    expected = layer(x, cond)
    for same in (layer.fold(), Chain(layer).fold(), Flow(Chain(layer)).fold().bijection):
        torch.testing.assert_close(same(x, cond), expected, rtol=1e-5, atol=1e-4)
        assert not any(parameter.requires_grad for parameter in same.parameters())
        if change == "forward replaced":
            continue  # by a function that closes over the net, which nothing can copy
        original = copy.deepcopy(layer.state_dict())
        moved(layer)
        torch.testing.assert_close(same(x, cond), expected, rtol=1e-5, atol=1e-4)
        layer.load_state_dict(original)
    for given in (layer.given(cond), Chain(layer).given(cond)):
        torch.testing.assert_close(given(x), expected, rtol=1e-5, atol=1e-4)


class Doubled(ActNorm):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x)
        return 2 * y, logdet + x[0].numel() * torch.log(torch.tensor(2.0))


class Backwards(Chain):
    def forward(self, x, cond=None):
        return super().inverse(x, cond)


class Scaled(InvertibleLinear):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x)
        return 2 * y, logdet + x[0].numel() * torch.log(torch.tensor(2.0))


COMBINED = {
    "ActNorm subclass": lambda: Chain(Doubled(4), InvertibleLinear(4)),
    "InvertibleLinear subclass": lambda: Chain(ActNorm(4), Scaled(4)),
    "Chain subclass": lambda: Chain(Backwards(ActNorm(4), InvertibleLinear(4))),
    "OnChannels of one": lambda: OnChannels(4, Backwards(ActNorm(4), InvertibleLinear(4))),
    "Inverse of one": lambda: Inverse(Backwards(ActNorm(4), InvertibleLinear(4))),
    "Reversible of one": lambda: Reversible(Backwards(ActNorm(4), InvertibleLinear(4))),
}


@pytest.mark.parametrize("make", COMBINED.values(), ids=COMBINED)
def test_fold_and_given_of_layers_that_were_derived_from(make):
    chain, x = moved(make()), images()
    expected = chain(x)
    torch.testing.assert_close(chain.fold()(x), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(chain.given(images())(x), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_with_a_hook_are_not_merged(layer):
    chain, x = moved(Chain(ActNorm(4), InvertibleLinear(4))), images()
    chain[layer].register_forward_hook(halve_value)
    torch.testing.assert_close(chain.fold()(x), chain(x), rtol=1e-5, atol=1e-4)


class Arctan:
    def __init__(self, bound=None):
        if bound is not None:
            self.bound = bound

    def __call__(self, raw):
        log_scale = 1.3 * torch.atan(raw)
        return log_scale.exp(), log_scale


class Softer(ExpScale):
    def __call__(self, raw):
        return super().__call__(raw / 2)


class SofterSigmoid(SigmoidScale):
    def __call__(self, raw):
        return super().__call__(raw / 2)


# 07: FrEIA#19, pytorch-flows#5: other activations for the scale.
@pytest.mark.parametrize(
    "scale", [ExpScale(), SigmoidScale(), Arctan(), Arctan(2.0), Softer(), SofterSigmoid()]
)
def test_own_scale_maps_have_their_own_gradient(scale):
    layer = moved(Coupling(4, NET, Affine(scale)), by=0.3).double()
    x = images(dtype=torch.float64)
    shift, raw = layer.net(x[:, :2]).chunk(2, dim=1)
    s, log_s = scale(raw)
    expected = torch.cat([x[:, :2], (x[:, 2:] + shift) * s], dim=1), log_s.flatten(1).sum(1)

    def gradients(y, logdet):
        return torch.autograd.grad(y.square().sum() + logdet.sum(), list(layer.parameters()))

    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(*layer(x)), gradients(*expected), rtol=1e-10, atol=1e-10)


# 08: pytorch#197867, functorch#207: forward mode twice.
def test_second_derivatives_by_forward_mode():
    layers = [moved(Coupling(2, NET), by=0.3, seed=seed) for seed in range(3)]
    chain = Chain(*(layer for c in layers for layer in (c, Permute([1, 0]))))
    flow = Flow(chain.double())
    x, v = (images(1, 2, (2, 2), torch.float64, seed) for seed in (0, 1))

    def density(z):
        return flow.log_prob(z).sum()

    matrix = hessian(density)(x).reshape(8, 8)
    twice = jvp(lambda z: jvp(density, (z,), (v,))[1], (x,), (v,))[1]
    torch.testing.assert_close(twice, v.flatten() @ matrix @ v.flatten(), rtol=1e-9, atol=1e-9)
    laplacian = jacfwd(jacfwd(density))(x).reshape(8, 8).trace()
    torch.testing.assert_close(laplacian, matrix.trace(), rtol=1e-9, atol=1e-9)
    step = 1e-4
    differences = (density(x + step * v) - 2 * density(x) + density(x - step * v)) / step**2
    # The differences' own error: rounding 1e-13 / step², and step².
    torch.testing.assert_close(twice, differences, rtol=1e-4, atol=1e-3)


def by_vector(flow, x):
    return nn.utils.parameters_to_vector(flow.parameters())


def by_lbfgs(flow, x):
    optimizer = torch.optim.LBFGS(flow.parameters(), lr=0.1, max_iter=3)

    def closure():
        optimizer.zero_grad()
        y, logdet = flow(x)
        loss = (y.square().sum((1, 2, 3)) / 2 - logdet).sum()
        loss.backward()
        return loss

    return optimizer.step(closure)


def by_prune(flow, x):
    for module in list(flow.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.dim() == 2:
                prune.random_unstructured(module, name, amount=0.2)


def by_safetensors(flow, x):
    from safetensors.torch import save

    return save(flow.state_dict())


def by_sharding(flow, x):
    from torch.distributed.fsdp import fully_shard

    fully_shard(flow)
    return flow(x)


# 13: torchtitan#1180, pytorch#130346, safetensors#469, sentence-transformers#3524.
@pytest.mark.parametrize("use", [by_vector, by_lbfgs, by_prune, by_safetensors, by_sharding])
@pytest.mark.parametrize("weight", [Full, PLU, Orthogonal])
def test_parameters_lie_in_rows(use, weight, tmp_path):
    flow = Chain(ActNorm(4), InvertibleLinear(4, weight), Coupling(4, NET), Pointwise(4))
    assert all(tensor.is_contiguous() for tensor in flow.state_dict().values())
    if use is by_sharding:
        dist.init_process_group(
            "gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/store"
        )
    try:
        use(flow, images())
    finally:
        if use is by_sharding:
            dist.destroy_process_group()


# 14: flowMC#170: lower precision after folding.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("weight", [Full, PLU, Orthogonal])
def test_a_flow_in_another_precision_has_the_log_det_of_its_map(dtype, fold, weight):
    layers = [layer for _ in range(2) for layer in (ActNorm(8), InvertibleLinear(8, weight))]
    chain = moved(Chain(Squeeze(), *layers))
    chain = (chain.fold() if fold else chain).to(dtype)
    x = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    y, logdet = chain(x)
    back, logdet_back = chain.inverse(y)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: chain(z.reshape(1, 2, 4, 4))[0].flatten(), x.flatten()
    )
    truth = torch.linalg.slogdet(jacobian.double()).logabsdet
    # The chain's numbers are what `dtype` made of them; with those it computes in float32.
    torch.testing.assert_close(logdet[0].double(), truth, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logdet, -logdet_back, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)


def with_value(tensor, value):
    changed = tensor.clone()
    changed.flatten()[7] = value
    return changed


# 15: FrEIA#121, sbi#324, pyro#2833: statistics of nothing, or of NaN.
@pytest.mark.parametrize("what", ["empty", "nan batch", "nan condition", "inf condition"])
@pytest.mark.parametrize("mapping", [False, True])
def test_initialize_refuses_bad_statistics(what, mapping):
    chain = steps()
    x, cond = images(3), images(3, 2, seed=1)
    if what == "empty":
        x, cond = x[:0], cond[:0]
    elif what == "nan batch":
        x = with_value(x, float("nan"))
    else:
        cond = with_value(cond, float(what.split()[0]))
    before = copy.deepcopy(chain.state_dict())
    flow = At("a", chain) if mapping else chain
    with pytest.raises(ValueError, match=r"initialize: expected (samples|a finite)"):
        initialize(flow, x, {"a": cond, "b": None} if mapping else cond)
    assert all(tensor.equal(before[name]) for name, tensor in chain.state_dict().items())


def test_initialize_refuses_what_becomes_infinite_on_the_way():
    chain = Chain(Pointwise(4), ActNorm(4), Coupling(4, lambda a, b: Overflows(a, b)), ActNorm(4))
    with pytest.raises(ValueError, match=r"finite values to reach layers.3, got NaN or infinity"):
        initialize(chain, images(3))


class Overflows(nn.Conv2d):
    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out, 1)
        nn.init.constant_(self.weight, 3e38)


# 16: pytorch#129882, #105279, #139559: sizes that become constants.
# The other direction is in test_sizes.
def test_one_graph_for_all_sizes_of_noise():
    from torch._dynamo.testing import CompileCounter

    finer = Chain(Squeeze(), ActNorm(8), Inverse(Squeeze()))
    prior = Coupling(4, NET, kept=2, cond_channels=2)
    level = Chain(InvertibleLinear(4), Injector(4, NET, cond_channels=2), split(2, finer, prior))
    chain = moved(At("a", level))
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(chain.inverse, backend=counter, dynamic=True, fullgraph=True)
    for batch, height, width in [(3, 8, 8), (2, 6, 10), (4, 12, 6), (2, 20, 12)]:
        x = images(batch, 4, (height, width))
        cond = {"a": images(batch, 2, (height, width), seed=1)}
        # float32 sums in another order.
        torch.testing.assert_close(compiled(x, cond), chain.inverse(x, cond), rtol=1e-4, atol=1e-3)
    assert counter.frame_count <= 2


class WithMiddle(nn.Module):
    def __init__(self, c_in, c_out, middle):
        super().__init__()
        self.first, self.last = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 1)
        self.middle = middle

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


MIDDLES = {
    "dropout": (lambda c: nn.Dropout(0.5), "Dropout at layers.0.net.middle in training mode"),
    "dropout of channels": (lambda c: nn.Dropout2d(0.5), "Dropout2d"),
    "batch norm": (nn.BatchNorm2d, "BatchNorm2d at layers.0.net.middle in training mode"),
    "functional dropout": (lambda c: FunctionalDropout(), "got one that draws random numbers"),
    "random slopes": (lambda c: nn.RReLU(), "got one that draws random numbers"),
    "counter": (lambda c: Counts(), r"got ones that change \['layers.0.net.middle.calls'\]"),
    "spectral norm": (
        lambda c: nn.utils.parametrizations.spectral_norm(nn.Conv2d(c, c, 1)),
        "got ones that change .*_u",
    ),
}


def test_reversible_takes_a_dropout_of_nothing():
    chain = Chain(Coupling(4, lambda a, b: WithMiddle(a, b, nn.Dropout(0.0))), InvertibleLinear(4))
    torch.testing.assert_close(Reversible(chain)(images())[0], chain(images())[0])


# 22: memcnn#12, #56, RevTorch#13: nets that don't repeat.
@pytest.mark.parametrize("keep", ["nothing", "inputs"])
@pytest.mark.parametrize("middle", MIDDLES)
def test_reversible_refuses_nets_that_do_not_repeat(middle, keep):
    make, message = MIDDLES[middle]
    chain = Chain(Coupling(4, lambda a, b: WithMiddle(a, b, make(b))), InvertibleLinear(4))
    x = images()
    with pytest.raises(ValueError, match=message):
        Reversible(chain, keep=keep)(x)
    if middle in ("functional dropout", "counter"):
        return
    # In evaluation mode these repeat.
    chain.eval()
    results = []
    for module in (chain, Reversible(chain, keep=keep)):
        y, logdet = module(x)
        loss = y.square().sum() + logdet.sum()
        results.append(torch.autograd.grad(loss, list(chain.parameters())))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


# 27: pyro#1547, #2459, pytorch#31009: parameters that a distribution closes over.
def test_parameters_of_the_base_are_the_flows():
    class Prior(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 1)

        def forward(self, cond):
            return diagonal_normal(self.conv(cond))

    prior = Prior()
    for function in (prior.forward, lambda cond: prior(cond)):
        with pytest.raises(TypeError, match="Flow: expected the base as a module, got"):
            Flow(ActNorm(4), function)
    flow, x, cond = Flow(ActNorm(4), prior), images(), images(channels=2, seed=1)
    assert any(parameter is prior.conv.weight for parameter in flow.parameters())
    folded = flow.fold()
    before = folded.log_prob(x, cond)
    moved(prior, by=1.0)
    assert folded.log_prob(x, cond).equal(before)
    assert not before.requires_grad


# 28: pytorch#194626, pyro#2833: a batch of nothing.
@pytest.mark.parametrize("base", [None, FixedNormal(0, 4, 2, 2)], ids=["standard", "own"])
def test_a_batch_of_nothing(base):
    chain = Chain(Squeeze(), ActNorm(4), InvertibleLinear(4), Coupling(4, NET, cond_channels=2))
    flow = Flow(chain, base)
    x, z, cond = torch.empty(0, 1, 4, 4), torch.empty(0, 4, 2, 2), torch.empty(0, 2, 2, 2)
    for module in (chain, Reversible(chain), Reversible(chain, keep="inputs")):
        leaf = x.clone().requires_grad_()
        y, logdet = module(leaf, cond)
        assert y.shape == z.shape
        assert logdet.shape == (0,)
        (y.sum() + logdet.sum()).backward()
        assert leaf.grad.shape == x.shape
        assert module.inverse(z, cond)[0].shape == x.shape
    log_prob = flow.log_prob(x, cond)
    assert log_prob.shape == (0,)
    log_prob.sum().backward()
    assert flow.sample(cond, shape=(1, 4, 4)).shape == x.shape
    assert flow.sample(cond, shape=(1, 4, 4), num_samples=3).shape == (3, *x.shape)
    assert flow.sample(cond, noise=z).shape == x.shape
    given = flow.given(cond, shape=(1, 4, 4))
    assert given.log_prob(x).shape == (0,)
    samples, log_prob = given.rsample_and_log_prob((3,))
    assert samples.shape == (3, *x.shape)
    assert log_prob.shape == (3, 0)


# 33: sbi#944, #1153, #1329: loops in place of batches.
def test_many_samples_of_one_condition_are_one_batch():
    chain, sizes = steps(count=4), []
    chain.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    flow = Flow(moved(chain), StandardNormal((4, 4, 4)))
    cond = images(1, 2)
    many = cond.expand(512, -1, -1, -1)
    noise = torch.randn(512, 4, 4, 4)
    with torch.no_grad():
        given = flow.given(cond)
        x = given.sample_with((512,), noise=noise[:, None])
        torch.testing.assert_close(x[:, 0], flow.decode(noise, many)[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            given.log_prob(x)[:, 0], flow.log_prob(x[:, 0], many), rtol=1e-3, atol=1e-2
        )


@pytest.mark.parametrize("direction", ["sample", "log_prob"])
def test_many_samples_of_one_condition_take_the_time_of_a_batch(direction):
    flow = Flow(moved(steps(count=4)), StandardNormal((4, 8, 8))).fold()
    cond = images(1, 2, (8, 8))
    many = cond.expand(512, -1, -1, -1)
    x = images(512, 4, (8, 8))
    if direction == "sample":
        one, batch = lambda: flow.sample(cond, num_samples=512), lambda: flow.sample(many)
    else:
        one = lambda: flow.given(cond).log_prob(x[:, None])  # noqa: E731
        batch = lambda: flow.log_prob(x, many)  # noqa: E731

    def seconds(work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    with torch.no_grad():
        one(), batch()
        # The least of alternating pairs, for others may use the machine meanwhile.
        pairs = [(seconds(one), seconds(batch)) for _ in range(7)]
    assert min(a for a, _ in pairs) <= 1.2 * min(b for _, b in pairs)


EXAMPLES = [
    lambda: ActNorm(4),
    lambda: InvertibleLinear(4),
    lambda: InvertibleLinear(4, Orthogonal),
    lambda: Coupling(4, NET),
    lambda: Permute([1, 0, 3, 2]),
    lambda: Squeeze(),
    lambda: Chain(ActNorm(4), InvertibleLinear(4)),
    lambda: Chain(),
    lambda: OnChannels(2, ActNorm(2)),
    lambda: OnChannels(2, Squeeze((1, 1))),
    lambda: Pointwise(4),
    lambda: InvertibleLinear(4).fold(),
    lambda: Reversible(ActNorm(4)),
]


# 34: normflows#17, #19: log_q += logdet.
@pytest.mark.parametrize("make", EXAMPLES)
def test_log_dets_can_be_added_up_in_place(make):
    layer = make()
    for direction in (layer, layer.inverse):
        with torch.no_grad():
            _, logdet = direction(images(3))
        expected = logdet + torch.arange(3.0)
        logdet += torch.arange(3.0)
        assert logdet.equal(expected)


class Pixelwise(nn.Module):
    """Strong where the picture is bright, nothing where it is black."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x):
        return self.conv(x)


# 48: fdtdx#356, se3-transformer#4, invertible-resnet#3: drift that nobody looks at.
@pytest.mark.parametrize("size", [(64, 64), (128, 128), (256, 256), (80, 80), (200, 300)])
def test_drift_is_looked_for_all_over_the_picture(size):
    places = torch.arange(size[0] * size[1], dtype=torch.float64).reshape(1, 1, *size)
    looked_at = _sampled(places).flatten().long()
    # 64 places drawn among n columns leave few of 32 bands untouched: (1 - 1/32)^64 is 1 in 8.
    bands = {int(place % size[1] * 32 // size[1]) for place in looked_at}
    rows = {int(place // size[1] * 32 // size[0]) for place in looked_at}
    assert len(bands) > 20
    assert len(rows) > 20
    assert _sampled(places).equal(_sampled(places))


@pytest.mark.parametrize("flip", [False, True])
def test_drift_behind_a_dark_border_is_refused(flip):
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (Coupling(4, Pixelwise), Permute([2, 3, 0, 1]))]
    chain = Chain(*layers)
    for parameter in chain.parameters():
        nn.init.normal_(parameter, std=2.0)
    picture = torch.rand(1, 4, 64, 64)
    picture[..., :2] = 0
    picture = picture.flip(3) if flip else picture
    y, logdet = Reversible(chain)(picture.requires_grad_())
    with pytest.raises(Drifted, match="expected to get the input back"):
        (y.square().mean() - logdet.mean()).backward()


# Whole numbers as weights: parameters of bitsandbytes and torchao.


class WholeWeights(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        weight = torch.arange(c_out * c_in, dtype=torch.int8).reshape(c_out, c_in)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        return x @ self.weight.to(x.dtype).T / 10


def test_a_net_of_whole_weights_gets_its_input_unrounded():
    coupling = Coupling(4, WholeWeights)
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    shift, raw = coupling.net(x[:, :2]).chunk(2, dim=1)
    expected = (x[:, 2:] + shift) * ExpScale()(raw)[0]
    torch.testing.assert_close(coupling(x)[0][:, 2:], expected)


# Narrow sums of log-densities: flowMC#170, and pyro#2833.


class LearnedNormal(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(4, 32, 32))

    def forward(self, cond):
        return diagonal_normal(self.mean[None])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("base", [lambda: StandardNormal((4, 32, 32)), LearnedNormal])
def test_samples_of_a_narrow_flow_come_with_their_density(dtype, base):
    flow = moved(Flow(Chain(ActNorm(4), InvertibleLinear(4)), base())).to(dtype)
    x, density = flow.rsample_and_log_prob(num_samples=2)
    assert x.dtype == density.dtype == torch.float32
    # Thousands of nats in float32; a sum in bf16 would be nats off.
    torch.testing.assert_close(density, flow.log_prob(x), atol=0.01, rtol=0)


def test_the_density_of_one_sample():
    flow = Flow(moved(ActNorm(2)), StandardNormal(2))
    given = flow.given()
    x = given.sample()
    assert x.shape == (2,)
    torch.testing.assert_close(given.log_prob(x), flow.log_prob(x[None])[0])


def test_a_part_frozen_before_the_backward_pass_takes_no_gradient_from_another():
    def gradients(wrap):
        chain = moved(Chain(ActNorm(3), ActNorm(3), InvertibleLinear(3)))
        with torch.no_grad():
            chain[2].weight.entries.copy_(torch.eye(3) + torch.arange(9.0).reshape(3, 3) / 10)
        y, logdet = wrap(chain)(images(5, 3, ()))
        chain[0].bias.requires_grad_(False)
        (y.pow(3).sum() + logdet.sum()).backward()
        return [parameter.grad for parameter in list(chain.parameters())[1:]]

    for found, expected in zip(gradients(Reversible), gradients(lambda m: m), strict=True):
        torch.testing.assert_close(found, expected)


def test_reversible_of_zeros():
    flow = Flow(Reversible(moved(steps(cond_channels=2))))
    cond = images(2, 2)
    flow.log_prob(torch.zeros(2, 4, 4, 4), cond).sum().backward()
    flow.sample(cond, shape=(4, 4, 4), temperature=0).sum().backward()


def test_reversible_passes_gradients_to_what_made_fixed_numbers():
    made = torch.ones(4, requires_grad=True)
    x = images(3, 2, ())

    def gradient(wrap):
        y, logdet = wrap(Chain(Pointwise(2, numbers=2 * made), ActNorm(2)))(x)
        return torch.autograd.grad(y.square().sum() + logdet.sum(), made)[0]

    torch.testing.assert_close(gradient(Reversible), gradient(lambda m: m))


def test_fixed_numbers_move_and_are_saved():
    layer = Pointwise(2, numbers=torch.tensor([0.5, -1.0, 0.3, 0.7]))
    other = Pointwise(2, numbers=torch.zeros(4))
    other.load_state_dict(layer.double().state_dict())
    assert layer.numbers.dtype == torch.float64
    torch.testing.assert_close(other.numbers, layer.numbers, check_dtype=False)


def test_a_temperature_can_be_learned():
    temperature = torch.tensor(0.7, requires_grad=True)
    flow = Flow(ActNorm(2), StandardNormal(2))
    noise = images(5, 2, ())
    flow.sample(noise=noise, temperature=temperature).sum().backward()
    torch.testing.assert_close(temperature.grad, noise.sum())


class TurnedOver(Pointwise):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x, cond)
        return y.flip(1), logdet

    def inverse(self, y, cond=None):
        return super().inverse(y.flip(1), cond)


def test_levels_behind_a_subclass_that_moves_them_are_refused():
    levels = split(2, ActNorm(2), Coupling(4, NET, kept=2))
    flow = Flow(Chain(levels, TurnedOver(4)))
    with pytest.raises(ValueError, match="levels that stay apart, got TurnedOver"):
        flow.sample(shape=(4, 2, 2), temperature=(1.0, 0.0))


def test_a_folded_flow_for_many_conditions_at_once():
    flow = moved(Flow(Coupling(4, NET, cond_channels=2))).double()
    x, conds = images(1).double(), images(5, 2).double()[:, None]
    folded = flow.fold()
    densities = vmap(lambda cond: folded.log_prob(x, cond))(conds)
    expected = flow.log_prob(x.expand(5, -1, -1, -1), conds[:, 0])
    torch.testing.assert_close(densities[:, 0], expected)


class Wrong(Bijection):
    """Says what it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, cond=None):
        return self.answer(x), x.new_zeros(len(x))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: torch.cat([x, x]), "Wrong.forward: expected a value for each of 1 samples"),
        (lambda x: [x], "Wrong.forward: .* got a value that is list"),
    ],
)
@pytest.mark.parametrize("wrap", [Flow, lambda layer: Flow(Chain(layer))])
def test_values_for_another_number_of_samples_are_refused(answer, words, wrap):
    with pytest.raises((ValueError, TypeError), match=words):
        wrap(Wrong(answer)).log_prob(torch.zeros(1, 2))


@pytest.mark.parametrize("batch", [1, 5])
def test_a_condition_for_another_number_of_samples_is_refused(batch):
    flow = Flow(Wrong(lambda x: x))  # reads no condition, so it can't refuse one itself
    with pytest.raises(ValueError, match=f"each of 3 samples, got one for {batch}"):
        flow.log_prob(torch.zeros(3, 2), torch.zeros(batch, 4))
