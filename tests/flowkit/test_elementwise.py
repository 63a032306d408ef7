"""Elementwise maps: against other libraries, at their edges, and found numerically."""

import math
from dataclasses import dataclass, is_dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import distributions as td
from torch.nn import functional as F

import flowkit.elementwise
from flowkit import (
    MADE,
    MLP,
    Additive,
    Affine,
    Autoregressive,
    Bernstein,
    BoundedSpline,
    CircularSpline,
    Coupling,
    CubicRational,
    DeepSigmoid,
    Example,
    ExpScale,
    Injector,
    LogisticMixture,
    Pointwise,
    RationalQuadraticSpline,
    SinhArcsinh,
    apply,
    solve,
)
from flowkit.ops.coupling.scale import scale_and_log
from flowkit.testing.checks import check_logdet, check_round_trip

MAPS = [
    Additive(),
    Affine(),
    Affine(ExpScale(0.5)),
    RationalQuadraticSpline(),
    RationalQuadraticSpline(bins=3, bound=1.5),
    BoundedSpline(),
    BoundedSpline(bins=3, low=-4.0, high=2.0),
    CircularSpline(),
    CircularSpline(bins=3, low=0.0, high=1.0),
    LogisticMixture(),
    LogisticMixture(components=1),
    DeepSigmoid(),
    Bernstein(),
    Bernstein(degree=1, bound=1.0),
    CubicRational(),
    SinhArcsinh(),
]
CURVES = [LogisticMixture(), DeepSigmoid(), LogisticMixture(5), DeepSigmoid(2)]


def test_every_map_is_here_and_among_the_examples():
    exported = {getattr(flowkit.elementwise, name) for name in flowkit.elementwise.__all__}
    maps = {one for one in exported if isinstance(one, type) and is_dataclass(one)}
    assert maps == {type(how) for how in MAPS}
    checked = {type(example.build().how) for example in Pointwise.examples()}
    assert maps - {Additive} <= checked


def inputs(how, batch=4, channels=3, places=(5,), seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    x = scale * torch.randn(batch, channels, *places, **options)
    return x, torch.randn(batch, how.count, channels, *places, **options)


@pytest.mark.parametrize("how", MAPS)
def test_it_is_increasing_with_the_slope_that_it_says(how):
    x, params = inputs(how)
    x.requires_grad_()
    y, log_slope = how.forward(x, params)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (slope > 0).all()
    torch.testing.assert_close(log_slope, slope.log(), rtol=1e-9, atol=1e-9)
    back, log_back = how.inverse(y, params)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_back, -log_slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("how", MAPS)
def test_second_derivatives_are_finite_at_the_edges_and_far_away(how, inverse):
    """What a penalty on the score takes."""
    ends = [-5.0, 5.0, -4.0, 2.0, 0.0, 1.0, -1.5, 1.5, 30.0, -1e4]
    x = torch.tensor([ends], dtype=torch.float64, requires_grad=True)
    params = torch.randn(1, how.count, len(ends), dtype=torch.float64).requires_grad_()
    y, log_slope = (how.inverse if inverse else how.forward)(x, params)
    once = torch.autograd.grad((y.sin() + log_slope).sum(), (x, params), create_graph=True)
    if any(one.requires_grad for one in once):
        twice = torch.autograd.grad(sum(one.sin().sum() for one in once), (x, params))
        assert all(one.isfinite().all() for one in twice)


EVERYWHERE_THE_SAME = [how for how in MAPS if not isinstance(how, LogisticMixture | DeepSigmoid)]


@pytest.mark.parametrize(
    "how",
    [*EVERYWHERE_THE_SAME, LogisticMixture(1), LogisticMixture(spread=0), DeepSigmoid(spread=0)],
)
def test_numbers_of_zero_are_the_identity(how):
    x, params = inputs(how)
    y, log_slope = how.forward(x, torch.zeros_like(params))
    torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-12)


def test_additive_shifts():
    x, params = inputs(Additive())
    y, log_slope = Additive().forward(x, params)
    assert y.equal(x + params[:, 0])
    assert not log_slope.any()


