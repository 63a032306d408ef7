"""Elementwise maps: against other libraries, at their edges, and found numerically."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from flowkit import Additive, Affine, ExpScale, Pointwise, RationalQuadraticSpline, apply, solve

MAPS = [
    Additive(),
    Affine(),
    Affine(ExpScale(0.5)),
    RationalQuadraticSpline(),
    RationalQuadraticSpline(bins=3, bound=1.5),
]


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


@pytest.mark.parametrize("how", MAPS)
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


def test_nan_stays_nan():
    for how in MAPS:
        x, params = inputs(how)
        x[0, 0] = float("nan")
        for direction in (how.forward, how.inverse):
            y, _ = direction(x, params)
            assert y[0, 0].isnan().all()
            assert y[1:].isfinite().all()


@pytest.mark.parametrize(
    "options", [{"bins": 1}, {"bound": 0.0}, {"least": 0.0}, {"least": 0.2, "bins": 5}]
)
def test_impossible_splines_are_refused(options):
    with pytest.raises(ValueError, match="RationalQuadraticSpline: expected bins >= 2, bound > 0"):
        RationalQuadraticSpline(**options)


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
    with pytest.raises(ValueError, match="expected a multiple of 3 samples"):
        Pointwise(2, numbers=torch.zeros(3, 4))(x)
