"""One graph serves every size: compiled with dynamic shapes, and exported."""

from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export

from flowkit import (
    MLP,
    ActNorm,
    At,
    Autoregressive,
    Chain,
    ConvNet,
    Coupling,
    Example,
    Flow,
    Injector,
    InvertibleLinear,
    RationalQuadraticSpline,
    Squeeze,
)
from flowkit.testing import randomized

IMAGES = [(3, 8, 8), (2, 6, 10), (4, 12, 6), (5, 10, 14), (2, 8, 16)]
IMAGES += [(3, 16, 8), (2, 20, 12), (6, 14, 10), (3, 22, 18), (4, 18, 22)]
SEQUENCES = [(b, h) for b, h, _ in IMAGES]
VECTORS = [(b,) for b in (3, 2, 4, 5, 7, 6, 9, 8, 16, 12)]

net, line = partial(ConvNet, hidden=4), partial(ConvNet, hidden=4, axes=1)
mlp = partial(MLP, hidden=4)


def glow(*layers):
    return lambda: Chain(ActNorm(4), InvertibleLinear(4), *(layer() for layer in layers))


def key(layer):
    return lambda: At("key", layer())


# By name: what makes it, the sizes, and by how much a condition is smaller than x (None: it is a
# vector; "none": there isn't one).
FLOWS = {
    "unconditional": (glow(lambda: Coupling(4, net)), IMAGES, "none"),
    "coupling": (glow(lambda: Coupling(4, net, cond_channels=2)), IMAGES, 1),
    "injector": (glow(lambda: Injector(4, net, cond_channels=2)), IMAGES, 1),
    "vector at every place": (glow(lambda: Coupling(4, net, cond_channels=2)), IMAGES, None),
    "spline": (
        glow(lambda: Coupling(4, line, RationalQuadraticSpline(4), cond_channels=2)),
        SEQUENCES,
        1,
    ),
    "squeezed": (
        lambda: Chain(Squeeze(), At("key", Chain(ActNorm(16), Coupling(16, net, cond_channels=2)))),
        IMAGES,
        2,
    ),
    "vectors": (glow(lambda: Coupling(4, mlp, cond_channels=2)), VECTORS, 1),
    "autoregressive": (glow(lambda: Autoregressive(4, cond_channels=2)), VECTORS, 1),
}


def case(name, size):
    """x and the condition of a flow at a size (B, *S)."""
    _, _, factor = FLOWS[name]
    batch, *places = size
    x = torch.randn(batch, 4, *places)
    if factor == "none":
        return x, None
    cond = torch.randn(batch, 2, *([] if factor is None else [s // factor for s in places]))
    return x, {"key": cond} if name == "squeezed" else cond


class BothWays(nn.Module):
    """There and back again, so that one graph is captured and not two."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, cond):
        y, logdet = self.layer(x, cond)
        return y, logdet, *self.layer.inverse(y + 1, cond)


@pytest.fixture(autouse=True)
def uncompiled():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def both_ways(name):
    return BothWays(randomized(Example(FLOWS[name][0], (4,)), seed=0))


def assert_same(came, expected):
    for a, b in zip(came, expected, strict=True):
        # float32: a log-det sums some thousands of terms, each of a few roundings of 6e-8.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_ten_sizes_take_one_or_two_graphs(name):
    module, counter = both_ways(name), CompileCounter()
    compiled = torch.compile(module, backend=counter, dynamic=True, fullgraph=True)
    for size in FLOWS[name][1]:
        inputs = case(name, size)
        assert_same(compiled(*inputs), module(*inputs))
    # The second, if there is one, is for what the first took to be a constant.
    assert counter.frame_count <= 2


@pytest.mark.parametrize(
    ("name", "strict"),
    [*((name, True) for name in FLOWS), ("coupling", False), ("squeezed", False)],
)
def test_an_exported_graph_takes_every_size(name, strict):
    module = both_ways(name)
    _, sizes, factor = FLOWS[name]
    batch = Dim("batch", min=2, max=64)
    names = "hw"[: len(sizes[0]) - 1]
    if factor == 2:
        small = {n: Dim(f"half_{n}", min=1, max=256) for n in names}
        large = {n: 2 * dim for n, dim in small.items()}
    else:
        small = large = {n: Dim(n, min=2, max=512) for n in names}
    x_sizes = {0: batch, **{i: large[n] for i, n in enumerate(names, 2)}}
    cond_sizes = {
        0: batch,
        **({} if factor is None else {i: small[n] for i, n in enumerate(names, 2)}),
    }
    if name == "squeezed":
        cond_sizes = {"key": cond_sizes}
    dynamic = {"x": x_sizes, "cond": None if factor == "none" else cond_sizes}
    exported = export(module, case(name, sizes[0]), dynamic_shapes=dynamic, strict=strict).module()
    for size in sizes[1:3]:
        inputs = case(name, size)
        assert_same(exported(*inputs), module(*inputs))


def test_a_density_takes_any_size_as_one_graph():
    flow, counter = Flow(FLOWS["coupling"][0]()), CompileCounter()
    compiled = torch.compile(flow, backend=counter, dynamic=True, fullgraph=True)
    for size in IMAGES:
        inputs = case("coupling", size)
        # Some 1,600 terms of about 1, each rounded to 6e-8.
        torch.testing.assert_close(compiled(*inputs), flow(*inputs), rtol=1e-5, atol=1e-3)
    assert counter.frame_count <= 2