@pytest.mark.parametrize("how", CURVES)
def test_curves_start_near_the_identity_and_come_apart(how):
    x = torch.linspace(-9, 9, 400, dtype=torch.float64).reshape(-1, 1)
    params = torch.zeros(400, how.count, 1, dtype=torch.float64, requires_grad=True)
    y, log_slope = how.forward(x, params)
    # As the docstrings have it, and the shift that such slopes add up to.
    assert -0.09 < log_slope.min() < log_slope.max() < 1e-9
    assert (y - x).abs().max() < 0.2
    # A Gaussian loss of some narrow and lopsided data: no unit learns the same as another.
    (gradient,) = torch.autograd.grad((y**2 / 2 - log_slope)[150:230].sum(), params)
    learned = gradient.sum(0)[:, 0]
    count = how.components if isinstance(how, LogisticMixture) else how.units
    for numbers in learned[: 3 * count].split(count):
        apart = (numbers[:, None] - numbers).abs() + torch.eye(count, dtype=torch.float64)
        assert apart.min() > 1e-3 * numbers.abs().max()


def nflows_spline(how, x, params, inverse):
    """nflows' function wants the numbers last, and slopes whose softplus it takes itself."""
    splines = pytest.importorskip("nflows.transforms.splines")
    numbers = params.movedim(1, -1)
    widths, heights, slopes = numbers.split([how.bins, how.bins, how.bins - 1], dim=-1)
    # Ours are 1 where the raw number is 0; theirs where it is softplus⁻¹(1 - least).
    one = torch.log(torch.expm1(torch.tensor(1 - how.least, dtype=torch.float64)))
    return splines.unconstrained_rational_quadratic_spline(
        x,
        widths,
        heights,
        slopes + one,
        inverse=inverse,
        tails="linear",
        tail_bound=how.bound,
        min_bin_width=how.least,
        min_bin_height=how.least,
        min_derivative=how.least,
    )


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("how", [m for m in MAPS if isinstance(m, RationalQuadraticSpline)])
def test_spline_is_nflows_spline(how, inverse):
    x, params = inputs(how)
    expected, expected_slope = nflows_spline(how, x, params, inverse)
    got, slope = (how.inverse if inverse else how.forward)(x, params)
    # Two orders of the same float64 operations.
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("inverse", [False, True])
def test_bounded_spline_is_nflows_spline(inverse):
    splines = pytest.importorskip("nflows.transforms.splines.rational_quadratic")
    how = BoundedSpline(bins=5, low=-1.0, high=3.0)
    _, params = inputs(how)
    x = 4 * torch.rand(4, 3, 5, dtype=torch.float64) - 1
    widths, heights, slopes = params.movedim(1, -1).split([5, 5, 6], dim=-1)
    expected, expected_slope = splines.rational_quadratic_spline(
        x,
        widths,
        heights,
        slopes + math.log(math.expm1(1 - how.least)),
        inverse=inverse,
        left=how.low,
        right=how.high,
        bottom=how.low,
        top=how.high,
    )
    got, slope = (how.inverse if inverse else how.forward)(x, params)
    # Two orders of the same float64 operations.
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("inverse", [False, True])
def test_circular_spline_is_normflows_spline(inverse):
    splines = pytest.importorskip("normflows.utils.splines")
    how = CircularSpline(bins=5, low=-2.0, high=2.0)
    _, params = inputs(how)
    x = 4 * torch.rand(4, 3, 5, dtype=torch.float64) - 2
    widths, heights, slopes = params.movedim(1, -1).chunk(3, dim=-1)
    expected, expected_slope = splines.unconstrained_rational_quadratic_spline(
        x,
        widths,
        heights,
        slopes + math.log(math.expm1(1 - how.least)),
        inverse=inverse,
        tails="circular",
        tail_bound=2.0,
    )
    got, slope = (how.inverse if inverse else how.forward)(x, params)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-8, atol=1e-8)


