"""Every elementwise map and every density, held to its word."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch.distributions import constraints

import flowkit.elementwise
from flowkit import (
    MADE,
    MLP,
    Additive,
    Affine,
    Augmented,
    Autoregressive,
    Bernstein,
    BoundedSpline,
    BoxUniform,
    Chain,
    CircularSpline,
    ConditionalNormal,
    ConvNet,
    Coupling,
    CubicRational,
    DeepSigmoid,
    Dequantized,
    Example,
    ExpScale,
    Flow,
    Injector,
    Inverse,
    LogisticMixture,
    Logit,
    MixtureOfGaussians,
    Pointwise,
    RationalQuadraticSpline,
    SigmoidScale,
    SinhArcsinh,
    SoftplusScale,
    Squeeze,
    StandardNormal,
    split,
)
from flowkit.testing import check_elementwise, check_flow

MAPS = [
    Additive(),
    *map(Affine, (ExpScale(), SigmoidScale(), SoftplusScale())),
    RationalQuadraticSpline(4),
    BoundedSpline(4, low=-2.0, high=1.0),
    CircularSpline(4),
    LogisticMixture(3),
    DeepSigmoid(3),
    # Where so much of x itself is left, brackets of the inverse that forget it are far off.
    DeepSigmoid(3, least=0.3),
    Bernstein(5),
    CubicRational(),
    SinhArcsinh(),
]
NET = partial(MLP, hidden=6)
DIGITS = constraints.integer_interval(0, 3)


def coupling(channels=2, **options):
    return Coupling(channels, NET, **options)


def two_levels():
    conv = partial(ConvNet, hidden=4)
    split_off = split(2, Coupling(2, conv), Coupling(4, conv, kept=2))
    return Flow(Chain(Squeeze(), Coupling(4, conv), split_off), StandardNormal((4, 1, 1)))


def whole(flow, noise=None):
    return Dequantized(flow, 4, noise)


DENSITIES = [
    Example(lambda: Flow(coupling(), StandardNormal(2)), (2,), name="normal"),
    Example(
        lambda: Flow(coupling(cond_channels=3), StandardNormal(2)), (2,), (3,), name="conditional"
    ),
    Example(
        lambda: Flow(Inverse(Autoregressive(3, partial(MADE, hidden=6), cond_channels=1))),
        (3,),
        (1,),
        name="inverse autoregressive",
    ),
    Example(two_levels, (1, 2, 2), name="levels"),
    Example(lambda: Flow(coupling(), MixtureOfGaussians(2, 3, spread=2.0)), (2,), name="mixture"),
    Example(
        lambda: Flow(Pointwise(2, BoundedSpline(4)), BoxUniform(0.0, 1.0, 2)),
        (2,),
        name="box",
        domain=constraints.unit_interval,
    ),
    Example(
        lambda: Flow(coupling(), ConditionalNormal(NET, 2, cond_channels=3)),
        (2,),
        (3,),
        name="conditional normal",
    ),
    Example(lambda: Augmented(Flow(coupling(3)), 2), (1,), name="augmented"),
    Example(
        lambda: Augmented(Flow(coupling(3)), 2, Flow(Injector(2, NET, cond_channels=1))),
        (1,),
        name="augmented, learned",
    ),
    Example(
        lambda: whole(Flow(Chain(Logit(alpha=0.0), coupling(cond_channels=1)))),
        (2,),
        (1,),
        name="dequantized",
        domain=DIGITS,
    ),
    Example(
        lambda: whole(
            Flow(Chain(Logit(alpha=0.0), coupling())), Flow(Injector(2, NET, cond_channels=2))
        ),
        (2,),
        name="dequantized, learned",
        domain=DIGITS,
    ),
]


@pytest.mark.parametrize("how", MAPS, ids=lambda how: repr(how))
def test_a_map_keeps_its_word(how):
    check_elementwise(how)


def test_every_map_is_here():
    exported = {getattr(flowkit.elementwise, name) for name in flowkit.elementwise.__all__}
    maps = {kind for kind in exported if isinstance(kind, type) and hasattr(kind, "inverse")}
    assert {type(how) for how in MAPS} == {kind for kind in maps if kind.__name__ != "Elementwise"}


@pytest.mark.parametrize("example", DENSITIES, ids=lambda example: example.name)
def test_a_density_keeps_its_word(example):
    check_flow(example)


@dataclass(frozen=True)
class Wrong:
    """An affine map with one thing wrong."""

    what: str
    count = 2

    def forward(self, x, params):
        y, log_slope = Affine().forward(x, params)
        if self.what == "log-slope":
            return y, 2 * log_slope
        if self.what == "decreasing":
            return -y, log_slope
        if self.what == "shape":
            return y, log_slope.sum((1, 2))
        if self.what == "neighbours":
            return y + 0.01 * (x.roll(1, 2) - x), log_slope
        if self.what == "away":
            return y + 3, log_slope
        if self.what == "overflows":
            return y + params[:, 0].exp().sub(1), log_slope
        return y, log_slope

    def inverse(self, y, params):
        x, log_slope = Affine().inverse(y, params)
        return (x + 1e-3, log_slope) if self.what == "inverse" else (x, log_slope)


@dataclass(frozen=True)
class Idle(Affine):
    """An affine map with a number too many."""

    count = 3  # pyright: ignore[reportAssignmentType]

    def forward(self, x, params):
        return super().forward(x, params[:, :2])

    def inverse(self, y, params):
        return super().inverse(y, params[:, :2])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Wrong("log-slope"), "forward: expected the log-slope that autograd finds"),
        (Wrong("decreasing"), "forward: expected it to increase, got a slope of -"),
        (
            Wrong("shape"),
            r"forward: expected a log-slope for each element, shape \(2, 3, 40\)",
        ),
        (Wrong("neighbours"), "forward: expected none to change with one of x but"),
        (Wrong("inverse"), "inverse: expected to undo forward"),
        (
            Idle(),
            r"forward: expected each of 3 numbers to matter, got the same whatever number \[2\] is",
        ),
    ],
    ids=repr,
)
def test_a_wrong_map_is_found(how, message):
    with pytest.raises(AssertionError, match=f"^{type(how).__name__}.{message}"):
        check_elementwise(how)


class Mistaken(Flow):
    """A flow with one thing wrong, over two numbers."""

    def __init__(self, what):
        super().__init__(coupling(cond_channels=3), StandardNormal(2))
        self.what = what

    def log_prob(self, x, cond=None):
        if self.what == "condition accepted" and cond is None:
            cond = torch.zeros(len(x), 3).to(x)
        found = super().log_prob(x, cond)
        if self.what == "constant":
            return found + 0.1
        if self.what == "batch":
            return found - found.mean()
        if self.what == "shape":
            return found[:, None]
        return found

    def sample(self, cond=None, *, num_samples=None, shape=None, **options):
        x = super().sample(cond, num_samples=num_samples, shape=shape, **options)
        if self.what == "spread":
            return 0.8 * x
        if self.what == "precision":
            return x.float()
        return x.squeeze(0) if self.what == "axes" and num_samples == 3 else x

    def given(self, cond=None, *, shape=None):
        other = cond + 1 if self.what == "given" else cond  # pyright: ignore[reportOperatorIssue]
        return super().given(other, shape=shape)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("constant", "log_prob: expected probabilities that sum to 1, got 1.09"),
        ("batch", "log_prob: expected that of the first sample as if it were alone"),
        ("shape", r"log_prob: expected a number for each sample \(1,\), got \(1, 1\)"),
        ("spread", "sample: expected samples of the density that it says, a mean sine of number"),
        ("precision", "sample, in torch.float64: expected samples in torch.float64, got"),
        ("given", r"given\(cond\).log_prob: expected that of log_prob"),
        ("condition accepted", "log_prob: expected a missing condition to be refused"),
    ],
)
def test_a_wrong_density_is_found(what, message):
    example = replace(DENSITIES[1], build=lambda: Mistaken(what), name="")
    with pytest.raises(AssertionError, match=f"^Mistaken.{message}"):
        check_flow(example)


def test_what_is_no_map_and_no_density_is_refused():
    with pytest.raises(TypeError, match=r"^check_elementwise: .*the class Affine"):
        check_elementwise(Affine)
    with pytest.raises(TypeError, match=r"^check_flow: expected a density, got Pointwise"):
        check_flow(Example(lambda: Pointwise(2), (2,)))
