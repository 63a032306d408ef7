"""What the checks of `flowkit.testing` find in layers of normflows 1.7 and zuko 1.6, through the
bridges: defects of theirs, each in the words that the check prints.

A test that fails because a defect is gone is good news: take the line out.
"""

from functools import partial

import pytest
import torch
from torch import nn

from flowkit import Example
from flowkit.testing import (
    check_copies,
    check_density,
    check_empty_batch,
    check_extremes,
    check_independent_samples,
    check_logdet,
    check_low_precision,
    check_pure,
    check_round_trip,
    check_shapes,
)


def fails(example, check, words):
    with pytest.raises(AssertionError, match=words):
        check(example)


def net(c_in, c_out):
    return nn.Sequential(nn.Linear(c_in, 8), nn.SiLU(), nn.Linear(8, c_out))


MASK = torch.tensor([1.0, 0.0, 1.0])
FLOAT32 = "dtype torch.float64, got torch.float32"

NORMFLOWS = {
    "ActNorm sets itself in any call, in evaluation mode as well": (
        lambda nf: nf.flows.ActNorm((3, 1, 1)),
        (3, 2, 3),
        check_pure,
        r"forward: expected the layer's state unchanged, got another \['layer.s', 'layer.t', 'laye",
    ),
    "ActNorm divides by no spread at all": (
        lambda nf: nf.flows.ActNorm((3,)),
        (3,),
        check_round_trip,
        r"inverse: expected to undo forward, [\d.-]+, got nan",
    ),
    "GlowBlock, which has one": (
        lambda nf: nf.flows.GlowBlock(4, 4),
        (4, 2, 3),
        check_pure,
        r"state unchanged, got another \['layer.flows.2.s', 'layer.flows.2.t', 'layer.flows.2.data",
    ),
    "Shift writes into its caller's tensor": (
        lambda nf: nf.transforms.Shift(),
        (3,),
        check_pure,
        r"forward: expected its input unchanged, got it modified",
    ),
    "Permute's log-determinant is float32 for float64": (
        lambda nf: nf.flows.Permute(3),
        (3,),
        check_logdet,
        rf"forward: expected the log-det of the Jacobian, {FLOAT32}",
    ),
    "Composite's, which loses digits": (
        lambda nf: nf.flows.Composite([nf.flows.AffineConstFlow((3,))]),
        (3,),
        check_logdet,
        rf"forward: expected the log-det of the Jacobian, {FLOAT32}",
    ),
    "Planar's": (
        lambda nf: nf.flows.Planar((3,), act="leaky_relu"),
        (3,),
        check_logdet,
        rf"inverse: expected the log-det of the Jacobian, {FLOAT32}",
    ),
    "Planar's slopes are float32 for float64": (
        lambda nf: nf.flows.Planar((3,), act="leaky_relu"),
        (3,),
        check_round_trip,
        r"inverse: expected to undo forward, (-?\d\.\d{6})\d*, got \1",
    ),
    "LULinearPermute makes float32 of float64": (
        lambda nf: nf.flows.LULinearPermute(3),
        (3,),
        check_shapes,
        r"inverse, float64 input, float32 parameters: expected a value in torch.float64, got torch",
    ),
    "Invertible1x1Conv can't be saved by safetensors": (
        lambda nf: nf.flows.Invertible1x1Conv(3),
        (3, 2, 3),
        check_copies,
        r"expected contiguous parameters and buffers, .*, got layer.W with strides \(1, 3\)",
    ),
    "Invertible1x1Conv's latents are bfloat16 under autocast": (
        lambda nf: nf.flows.Invertible1x1Conv(3),
        (3, 2, 3),
        check_low_precision,
        r"under autocast: expected a value in torch.float32, got torch.bfloat16",
    ),
    "MaskedAffineAutoregressive's log-determinant, likewise": (
        lambda nf: nf.flows.MaskedAffineAutoregressive(3, 8, num_blocks=1),
        (3,),
        check_low_precision,
        r"under autocast: expected a log-det in torch.float32, got torch.bfloat16",
    ),
    "MaskedAffineFlow's scale has no bound": (
        lambda nf: nf.flows.MaskedAffineFlow(MASK, net(3, 3), net(3, 3)),
        (3,),
        check_extremes,
        r"inverse, input ±1e\+06: expected a finite value, got nan in \d of \d",
    ),
    "a spline refuses a batch of nobody": (
        lambda nf: nf.flows.CoupledRationalQuadraticSpline(3, 1, 8, activation=nn.SiLU),
        (3,),
        check_empty_batch,
        r"forward: expected \(value, logdet\), got RuntimeError: cannot reshape tensor of 0 elemen",
    ),
    "a spline says nothing about NaN but that it asserts": (
        lambda nf: nf.flows.CoupledRationalQuadraticSpline(3, 1, 8, activation=nn.SiLU),
        (3,),
        check_extremes,
        r"inverse, NaN in sample 0: expected NaN there or a ValueError, got AssertionError\(\)",
    ),
    "a circular spline makes a number of NaN": (
        lambda nf: nf.flows.CircularCoupledRationalQuadraticSpline(
            3, 1, 8, ind_circ=[0], activation=nn.SiLU, tail_bound=3.0
        ),
        (3,),
        check_extremes,
        r"inverse, NaN in sample 0: expected NaN in what becomes of it, got only numbers",
    ),
    "Residual's log-determinant is one draw for all samples": (
        lambda nf: nf.flows.Residual(
            nf.nets.LipschitzMLP([3, 8, 3], init_zeros=False, lipschitz_const=0.9),
            reduce_memory=False,
        ),
        (3,),
        check_independent_samples,
        r"expected the log-det of sample 0 as if it were alone, .*: sample 0 depends on sample 1",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NORMFLOWS)
def test_normflows(name):
    normflows = pytest.importorskip("normflows")
    from flowkit.interop.normflows import FromNormflows

    make, shape, check, words = NORMFLOWS[name]
    fails(Example(lambda: FromNormflows(make(normflows)), shape), check, "FromNormflows.*" + words)


SMOOTH = {"hidden_features": (8,), "activation": nn.SiLU}


def of_flow(name, features=2, **options):
    """The transform of one of zuko's flows."""
    return lambda zuko: getattr(zuko.flows, name)(features, **options, **SMOOTH).transform


ZUKO = {
    "a numerical inverse makes a number of NaN (SOSPF)": (
        of_flow("SOSPF", transforms=1),
        check_extremes,
        r"inverse, NaN in sample 0: expected NaN in what becomes of it, got only numbers",
    ),
    "a numerical inverse makes a number of NaN (Bernstein)": (
        of_flow("BPF", transforms=1),
        check_extremes,
        r"inverse, NaN in sample 0: expected NaN in what becomes of it, got only numbers",
    ),
    "a numerical inverse ends where its bracket does (Gaussianization)": (
        of_flow("GF", transforms=1, components=3),
        check_round_trip,
        r"expected to undo",
    ),
    "latents are bfloat16 under autocast (spline)": (
        of_flow("NSF", transforms=1, bins=4),
        check_low_precision,
        r"under autocast: expected to undo \w+ but for 0.0001 of the typical element, got 0",
    ),
    "autocast isn't taken at all (SOSPF)": (
        of_flow("SOSPF", transforms=1),
        check_low_precision,
        r"under autocast: expected \(value, logdet\), got RuntimeError: both inputs should have sa",
    ),
    "a flow on a circle, whose transform names all of ℝⁿ as its domain (NCSF)": (
        of_flow("NCSF", transforms=1, bins=4),
        check_density,
        r"expected a density that integrates to 1, got 0.9\d+ \(is a part of the noise never reach",
    ),
}


@pytest.mark.parametrize("name", ZUKO)
def test_zuko(name):
    zuko = pytest.importorskip("zuko")
    from flowkit.interop.zuko import FromZuko

    make, check, words = ZUKO[name]
    # Their numerical inverses stop at 1e-6 by default, which isn't held against them.
    example = Example(lambda: FromZuko(make(zuko)), (2,), tolerance=1e-5)
    fails(example, check, "FromZuko.*" + words)


@pytest.mark.parametrize("check", [check_pure, check_round_trip, check_logdet, check_extremes])
def test_sound_layers_of_theirs_pass(check):
    """So that it isn't the bridge that fails above."""
    normflows, zuko = pytest.importorskip("normflows"), pytest.importorskip("zuko")
    from flowkit.interop.normflows import FromNormflows
    from flowkit.interop.zuko import FromZuko

    flows = normflows.flows
    check(Example(lambda: FromNormflows(flows.AffineCouplingBlock(net(2, 2))), (3,)))
    check(Example(lambda: FromNormflows(flows.InvertibleAffine(3)), (3,)))
    make = partial(zuko.flows.MaskedAutoregressiveTransform, 3, 2, **SMOOTH)
    check(Example(lambda: FromZuko(make(), conditional=True), (3,), (2,)))
