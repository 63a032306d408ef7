"""The one-line flows: they are flows, of any shape, under any condition, and refuse in words."""

import pytest
import torch
from moved import moved

from flowkit import At, Chain, Flow, Inverse, OnChannels, flows, initialize

SMALL = {"steps": 2, "hidden": 8}
FEW_HEADS = {**SMALL, "heads": 2}
CASES = [
    ("nsf", 3, None),
    ("nsf", 1, None),
    ("nsf", 1, 4),
    ("nsf", 3, {"a": 2, "b": (4,)}),
    ("nsf", (2, 6), (3, 6)),
    ("nsf", (1, 4, 4), 2),
    ("maf", 3, 2),
    ("maf", 1, 2),
    ("maf", (2, 5), {"a": 2, "b": (3, 5)}),
    ("maf", (2, 2, 2), None),
    ("iaf", 3, 2),
    ("iaf", (1, 4), None),
    ("gaussianization", 3, None),
    ("gaussianization", (2, 3, 3), {"a": 2, "b": (3, 3, 3)}),
    ("realnvp", 3, 2),
    ("realnvp", 2, None),
    ("realnvp", (2, 4, 4), {"label": 3, "fine": (2, 4, 4), "coarse": (2, 2, 2), "last": (1, 1, 1)}),
    ("realnvp", (1, 8), None),
    ("glow", 4, 2),
    ("glow", (3, 4, 4), {"label": 3, "half": (2, 2, 2)}),
    ("glow", (1, 8), 2),
    ("flowplusplus", 3, 2),
    ("flowplusplus", (1, 4, 4), (2, 4, 4)),
    ("flowplusplus", (2, 4), None),
    ("flowplusplus", (2, 4), {"a": 2, "b": (3, 2)}),
]


def drawn(cond, batch):
    """A condition of the shapes that were asked for."""
    if cond is None:
        return None
    if isinstance(cond, dict):
        return {key: drawn(entry, batch) for key, entry in cond.items()}
    return torch.randn(batch, *((cond,) if isinstance(cond, int) else cond))


@pytest.mark.parametrize(("name", "shape", "cond"), CASES)
def test_there_and_back_with_its_density(name, shape, cond):
    torch.manual_seed(0)
    options = FEW_HEADS if name == "flowplusplus" else SMALL
    flow = moved(getattr(flows, name)(shape, cond, **options), by=0.1).double()
    assert type(flow) is Flow
    assert type(flow.bijection) is Chain
    full = (shape,) if isinstance(shape, int) else shape
    x = torch.randn(3, *full, dtype=torch.float64)
    made = drawn(cond, 3)
    initialize(flow, torch.randn(16, *full).double(), drawn(cond, 16))
    z, logdet = flow.encode(x, made)
    back, logdet_back = flow.decode(z, made)
    # float64 rounding through a dozen layers; bisection ends within 1e-9 in the mixtures.
    torch.testing.assert_close(back, x, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-6, atol=1e-6)

    def noise(value):
        one = first(made)
        return flow.encode(value[None], one)[0].flatten()

    slope = torch.autograd.functional.jacobian(noise, x[0]).reshape(x[0].numel(), -1)
    torch.testing.assert_close(torch.linalg.slogdet(slope)[1], logdet[0], rtol=1e-7, atol=1e-7)
    lead = (2,) if cond is None else (2, 3)
    assert flow.sample(made, num_samples=2).shape == (*lead, *full)


def first(cond):
    if isinstance(cond, dict):
        return {key: first(entry) for key, entry in cond.items()}
    return None if cond is None else cond[:1]


@pytest.mark.parametrize(("name", "shape", "cond"), [c for c in CASES if isinstance(c[2], dict)])
def test_every_entry_of_the_condition_matters(name, shape, cond):
    torch.manual_seed(0)
    options = FEW_HEADS if name == "flowplusplus" else SMALL
    flow = moved(getattr(flows, name)(shape, cond, **options), by=0.1)
    full = (shape,) if isinstance(shape, int) else shape
    x, made = torch.randn(3, *full), drawn(cond, 3)
    density = flow.log_prob(x, made)
    for key in cond:
        assert not flow.log_prob(x, {**made, key: made[key] + 1}).equal(density), key