def test_circular_spline_keeps_turns():
    how = CircularSpline(bins=4, low=1.0, high=4.0)
    x, params = inputs(how)
    y, log_slope = how.forward(x, params)
    for turns in (-2, 1, 1000):
        further, same = how.forward(x + 3 * turns, params)
        torch.testing.assert_close(further, y + 3 * turns, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(same, log_slope, rtol=0, atol=1e-8)
    ends = [torch.full_like(x, end) for end in (1.0, 4.0 - 1e-12)]
    (low, slope_low), (high, slope_high) = (how.forward(end, params) for end in ends)
    torch.testing.assert_close(low, ends[0])
    torch.testing.assert_close(high, ends[1])
    torch.testing.assert_close(slope_low, slope_high, rtol=0, atol=1e-6)


def test_bounded_spline_maps_its_interval_onto_itself_and_goes_straight_on():
    how = BoundedSpline(bins=4, low=-1.0, high=3.0)
    x, params = inputs(how)
    inside = 4 * torch.rand_like(x) - 1
    y, _ = how.forward(inside, params)
    assert ((y > -1) & (y < 3)).all()
    for end, out in ((-1.0, -1), (3.0, 1)):
        at = torch.full_like(x, end)
        value, log_slope = how.forward(at, params)
        torch.testing.assert_close(value, at)
        beyond, log_beyond = how.forward(at + 2 * out, params)
        torch.testing.assert_close(beyond, end + 2 * out * log_slope.exp())
        torch.testing.assert_close(log_beyond, log_slope)
        _, just_inside = how.forward(at - 1e-12 * out, params)
        # In bins as narrow as 4e-3 a slope may change by 1e3 for each unit.
        torch.testing.assert_close(just_inside, log_slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("sign", [-1, 1])
def test_beyond_a_bounded_spline_both_ways_are_one_line(sign):
    """Also of bins that bend so sharply at the end that rounding would find another slope."""
    how = BoundedSpline()
    torch.manual_seed(0)
    params = 10 * torch.randn(1, how.count, 2000)
    x = 0.5 + sign * (0.6 + 9 * torch.rand(1, 2000))
    y, log_slope = how.forward(x, params)
    back, log_back = how.inverse(y, params)
    assert log_back.equal(-log_slope)
    # y has the rounding of the end, 6e-8, which slopes as small as 1e-3 make 6e-5.
    torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(
    "how", [BoundedSpline(), BoundedSpline(low=-3.0, high=5.0), CircularSpline()], ids=str
)
def test_nothing_inside_leaves_by_rounding(how, inverse):
    """Where a uniform base has density 0: x near the ends, in float32, of many splines."""
    torch.manual_seed(0)
    low, high = torch.tensor([how.low, how.high])
    near = 1e-6 * torch.rand(500, 50)
    x = torch.cat([low + near, high - near, low.expand(1, 50), high.expand(1, 50)])
    x = x.clamp(low, high)
    params = (1.5 * torch.randn(1, how.count, 50)).expand(len(x), -1, -1)
    y, _ = (how.inverse if inverse else how.forward)(x, params)
    assert y.min() >= low
    assert y.max() <= high


def mixture_of(logits, means, widths):
    """torch.distributions' mixture of logistics, its components last."""
    uniform = td.Uniform(torch.zeros_like(means), torch.ones_like(means))
    maps = [td.SigmoidTransform().inv, td.AffineTransform(means, widths)]
    components = td.TransformedDistribution(uniform, maps)
    return td.MixtureSameFamily(td.Categorical(logits=logits), components, validate_args=False)


def test_logistic_mixture_is_the_distribution_function_of_torch():
    how = LogisticMixture(components=4, affine=Affine(ExpScale(1.0)), spread=0.5)
    x, params = inputs(how)
    logits, means, raw, affine = params.split([4, 4, 4, 2], dim=1)
    places = torch.tensor([-0.375, -0.125, 0.125, 0.375], dtype=torch.float64).reshape(4, 1, 1)
    widths = (5 * torch.tanh(raw / 5)).exp()
    mixture = mixture_of(*(part.movedim(1, -1) for part in (logits, means + places, widths)))
    below = mixture.cdf(x)
    curve = 0.999 * below.logit() + 0.001 * x
    scale = torch.tanh(affine[:, 1]).exp()
    y, log_slope = how.forward(x, params)
    # A distribution function this near 1 leaves few digits of 1 minus it.
    some = (below > 1e-4) & (below < 1 - 1e-4)
    assert some.double().mean() > 0.7
    torch.testing.assert_close(y[some], ((curve + affine[:, 0]) * scale)[some])
    slope = 0.999 * mixture.log_prob(x).exp() / (below * (1 - below)) + 0.001
    torch.testing.assert_close(log_slope[some], (slope * scale).log()[some])


def test_deep_sigmoid_is_the_papers_equation():
    how = DeepSigmoid(units=3, spread=0.0, least=1e-6)
    x, params = inputs(how)
    w, a, b = params.chunk(3, dim=1)
    # softplus⁻¹(1), which makes a = 1 of a raw 0.
    a = F.softplus(a + math.log(math.expm1(1)))
    expected = (w.softmax(1) * torch.sigmoid(a * x[:, None] + b)).sum(1).logit()
    y, _ = how.forward(x, params)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)  # `least`, and logit's digits


def test_bernstein_polynomial_is_scipys():
    interpolate = pytest.importorskip("scipy.interpolate")
    how = Bernstein(degree=7, bound=3.0)
    _, params = inputs(how, 1, 1, ())
    x = torch.linspace(-3, 3, 50, dtype=torch.float64).reshape(50, 1)
    y, log_slope = how.forward(x, params.expand(50, -1, -1))
    middle, raw = params[0, 0, 0].item(), params[0, 1:, 0].numpy()
    steps = np.exp(2 * np.tanh(raw / 2)) * 6 / 7
    theta = np.concatenate([[0], np.cumsum(steps)])
    theta += middle - theta[-1] / 2
    polynomial = interpolate.BPoly(theta[:, None], [-3, 3])
    np.testing.assert_allclose(y[:, 0], polynomial(x[:, 0]), rtol=1e-12, atol=1e-12)
    slopes = polynomial.derivative()(x[:, 0])
    np.testing.assert_allclose(log_slope[:, 0].exp(), slopes, rtol=1e-11)
    far, log_far = how.forward(x[-1:] + 4, params)
    np.testing.assert_allclose(far.item(), theta[-1] + 4 * slopes[-1], rtol=1e-12)
    np.testing.assert_allclose(log_far.exp().item(), slopes[-1], rtol=1e-12)


def test_cubic_rational_is_inverted_by_the_root_of_its_cubic():
    how = CubicRational()
    y, params = inputs(how, 6, 2, (), scale=5.0)
    x, _ = how.inverse(y, 3 * params)
    alpha = (1 - how.least) * (9 / (1 + 8 * (-3 * params[:, 0]).exp()) - 1)
    beta = (2 * torch.tanh(3 * params[:, 1] / 2)).exp()
    w = y - 3 * params[:, 2]
    for index in np.ndindex(6, 2):
        a, b, c = alpha[index].item(), beta[index].item(), w[index].item()
        roots = np.roots([b, -b * c, 1 + a, -c])
        (real,) = roots[np.abs(roots.imag) < 1e-9].real
        # numpy's roots are eigenvalues.
        assert (x - 3 * params[:, 2])[index].item() == pytest.approx(real, rel=1e-8, abs=1e-8)


def test_cubic_rational_stays_increasing_to_its_bounds():
    how = CubicRational(least=0.01)
    x = torch.linspace(-20, 20, 20001, dtype=torch.float64).reshape(-1, 1)
    for raw, least, greatest in ((-1e3, 0.01, None), (1e3, 0.01, 1 + 8 * 0.99)):
        params = torch.tensor([raw, 0.0, 0.0], dtype=torch.float64).reshape(1, 3, 1)
        slope = how.forward(x, params.expand(20001, -1, -1))[1].exp()
        assert slope.min().item() == pytest.approx(least, rel=1e-4)
        assert greatest is None or slope.max().item() == pytest.approx(greatest, rel=1e-9)


def test_sinh_arcsinh_is_johnsons_with_another_end():
    """asinh(y) is normal where x has Johnson's S_U distribution: asinh(y) = δ·asinh(x) - ε."""
    stats = pytest.importorskip("scipy.stats")
    how = SinhArcsinh(skew=2.0)
    x, params = inputs(how)
    epsilon, delta = 2 * torch.tanh(params[:, 0] / 2), torch.tanh(params[:, 1]).exp()
    y, _ = how.forward(x, params)
    below = stats.johnsonsu.cdf(x, -epsilon, delta)
    some = (below > 1e-6) & (below < 1 - 1e-6)
    assert some.mean() > 0.7
    expected = np.sinh(stats.norm.ppf(below))
    np.testing.assert_allclose(y[some], expected[some], rtol=1e-8, atol=1e-8)


FAR = [0.0, 1.0, -1.0, math.pi, 5.0, -5.0, 1e-300, 30.0, 1e3, 1e6, -1e6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("how", MAPS)
def test_far_away_and_with_large_numbers_all_is_finite(how, size, dtype):
    x = torch.tensor(FAR, dtype=dtype).reshape(-1, 1).requires_grad_()
    _, params = inputs(how, len(FAR), 1, ())
    params = (size * params).to(dtype).requires_grad_()
    for direction in (how.forward, how.inverse):
        y, log_slope = direction(x, params)
        assert y.isfinite().all()
        assert log_slope.isfinite().all()
        loss = y.sum() + log_slope.sum()
        grads = torch.autograd.grad(loss, (x, params), materialize_grads=True)
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("how", [how for how in MAPS if type(how) not in (Additive, Affine)])
@pytest.mark.parametrize(
    "family",
    [
        partial(Coupling, 2, partial(MLP, hidden=6)),
        partial(Autoregressive, 2, partial(MADE, hidden=8)),
        partial(Injector, 2, partial(MLP, hidden=6)),
    ],
    ids=["Coupling", "Autoregressive", "Injector"],
)
def test_every_map_in_every_family(family, how):
    example = Example(lambda: family(how, cond_channels=2), (2,), (2,))
    check_logdet(example)
    check_round_trip(example)


@pytest.mark.parametrize("where", [0.0, 5.0, -5.0, 5.000001, -1e6, 1e6, 1e-300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spline_at_edges_and_far_away(where, dtype):
    how = RationalQuadraticSpline()
    _, params = inputs(how, 1, 1, ())
    x = torch.full((1, 1), where, dtype=dtype, requires_grad=True)
    params = params.to(dtype).requires_grad_()
    for direction in (how.forward, how.inverse):
        y, log_slope = direction(x, params)
        assert y.isfinite().all()
        if abs(where) >= 5:
            assert y.equal(x)
            assert not log_slope.any()
        grads = torch.autograd.grad(y.sum() + log_slope.sum(), (x, params), allow_unused=True)
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("size", [30.0, 1e3])
def test_spline_of_extreme_numbers_can_still_be_inverted(size):
    how = RationalQuadraticSpline()
    x, params = inputs(how)
    y, log_slope = how.forward(x, size * params)
    back, _ = how.inverse(y, size * params)
    assert log_slope.isfinite().all()
    # Slopes down to `least` and bins of a thousandth of the interval: the conditioning is up to
    # 1e6 times float64's rounding of a bound of 5, and squared in a bin whose ends are both flat.
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_one_curve_is_a_straight_line(inverse):
    """logit(sigmoid(a·x + b)) = a·x + b, and the ε that is left to x is of the map's own slope."""
    how = DeepSigmoid(1, rate=ExpScale(3.0), spread=0.0, least=0.2)
    x, params = inputs(how)
    rate, offset = scale_and_log(how.rate, params[:, 1])[0], params[:, 2]
    expected = 0.8 * (rate * x + offset) + 0.2 * x
    if inverse:
        torch.testing.assert_close(how.inverse(expected, params)[0], x)
    else:
        torch.testing.assert_close(how.forward(x, params)[0], expected)


def test_nan_stays_nan():
    for how in MAPS:
        x, params = inputs(how)
        x[0, 0] = float("nan")
        for direction in (how.forward, how.inverse):
            y, _ = direction(x, params)
            assert y[0, 0].isnan().all()
            assert y[1:].isfinite().all()


@pytest.mark.parametrize(
    "options",
    [{"bins": 1}, {"bound": 0.0}, {"bound": math.inf}, {"least": 0.0}, {"least": 0.2, "bins": 5}],
)
def test_impossible_splines_are_refused(options):
    with pytest.raises(ValueError, match="RationalQuadraticSpline: expected "):
        RationalQuadraticSpline(**options)


@pytest.mark.parametrize(
    "build",
    [
        partial(BoundedSpline, bins=1),
        partial(BoundedSpline, low=1.0),
        partial(BoundedSpline, high=math.inf),
        partial(CircularSpline, least=0.5),
        partial(RationalQuadraticSpline, 4.5),
        partial(BoundedSpline, 4.5),
        partial(CircularSpline, "4"),
        partial(LogisticMixture, 0),
        partial(LogisticMixture, 1.5),
        partial(DeepSigmoid, 2.0),
        partial(Bernstein, 2.5),
        partial(LogisticMixture, least=0.0),
        partial(DeepSigmoid, spread=-1.0),
        partial(DeepSigmoid, spread=math.nan),
        partial(Bernstein, 0),
        partial(Bernstein, 65),
        partial(Bernstein, bound=math.inf),
        partial(CubicRational, least=1.0),
        partial(SinhArcsinh, skew=0.0),
    ],
)
def test_impossible_maps_are_refused(build):
    with pytest.raises((ValueError, TypeError), match=f"{build.func.__name__}: expected .*, got "):
        build()


@pytest.mark.parametrize("how", MAPS)
@pytest.mark.parametrize("inverse", [False, True])
def test_apply_keeps_the_first_channels_and_maps_the_last(how, inverse):
    x, params = inputs(how)
    params = params[:, :, 1:]
    y, logdet = apply(how, x, params.flatten(1, 2), inverse=inverse)
    changed, log_slope = (how.inverse if inverse else how.forward)(x[:, 1:], params)
    assert y[:, :1].equal(x[:, :1])
    torch.testing.assert_close(y[:, 1:], changed)
    torch.testing.assert_close(logdet, log_slope.sum((1, 2)))


@pytest.mark.parametrize("how", [Additive(), RationalQuadraticSpline(4)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_apply_refuses_numbers_that_do_not_fit(how, count):
    x = torch.zeros(2, 3, 4)
    params = torch.zeros(2, how.count * count + (how.count > 1), 4)
    with pytest.raises(ValueError, match=r"expected \d+ numbers for each element"):
        apply(how, x, params) if how.count > 1 or count != 1 else apply(how, x, params[:1])


def test_half_precision_is_read_as_float32():
    x, params = inputs(RationalQuadraticSpline())
    y, logdet = apply(RationalQuadraticSpline(), x.bfloat16(), params.flatten(1, 2).bfloat16())
    assert y.dtype == logdet.dtype == torch.float32


@dataclass(frozen=True)
class SoftplusOfCubic:
    """y = log(1 + e^x) + a·x³ with a = softplus(raw): no inverse in closed form."""

    count = 1

    def forward(self, x, params):
        a = F.softplus(params[:, 0])
        return F.softplus(x) + a * x**3, (torch.sigmoid(x) + 3 * a * x**2).log()

    def inverse(self, y, params):
        bound = torch.full_like(y, 50.0)
        return solve(lambda x: self.forward(x, params), y, -bound, bound)


def test_solve_inverts():
    how = SoftplusOfCubic()
    x, params = inputs(how)
    y, log_slope = how.forward(x, params)
    back, log_back = how.inverse(y, params)
    # Bisection of 100 to 60 halvings is below float64's rounding of the values.
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_back, -log_slope, rtol=1e-8, atol=1e-8)


def test_the_gradient_of_solve_is_the_implicit_one():
    how = SoftplusOfCubic()
    x, params = inputs(how, 2, 1, ())
    y = how.forward(x, params)[0].detach().requires_grad_()
    params.requires_grad_()
    torch.autograd.gradcheck(how.inverse, (y, params), fast_mode=True)
    torch.autograd.gradgradcheck(how.inverse, (y, params), fast_mode=True)
    a = F.softplus(params[:, 0])
    slope = torch.sigmoid(x) + 3 * a * x**2
    by_y, by_params = torch.autograd.grad(how.inverse(y, params)[0].sum(), (y, params))
    torch.testing.assert_close(by_y, 1 / slope)
    torch.testing.assert_close(
        by_params[:, 0], -(x**3) * torch.sigmoid(params[:, 0]) / slope, rtol=1e-6, atol=1e-9
    )


def test_pointwise_takes_a_map_of_ones_own():
    layer = Pointwise(3, SoftplusOfCubic()).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    y, logdet = layer(x)
    torch.testing.assert_close(layer.inverse(y)[0], x)
    (y.sum() + logdet.sum()).backward()
    assert layer.numbers.grad.all()


@pytest.mark.parametrize("how", MAPS)
def test_pointwise_has_numbers_of_each_channel(how):
    layer = Pointwise(3, how).double()
    torch.nn.init.normal_(layer.numbers)
    x, _ = inputs(how)
    params = layer.numbers.reshape(1, how.count, 3, 1).expand(4, -1, -1, 5)
    expected, log_slope = how.forward(x, params)
    y, logdet = layer(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(logdet, log_slope.sum((1, 2)))


def test_pointwise_with_numbers_that_are_given():
    x = torch.randn(4, 2, 5)
    for shape in ((4,), (1, 4), (4, 4), (2, 4), (1, 4, 5)):
        layer = Pointwise(2, numbers=torch.randn(shape))
        assert not list(layer.parameters())
        torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected 2 numbers for each of 2 .* \(1, 3\)"):
        Pointwise(2, numbers=torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"expected 2 numbers for each of 2 .* \(\)"):
        Pointwise(2, numbers=torch.zeros(()))
    with pytest.raises(TypeError, match="expected numbers as a tensor, got list"):
        Pointwise(2, numbers=[0.0, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="expected a multiple of 3 samples"):
        Pointwise(2, numbers=torch.zeros(3, 4))(x)