@pytest.mark.parametrize("name", flows.__all__)
def test_far_out_they_stay_finite(name):
    patched = name in ("jet", "tarflow")
    options = {"steps": 2, "hidden": 16, "patch": 1} if patched else SMALL
    flow = moved(getattr(flows, name)((3, 1, 2) if patched else 3, **options), by=0.1)
    far = torch.tensor([[1e6, -1e6, 1e6], [-1e6, -1e6, 0.0], [0.0, 0.0, 1e6]])
    if patched:
        far = torch.stack([far, far.flip(1)], dim=2)[:, :, None]
    for values in (*flow.encode(far), *flow.decode(far), flow.log_prob(far)):
        assert values.isfinite().all()


def test_it_is_printed_sliced_and_changed():
    flow = flows.nsf(2, steps=3)
    assert "RationalQuadraticSpline" in str(flow)
    assert len(flow.bijection) == 9
    shorter = Flow(flow.bijection[:3])
    assert shorter.log_prob(torch.rand(4, 2)).shape == (4,)
    by_name = flows.glow((1, 4, 4), {"half": (2, 2, 2)}, steps=1, levels=1).bijection
    assert isinstance(by_name[3], At)


def test_no_latent_of_a_multiscale_flow_is_lost():
    flow = flows.glow((1, 8, 8), steps=1, hidden=4)
    assert flow.base.fixed == (4, 4, 4)
    assert [type(layer) for layer in flow.bijection].count(Chain) == 1
    coarse = flow.bijection[-1]
    assert isinstance(coarse[1], OnChannels)
    assert isinstance(coarse[1].bijection[-1], Inverse)
    assert flow.sample(num_samples=2, temperature=(1.0, 0.5)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: flows.nsf("2"), "nsf: expected the shape of a sample as C or"),
        (lambda: flows.nsf(0), "nsf: expected the shape of a sample of sizes >= 1, got 0"),
        (lambda: flows.maf(2, 1.5), "maf: expected the condition as C or"),
        (lambda: flows.maf(2, {"a": (0, 3)}), "maf: expected condition 'a' of sizes >= 1"),
        (lambda: flows.maf(2, {}), "maf: expected entries in the condition, got none"),
        (lambda: flows.iaf(2, (3, 4)), r"iaf: expected the condition as a vector \(3,\), which"),
        (
            lambda: flows.glow((3, 8, 8), (5, 8, 8)),
            r"glow: expected the condition as a vector \(5,\), or one of places \(4, 4\) or \(2, 2",
        ),
        (lambda: flows.glow((3, 6, 8)), "glow: expected places that are multiples of 4"),
        (lambda: flows.flowplusplus((3, 5, 8)), r"for 1 squeezes, got .*; crop or pad them$"),
        (lambda: flows.realnvp(2, steps=0), "realnvp: expected steps as an integer >= 1, got 0"),
        (lambda: flows.flowplusplus(2, hidden=4.0), "flowplusplus: expected hidden as an int"),
        (
            lambda: flows.flowplusplus((1, 4, 4), hidden=8),
            "ConvAttentionNet: expected hidden as a multiple of heads=4, with at least 4 numbers",
        ),
    ],
)
def test_it_refuses_in_words(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_a_spline_flow_with_a_condition_learns_alike_in_any_unit():
    torch.manual_seed(0)
    x, cond = torch.randn(64, 2).double(), torch.randn(64, 1).double()

    def gradients(scale, shift):
        torch.manual_seed(0)
        flow = flows.nsf(2, 1, steps=1).double()
        initialize(flow, scale * x + shift, cond)
        flow.log_prob(scale * x + shift, cond).mean().backward()
        return [p.grad for p in flow.bijection.layers[1].net.parameters()]

    expected = gradients(1, 0)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected)
    # Rounding of x near 1e4 in float64, relative to a deviation of 0.1: 1e-11, and 100 for sums.
    torch.testing.assert_close(gradients(0.1, 1e4), expected, rtol=1e-9, atol=1e-9)
